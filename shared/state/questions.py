"""Questions to the state that go out together: one round trip, and no task for each."""

from dataclasses import dataclass
from typing import assert_never


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


Question = ValueOf | FieldOf | FieldsOf | MemberOf

Answer = str | None | list[str | None] | bool


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
        case _:
            assert_never(question)


def understood(question: Question, found: bytes | float | list[bytes | None] | None) -> Answer:
    """What the server's answer says."""
    if isinstance(question, MemberOf):
        return found is not None
    if isinstance(found, list):
        return [None if each is None else each.decode() for each in found]
    return found.decode() if isinstance(found, bytes) else None
