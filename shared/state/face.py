"""The face of the state store: small mutable records, changed only by atomic steps."""

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Literal, Protocol

from shared.state.questions import Question
from shared.state.step import Done, Step

REQUEST_SECONDS = 900
"""How long a request key is remembered: longer than any caller retries."""


class Moved(Exception):
    """A check of the step failed: somebody was faster. Read again and decide anew."""


class LaneFull(Exception):
    """The outbox lane is at its limit; nothing was changed. Retryable."""


class StateUnavailable(Exception):
    """The store did not answer in time; whether a step took effect is unknown. Retry with the same request."""


@dataclass(frozen=True)
class LaneEntry:
    """One event in the outbox, in the order in which it must leave."""

    number: int
    """Position in the lane, from 1, gapless."""
    id: str
    subject: str
    content: bytes
    """The finished envelope."""


@dataclass(frozen=True)
class Lease:
    """The right to drain a lane until it is not renewed in time."""

    lane: str
    token: str


class Unknown(Enum):
    """What a peek may find beside a value."""

    UNKNOWN = "unknown"
    """The store did not say: ask again, with patience."""


UNKNOWN: Final = Unknown.UNKNOWN

Told = Callable[[str | Literal[Unknown.UNKNOWN] | None], None]
"""Hears what a peek found: the value, None where there is none, or UNKNOWN. It must not raise."""


class State(Protocol):
    """What a service remembers. Keys are built by `shared.state.keys`; a service sees only its own.

    Every method raises StateUnavailable when the store cannot be reached in time.
    """

    async def apply(self, step: Step) -> Done:
        """Do the step; success means durable. Raises Moved or LaneFull, then nothing was changed.

        A step that writes to a key of another kind (value, hash, index) raises TypeError before it begins.
        """
        ...

    async def value(self, key: str) -> str | None:
        """The value of a key."""
        ...

    async def field(self, key: str, field: str) -> str | None:
        """One field of a hash."""
        ...

    async def fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        """Several fields of a hash, in the order asked for."""
        ...

    def peek(self, key: str, told: Told, *, field: str = "", unless: str = "") -> bool:
        """Ask for a value, or for a field of a hash, without a task: the way of requests that do nothing else.

        `told` is called once, here or later from the loop; what it hears is as new as what `value` would say. Where
        there is a value under the key `unless`, asked for along with it, it hears UNKNOWN.
        False when this way is closed at the moment: then `told` is never called, and `value` has the patience.
        """
        ...

    async def look(self, questions: Sequence[Question]) -> list[Any]:
        """The answers to several questions, each of its own kind, asked together; no moment is promised for all."""
        ...

    async def record(self, key: str) -> dict[str, str]:
        """All fields of a small hash; empty when there is none."""
        ...

    async def members(self, key: str, *, after: str = "", prefix: str = "", limit: int = 1000) -> list[str]:
        """Members of an index whose scores are all 0, in byte order: a page beginning behind `after`."""
        ...

    async def ranked(self, key: str, *, low: float, high: float, limit: int = 1000) -> list[tuple[str, float]]:
        """Members of an index by score, both ends included, lowest first."""
        ...

    async def has_member(self, key: str, member: str) -> bool:
        """Whether the index holds the member."""
        ...

    async def size(self, key: str) -> int:
        """How many members the index has."""
        ...

    async def generation(self, partition: str, counter: str) -> int:
        """The last generation given by that counter; 0 before the first."""
        ...

    # The outbox, for the relay.

    async def busy_lanes(self) -> list[str]:
        """Lanes of this service that hold entries."""
        ...

    def woken(self) -> AsyncIterator[str]:
        """Names of empty lanes that get an entry, from any replica, as it happens; a hint: none is promised."""
        ...

    def heed(self, told: Callable[[str], None]) -> None:
        """Have `told` called with each lane that a step of this process put something into; it must not raise."""
        ...

    async def listeners(self) -> int:
        """How many processes of this service wait to be woken: running replicas, but for those that are cut off."""
        ...

    async def acquire(self, lane: str, token: str, seconds: float) -> bool:
        """Take or renew the lane's lease for `token`; False when another holds it."""
        ...

    async def release(self, lease: Lease) -> None:
        """Give the lease back, if it is still ours."""
        ...

    async def entries(self, lane: str, limit: int) -> list[LaneEntry]:
        """The oldest entries of a lane."""
        ...

    async def remove(self, lease: Lease, last: int) -> bool:
        """Remove entries up to and including `last`; False, and nothing removed, when the lease is not ours."""
        ...

    async def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> list[LaneEntry] | None:
        """One turn of a relay: take or renew the lease, remove up to `published` (0: nothing), read the oldest entries.

        None, and nothing removed, when the lease is not ours: another has it, or it ran out before the removal.
        """
        ...
