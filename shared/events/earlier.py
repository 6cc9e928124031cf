"""What earlier versions said, brought to today's form: contracts only grow, so whatever was said stays readable.

The provisioner moves what lies on a stream, and the relay what still lay in an outbox when its service was upgraded.
"""

from typing import Final

import orjson

from shared.events.states import PolicyState, owner_of

OUTDATED: Final = {"STATE": ("state.policy.*.*.*",)}
"""Subjects on which nothing is said any more, by stream. Version 1 of `state.policy` did not name the owner."""

_POLICY: Final = "state.policy."
_TOKENS_OF_OLD: Final = 5


def is_outdated(subject: str) -> bool:
    """Whether nobody says anything there any more."""
    return subject.startswith(_POLICY) and subject.count(".") + 1 == _TOKENS_OF_OLD


def today(subject: str, content: bytes) -> tuple[str, bytes]:
    """The same message with its subject as it would be said today; as it is where nothing has changed.

    What cannot be brought to today's form stays as it is too, and is refused by who hears it.
    """
    if not is_outdated(subject):
        return subject, content
    try:
        envelope = orjson.loads(content)
        policy = PolicyState.model_validate(envelope["data"])
        envelope["subject"] = policy.subject()
        envelope["source"] = f"/services/{owner_of(policy.full_name)}"
        envelope["dataschema"] = f"/schemas/{policy.topic}.v{policy.schema_version}.schema.json"
        return envelope["subject"], orjson.dumps(envelope)
    except (ValueError, KeyError, TypeError):
        return subject, content
