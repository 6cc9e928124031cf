"""A Step as the keys and arguments of the script that does it in Valkey."""

from collections.abc import Sequence
from importlib.resources import files
from typing import assert_never

from shared.events import Draft
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
    """Collects what the script is called with; each key is named once.

    Every push comes by here twice, with a few dozen items: they are written down in one go, without steps between.
    """

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
        self.arguments: list[Argument] = [step.counter, step.answer, REQUEST_SECONDS, lane_limit]
        self.arguments.append(wake_channel(keys.service))
        self._add_checks(step.checks)
        self._add_writes(step.writes)
        self._add_drafts(step.drafts, keys, at)

    @property
    def keys(self) -> list[str]:
        """Every key that the script touches, in the order of their numbers."""
        return list(self._numbers)

    def _add_checks(self, checks: Sequence[Check]) -> None:
        numbers, add = self._numbers, self.arguments.extend
        self.arguments.append(len(checks))
        for check in checks:
            add(_checked(check, numbers.setdefault(check.key, len(numbers) + 1)))

    def _add_writes(self, writes: Sequence[Write]) -> None:
        numbers, add = self._numbers, self.arguments.extend
        self.arguments.append(len(writes))
        for write in writes:
            add(_written(write, numbers.setdefault(write.key, len(numbers) + 1)))

    def _add_drafts(self, drafts: Sequence[Draft], keys: Keys, at: str) -> None:
        numbers = self._numbers
        self.arguments.append(len(drafts))
        for draft in drafts:
            lane = numbers.setdefault(keys.lane(at, draft.stream), len(numbers) + 1)
            counter = f"{draft.topic}|{draft.project}"
            self.arguments += (lane, draft.stream, counter, draft.id, draft.subject, draft.body)


def _checked(check: Check, at: int) -> tuple[str, int, str, str]:  # noqa: PLR0911 - a table of seven rows
    match check:
        case ValueIs(_, value):
            return ("value_absent", at, "", "") if value is None else ("value_is", at, "", value)
        case FieldIs(_, field, value):
            return ("field_absent", at, field, "") if value is None else ("field_is", at, field, value)
        case NotMember(_, member):
            return ("not_member", at, member, "")
        case IsMember(_, member):
            return ("is_member", at, member, "")
        case IsEmpty():
            return ("is_empty", at, "", "")
        case FieldAtMost(_, field, limit):
            return ("field_at_most", at, field, str(limit))
        case ScoreIs(_, member, score):
            return ("score_is", at, member, repr(score))
        case _:
            assert_never(check)


def _written(write: Write, at: int) -> tuple[str, int, str, str, str]:  # noqa: PLR0911 - a table of nine rows
    match write:
        case PutField(_, field, value):
            return (
                ("put_field", at, field, "", "1") if isinstance(value, Stamp) else ("put_field", at, field, value, "")
            )
        case Index(_, member, score):
            return ("index", at, member, repr(score), "")
        case Add(_, field, by):
            return ("add", at, field, str(by), "")
        case Put(_, value, seconds):
            expiry = "" if seconds is None else str(seconds)
            return ("put", at, expiry, "", "1") if isinstance(value, Stamp) else ("put", at, expiry, value, "")
        case Drop():
            return ("drop", at, "", "", "")
        case DropField(_, field):
            return ("drop_field", at, field, "", "")
        case Unindex(_, member):
            return ("unindex", at, member, "", "")
        case _:
            assert_never(write)
