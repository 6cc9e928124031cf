"""What a service's store is asked to write: a record as it was read, and why it is changed."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

from shared.events import Cause, Event

T = TypeVar("T")


@dataclass(frozen=True)
class Kept(Generic[T]):
    """A thing with the text it is kept as, which a step checks so that nobody's change is lost."""

    thing: T
    raw: str


@dataclass(frozen=True)
class Change:
    """Why a step is made: its request key, its cause, and what is said with it."""

    request: str
    """The same for every attempt at the same change."""
    cause: Cause
    events: Sequence[Event] = ()
