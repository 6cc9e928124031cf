"""The face of the bus: durable publication in order, work shared by replicas, views heard by every replica."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from shared.events import Cause, Event

E = TypeVar("E", bound=Event)


AT_ONCE = 8
"""Handlers of one topic that run beside each other in a replica, unless told."""


class BusUnavailable(Exception):
    """The bus did not acknowledge in time; whether it stored the messages is unknown. Publish the same again."""


class StreamFull(Exception):
    """The stream refuses new messages until it has room; nothing of this call was stored."""


class Reject(Exception):
    """Raised by a handler: this event can never be handled. It goes to the dead letters with the reason."""


class Later(Exception):
    """Raised by a handler: not now, try again after `seconds`."""

    def __init__(self, reason: str, seconds: float) -> None:
        """`reason` is for the log."""
        super().__init__(reason)
        self.seconds = seconds


@dataclass(frozen=True)
class Message:
    """What is published: the id drops twins, the content is a finished envelope."""

    id: str
    subject: str
    content: bytes


@dataclass(frozen=True)
class Heard(Generic[E]):
    """An event as a handler hears it, perhaps not for the first time and not in order."""

    event: E
    id: str
    generation: int
    sequence: int
    time: str
    actor: str = ""
    traceparent: str = ""
    delivery: int = 1
    """1 the first time."""
    source: str = ""
    """Who says it: `/services/registry`, or one of its journals. Sequences are counted by it."""

    @property
    def cause(self) -> Cause:
        """This event as the cause of what the handler does about it."""
        return Cause(id=self.id, actor=self.actor, traceparent=self.traceparent)


Handler = Callable[[Heard[E]], Awaitable[None]]
"""What a service does about an event. It may run twice, late and out of order; its effects are durable when it returns.

Raises Reject for what can never work, Later to choose the delay; anything else is retried with growing delay.
"""


class Publisher(Protocol):
    """Where the relay and the journal publish."""

    async def publish(self, messages: Sequence[Message]) -> None:
        """Store all messages of one stream, in order; returning means all are durable.

        Raises BusUnavailable or StreamFull. Publishing the same messages again stores nothing twice.
        """
        ...


class View(Protocol):
    """What a replica knows by hearing everything of some topics."""

    @property
    def caught_up(self) -> bool:
        """Whether everything said before this replica started has been heard."""
        ...

    @property
    def cut_off(self) -> bool:
        """Whether the bus could not be asked when this view last tried."""
        ...

    def age(self) -> float:
        """Seconds since the bus last confirmed that nothing is missing; infinite before that."""
        ...


class Bus(Protocol):
    """A service's connection to the bus."""

    @property
    def publisher(self) -> Publisher:
        """Publishes, on a connection of its own."""
        ...

    def work(self, event: type[E], handler: Handler[E], *, at_once: int | None = None, long: bool = False) -> None:
        """Take events of a topic from this service's durable, shared with the other replicas; said before `start`.

        `at_once` handlers run beside each other, 8 unless told. `long` work keeps its message by heartbeats; it runs
        one at a time unless told, and a replica takes no more than it runs.
        """
        ...

    def view(self, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]) -> View:
        """Hear everything of these topics in order, from the beginning; said before `start`.

        State topics begin with the last word on each thing.
        """
        ...

    async def start(self) -> None:
        """Connect and begin to hear. Where the bus is away, returns all the same and keeps trying."""
        ...

    async def stop(self) -> None:
        """Stop hearing, let running handlers finish, disconnect."""
        ...
