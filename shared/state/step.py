"""The atomic step: every check, write and outbox entry of one change, done together or not at all."""

from dataclasses import dataclass
from typing import Final

from shared.events import Draft


@dataclass(frozen=True)
class Stamp:
    """Stands for the generation that the step gives, where a write wants to store it."""


STAMP: Final = Stamp()

Value = str | Stamp


# Checks: all of them are made before the first write.


@dataclass(frozen=True)
class ValueIs:
    """The key holds this value; None: the key is absent."""

    key: str
    value: str | None


@dataclass(frozen=True)
class FieldIs:
    """The hash's field holds this value; None: the field is absent."""

    key: str
    field: str
    value: str | None


@dataclass(frozen=True)
class NotMember:
    """The index has no such member."""

    key: str
    member: str


@dataclass(frozen=True)
class IsMember:
    """The index has this member."""

    key: str
    member: str


@dataclass(frozen=True)
class IsEmpty:
    """The hash or index holds nothing."""

    key: str


@dataclass(frozen=True)
class FieldAtMost:
    """The hash's field, read as an integer (absent: 0), is at most this."""

    key: str
    field: str
    limit: int


@dataclass(frozen=True)
class ScoreIs:
    """The index has this member, with exactly this score."""

    key: str
    member: str
    score: float


Check = ValueIs | FieldIs | NotMember | IsMember | IsEmpty | FieldAtMost | ScoreIs


# Writes.


@dataclass(frozen=True)
class Put:
    """Set a key, for ever or for `seconds`."""

    key: str
    value: Value
    seconds: int | None = None

    def __post_init__(self) -> None:
        """A lifetime is at least a second: the store's script must never fail half-way."""
        if self.seconds is not None and self.seconds < 1:
            raise ValueError(f"{self.key} cannot live {self.seconds} seconds")


@dataclass(frozen=True)
class Drop:
    """Remove a key, hash or index whole."""

    key: str


@dataclass(frozen=True)
class PutField:
    """Set a field of a hash."""

    key: str
    field: str
    value: Value


@dataclass(frozen=True)
class DropField:
    """Remove a field of a hash."""

    key: str
    field: str


@dataclass(frozen=True)
class Add:
    """Add to a hash's field, read as an integer."""

    key: str
    field: str
    by: int


@dataclass(frozen=True)
class Index:
    """Put a member into an ordered index: by score, then by bytes of the member."""

    key: str
    member: str
    score: float = 0.0

    def __post_init__(self) -> None:
        """A score has a place in an order."""
        if self.score != self.score:
            raise ValueError(f"{self.member} cannot be ordered by no number")


@dataclass(frozen=True)
class Unindex:
    """Take a member out of an index."""

    key: str
    member: str


Write = Put | Drop | PutField | DropField | Add | Index | Unindex


@dataclass(frozen=True)
class Step:
    """One atomic change of one partition. All keys lie in that partition.

    A step that is sent twice with the same `request` is done once: the second time answers what the first one did.
    """

    partition: str
    request: str
    checks: tuple[Check, ...] = ()
    writes: tuple[Write, ...] = ()
    drafts: tuple[Draft, ...] = ()
    counter: str = ""
    """Field of the partition's generation counters that this step counts up by one; empty: none, generation 0."""
    answer: str = ""
    """Remembered with the request."""


@dataclass(frozen=True)
class Done:
    """The step took effect, now or when the same request came before (`again`)."""

    generation: int
    answer: str
    again: bool = False
