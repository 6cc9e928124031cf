"""Questions to the state that go out together: one round trip, and no task for each."""

from dataclasses import dataclass
from typing import Any, assert_never, cast


@dataclass(frozen=True)
class ValueOf:
    """The value of a key; text, or None."""

    key: str


@dataclass(frozen=True)
class FieldOf:
    """A field of a hash; text, or None."""

    key: str
    field: str


@dataclass(frozen=True)
class FieldsOf:
    """Several fields of a hash, at least one; a list of texts and Nones."""

    key: str
    fields: tuple[str, ...]


@dataclass(frozen=True)
class MemberOf:
    """Whether an index holds a member."""

    key: str
    member: str


@dataclass(frozen=True)
class RecordOf:
    """All fields of a small hash; a dictionary, empty where there is none."""

    key: str


@dataclass(frozen=True)
class MembersOf:
    """The first members of an index whose scores are all 0, in byte order; a list of texts."""

    key: str
    limit: int = 1000


Question = ValueOf | FieldOf | FieldsOf | MemberOf | RecordOf | MembersOf

Answer = str | None | list[str | None] | list[str] | bool | dict[str, str]


def command(question: Question) -> tuple[str, ...]:
    """As the server is asked."""
    match question:
        case ValueOf(key):
            return ("GET", key)
        case FieldOf(key, field):
            return ("HGET", key, field)
        case FieldsOf(key, fields):
            return ("HMGET", key, *fields)
        case MemberOf(key, member):
            return ("ZSCORE", key, member)
        case RecordOf(key):
            return ("HGETALL", key)
        case MembersOf(key, limit):
            return ("ZRANGEBYLEX", key, "-", "+", "LIMIT", "0", str(limit))
        case _:
            assert_never(question)


def understood(question: Question, found: Any) -> Answer:
    """What the server's answer says."""
    if isinstance(question, MemberOf):
        return found is not None
    if isinstance(question, RecordOf):
        return {name.decode(): value.decode() for name, value in pairs(found).items()}
    if isinstance(found, list):
        return [None if each is None else each.decode() for each in cast("list[bytes | None]", found)]
    return found.decode() if isinstance(found, bytes) else None


def pairs(found: Any) -> dict[bytes, bytes]:
    """Names and values: a dictionary where the library made one, a flat list as the server sends it."""
    if isinstance(found, dict):
        return cast("dict[bytes, bytes]", found)
    return dict(zip(found[::2], found[1::2], strict=True))
