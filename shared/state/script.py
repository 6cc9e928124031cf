"""A Step as the keys and arguments of the script that does it in Valkey."""

from collections.abc import Sequence
from importlib.resources import files
from typing import assert_never

from shared.state.face import REQUEST_SECONDS
from shared.state.keys import Keys
from shared.state.step import (
    Add,
    Check,
    Drop,
    DropField,
    FieldAtMost,
    FieldIs,
    Index,
    IsEmpty,
    IsMember,
    NotMember,
    Put,
    PutField,
    ScoreIs,
    Stamp,
    Step,
    Unindex,
    ValueIs,
    Write,
)

Argument = str | bytes | int

STEP = files("shared.state").joinpath("step.lua").read_text("utf-8")

ACQUIRE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
return 1
"""

RELEASE = """
if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end
return 1
"""

REMOVE = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[2])
return 1
"""


DRAIN = """
local holder = redis.call('GET', KEYS[1])
if holder ~= ARGV[1] and (holder or ARGV[3] ~= '0') then return false end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if ARGV[3] ~= '0' then redis.call('XTRIM', KEYS[2], 'MINID', '=', ARGV[3]) end
return redis.call('XRANGE', KEYS[2], '-', '+', 'COUNT', ARGV[4])
"""


def wake_channel(service: str) -> str:
    """Where a service's lanes are called out when they get their first entry."""
    return f"entrepot:{service}:wake"


def lease_of(lane: str) -> str:
    """The key of a lane's lease, in the lane's own slot."""
    return f"{lane}:lease"


class StepArguments:
    """Collects what the script is called with; each key is named once."""

    def __init__(self, keys: Keys, step: Step, lane_limit: int) -> None:
        """`lane_limit` is how many entries a lane may hold before it refuses more."""
        at = step.partition
        fixed = (
            keys.at(at, "request", step.request),
            keys.at(at, "generations"),
            keys.at(at, "sequences"),
            keys.at(at, "lanes"),
        )
        self._numbers = {key: number for number, key in enumerate(fixed, 1)}
        checks = [_checked(check) for check in step.checks]
        writes = [_written(write) for write in step.writes]
        self.arguments: list[Argument] = [step.counter, step.answer, REQUEST_SECONDS, lane_limit]
        self.arguments.append(wake_channel(keys.service))
        self._add([(code, self._key(key), *rest) for code, key, *rest in checks])
        self._add([(code, self._key(key), *rest) for code, key, *rest in writes])
        self._add(
            [
                (
                    self._key(keys.lane(at, draft.stream)),
                    draft.stream,
                    f"{draft.topic}|{draft.project}",
                    draft.id,
                    draft.subject,
                    draft.body,
                )
                for draft in step.drafts
            ]
        )

    @property
    def keys(self) -> list[str]:
        """Every key that the script touches, in the order of their numbers."""
        return list(self._numbers)

    def _key(self, key: str) -> int:
        return self._numbers.setdefault(key, len(self._numbers) + 1)

    def _add(self, items: Sequence[tuple[Argument, ...]]) -> None:
        self.arguments.append(len(items))
        for item in items:
            self.arguments.extend(item)


def _checked(check: Check) -> tuple[str, str, str, str]:  # noqa: PLR0911 - a table of seven rows
    match check:
        case ValueIs(key, value):
            return ("value_absent", key, "", "") if value is None else ("value_is", key, "", value)
        case FieldIs(key, field, value):
            return ("field_absent", key, field, "") if value is None else ("field_is", key, field, value)
        case NotMember(key, member):
            return ("not_member", key, member, "")
        case IsMember(key, member):
            return ("is_member", key, member, "")
        case IsEmpty(key):
            return ("is_empty", key, "", "")
        case FieldAtMost(key, field, limit):
            return ("field_at_most", key, field, str(limit))
        case ScoreIs(key, member, score):
            return ("score_is", key, member, repr(score))
        case _:
            assert_never(check)


def _written(write: Write) -> tuple[str, str, str, str, str]:  # noqa: PLR0911 - a table of seven rows
    match write:
        case Put(key, value, seconds):
            return ("put", key, "" if seconds is None else str(seconds), *_value(value))
        case Drop(key):
            return ("drop", key, "", "", "")
        case PutField(key, field, value):
            return ("put_field", key, field, *_value(value))
        case DropField(key, field):
            return ("drop_field", key, field, "", "")
        case Add(key, field, by):
            return ("add", key, field, str(by), "")
        case Index(key, member, score):
            return ("index", key, member, repr(score), "")
        case Unindex(key, member):
            return ("unindex", key, member, "", "")
        case _:
            assert_never(write)


def _value(value: str | Stamp) -> tuple[str, str]:
    return ("", "1") if isinstance(value, Stamp) else (value, "")
