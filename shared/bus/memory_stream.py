"""One stream in memory, and what it stores."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field

from shared.bus.face import Message
from shared.bus.fates import Arrival
from shared.bus.streams import Keeps, Stream


@dataclass(frozen=True)
class Letter:
    """Why a message is among the dead, and from where it came."""

    service: str
    reason: str
    stream: str
    number: int
    subject: str
    delivery: int


@dataclass(frozen=True)
class Stored:
    """A message in a stream."""

    number: int
    id: str
    subject: str
    content: bytes
    topic: str
    at: float
    letter: Letter | None = None


@dataclass(frozen=True)
class Delivery:
    """A message handed to one replica."""

    number: int
    arrival: Arrival


class Bell:
    """Wakes whoever waits for something to happen."""

    def __init__(self) -> None:
        self._waiting: list[asyncio.Future[None]] = []

    def next_ring(self) -> asyncio.Future[None]:
        """Done at the next ring."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(future)
        return future

    def ring(self) -> None:
        """Wake all."""
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


@dataclass
class MemoryStream:
    """One stream's messages."""

    kind: Stream
    limit: int
    """Messages that a work queue holds before it refuses."""
    messages: dict[int, Stored] = field(default_factory=dict[int, Stored])
    last: int = 0
    seen: dict[str, float] = field(default_factory=dict[str, float])
    latest: dict[str, int] = field(default_factory=dict[str, int])
    bell: Bell = field(default_factory=Bell)

    def is_twin(self, message_id: str, now: float) -> bool:
        """Whether this id was stored within the dedupe window."""
        return message_id in self.seen and now - self.seen[message_id] < self.kind.dedupe

    def is_full_for(self, more: int) -> bool:
        """Whether a work queue has no room for so many."""
        return self.kind.keeps is Keeps.WORK and len(self.messages) + more > self.limit

    def store(self, message: Message, topic: str, now: float, letter: Letter | None = None) -> Stored:
        """Append a message."""
        self.last += 1
        stored = Stored(self.last, message.id, message.subject, message.content, topic, now, letter)
        self.messages[stored.number] = stored
        self.seen[message.id] = now
        if self.kind.keeps is Keeps.LAST:
            self.messages.pop(self.latest.get(message.subject, 0), None)
            self.latest[message.subject] = stored.number
        return stored

    def after(self, position: int) -> Iterator[Stored]:
        """Messages behind a position."""
        for number in range(position + 1, self.last + 1):
            if number in self.messages:
                yield self.messages[number]
