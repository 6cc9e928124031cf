"""The bus in memory: for tests, for simulation and for a service that is tried alone; gone when the process ends.

All services and replicas share one `MemoryBroker`, the server's part; each holds a `MemoryBus`, the client's part.
Calls of a broker take effect within one loop round, whatever then becomes of the caller.
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from shared.bus.broker import Delivery, Durable, Letter, MemoryBroker, Stored
from shared.bus.face import AT_ONCE, Handler, Heard, Message
from shared.bus.fates import Again, Arrival, Dead, Fate, Handled, fate_of, show
from shared.clock import Clock
from shared.events import Event

__all__ = ["Letter", "MemoryBroker", "MemoryBus", "Stored"]

E = TypeVar("E", bound=Event)

HEARTBEAT_SECONDS = 10.0
GRACE_SECONDS = 10.0
"""How long a stop waits for handlers that run."""


class MemoryPublisher:
    """Publishes into a `MemoryBroker`."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def publish(self, messages: Sequence[Message]) -> None:
        """Store all messages, in order; twins are dropped. Raises BusUnavailable or StreamFull."""
        self._broker.publish(messages)


@dataclass(frozen=True)
class _Work:
    event: type[Event]
    handler: Handler[Any]
    at_once: int
    long: bool


class MemoryView:
    """What one replica hears of some topics, all of it and in order."""

    def __init__(
        self, broker: MemoryBroker, clock: Clock, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]
    ) -> None:
        self._broker = broker
        self._clock = clock
        self._heard = heard
        self._events = {event.topic: event for event in events}
        self._position = dict.fromkeys(sorted({event.stream for event in events}), 0)
        self._start: dict[str, int] | None = None
        self._confirmed: float | None = None

    @property
    def caught_up(self) -> bool:
        """Whether everything said before the start has been heard."""
        return self._start is not None and all(self._position[name] >= last for name, last in self._start.items())

    @property
    def cut_off(self) -> bool:
        """Whether the broker is away."""
        return self._broker.away

    def age(self) -> float:
        """Seconds since nothing was missing: 0 while the broker can be reached and holds nothing new."""
        if self._confirmed is None:
            return float("inf")
        current = all(position >= self._broker.stream(name).last for name, position in self._position.items())
        return 0.0 if current and not self._broker.away else self._clock.monotonic() - self._confirmed

    async def follow(self) -> None:
        """Hear for ever."""
        while True:
            changes = [self._broker.stream(name).bell.next_ring() for name in self._position]
            if not self._broker.away:
                self._hear_what_is_new()
            if self._confirmed is not None:
                self._confirmed = self._clock.monotonic()
            await _first_of(changes)
            await self._be_late()

    def _hear_what_is_new(self) -> None:
        if self._start is None:
            self._start = {name: self._broker.stream(name).last for name in self._position}
        for name, position in self._position.items():
            for stored in self._broker.stream(name).after(position):
                self._position[name] = stored.number
                if stored.topic in self._events:
                    show(self._heard, Arrival(stored.subject, stored.content), self._events)
        self._confirmed = self._clock.monotonic()

    async def _be_late(self) -> None:
        seconds = self._broker.weather.lag()
        if seconds > 0:
            await self._clock.sleep(seconds)


class MemoryBus:
    """One replica's connection to a `MemoryBroker`."""

    def __init__(self, service: str, clock: Clock, broker: MemoryBroker | None = None, location: str = "") -> None:
        """Without a broker the bus is one of its own, as a test of one service wants it.

        `location` is this deployment's, where there are several.
        """
        self.broker = broker or MemoryBroker(clock)
        self.publisher = MemoryPublisher(self.broker)
        self._service = service
        self._location = location
        self._clock = clock
        self._works: list[_Work] = []
        self._views: list[MemoryView] = []
        self._loops: list[asyncio.Task[None]] = []
        self._running: dict[int, asyncio.Task[None]] = {}
        self._handled = 0

    def work(self, event: type[E], handler: Handler[E], *, at_once: int | None = None, long: bool = False) -> None:
        """Take events of a topic from this service's durable; said before `start`."""
        self._works.append(_Work(event, handler, at_once or (1 if long else AT_ONCE), long))

    def view(self, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]) -> MemoryView:
        """Hear everything of these topics; said before `start`."""
        view = MemoryView(self.broker, self._clock, events, heard)
        self._views.append(view)
        return view

    async def start(self) -> None:
        """Begin to hear."""
        for view in self._views:
            self._loop(view.follow())
        for work in self._works:
            self._loop(self._pull(work, self.broker.durable(self._service, work.event, self._location)))

    async def stop(self) -> None:
        """Stop hearing and let running handlers finish, within reason."""
        await _ended(self._loops)
        self._loops.clear()
        handlers = list(self._running.values())
        deadline = self._clock.monotonic() + GRACE_SECONDS
        while not all(task.done() for task in handlers) and self._clock.monotonic() < deadline:
            await self._clock.sleep(0.01)
        await _ended(handlers)

    def _loop(self, endless: Coroutine[Any, Any, None]) -> None:
        self._loops.append(asyncio.create_task(endless))

    async def _pull(self, work: _Work, durable: Durable) -> None:
        free = asyncio.Semaphore(work.at_once)
        while True:
            await free.acquire()
            self._spawn(self._handle(work, durable, await durable.next(self._clock), free))

    def _spawn(self, handling: Coroutine[Any, Any, None]) -> None:
        # A dict, not a set: what is iterated at the stop has the same order in every run.
        number = self._handled = self._handled + 1
        task = self._running[number] = asyncio.create_task(handling)
        task.add_done_callback(lambda _: self._running.pop(number, None))

    async def _handle(self, work: _Work, durable: Durable, delivery: Delivery, free: asyncio.Semaphore) -> None:
        beat = asyncio.create_task(self._keep(durable, delivery)) if work.long else None
        try:
            fate = await fate_of(delivery.arrival, work.event, work.handler)
            self._settle(durable, delivery, fate)
        finally:
            free.release()
            if beat is not None:
                beat.cancel()

    async def _keep(self, durable: Durable, delivery: Delivery) -> None:
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            durable.in_progress(delivery)

    def _settle(self, durable: Durable, delivery: Delivery, fate: Fate) -> None:
        match fate:
            case Handled():
                durable.acknowledge(delivery)
            case Again(seconds):
                durable.again(delivery, seconds)
            case Dead(reason):
                durable.dead(delivery, reason)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _first_of(futures: Sequence[asyncio.Future[None]]) -> None:
    # Not asyncio.wait: it returns sets, whose order is not the same in every run.
    if len(futures) == 1:
        await futures[0]
        return
    first: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    for future in futures:
        future.add_done_callback(lambda _: first.done() or first.set_result(None))
    await first
