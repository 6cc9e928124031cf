"""Facts that an earlier version said on other subjects are moved to where they are said today.

Only the last word on a thing is moved, for a stream of facts keeps no other. What is said there already stands.
"""

import base64
from collections.abc import Awaitable, Callable
from typing import Any

from shared.events import Envelope
from shared.events.earlier import OUTDATED, today

Ask = Callable[[str, dict[str, Any]], Awaitable[dict[str, Any]]]
"""Asks JetStream's API; the answer may hold an `error`."""
Publish = Callable[[str, bytes, dict[str, str]], Awaitable[dict[str, Any]]]

_NEWER_IS_THERE = 10071


class NotMoved(Exception):
    """The server did not take a moved message; nothing was removed."""


async def outdated(ask: Ask, stream: str) -> list[str]:
    """The subjects of a stream on which nobody says anything any more."""
    found: list[str] = []
    for pattern in OUTDATED.get(stream, ()):
        subjects: dict[str, int] = {}
        while True:
            answer = await ask(f"STREAM.INFO.{stream}", {"subjects_filter": pattern, "offset": len(subjects)})
            page: dict[str, int] = answer.get("state", {}).get("subjects") or {}
            subjects |= page
            if not page or len(subjects) >= answer.get("total", 0):
                break
        found += sorted(subjects)
    return found


async def move(ask: Ask, publish: Publish, stream: str, subject: str) -> bool:
    """Say the last word on a subject where it belongs today, and remove it here; False where it belongs nowhere.

    In this order, so that whoever is interrupted does it again. Raises NotMoved.
    """
    stored = await ask(f"STREAM.MSG.GET.{stream}", {"last_by_subj": subject})
    if "message" not in stored:
        return True
    content = base64.b64decode(stored["message"].get("data", ""))
    belongs, moved = today(subject, content)
    if belongs == subject:
        return False
    # Not the event's own id: the stream may remember that one and take this for a twin.
    headers = {
        "Nats-Msg-Id": f"moved.{Envelope.parse(moved).id}",
        "Nats-Expected-Last-Subject-Sequence": "0",
    }
    error = (await publish(belongs, moved, headers)).get("error")
    if error and error.get("err_code") != _NEWER_IS_THERE:
        raise NotMoved(f"{subject}: {error.get('description')}")
    purged = await ask(f"STREAM.PURGE.{stream}", {"filter": subject})
    if "error" in purged:
        raise NotMoved(f"{subject}: {purged['error'].get('description')}")
    return True
