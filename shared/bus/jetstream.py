"""The real bus: NATS JetStream, through FastStream for work and through nats-py for views and publishing."""

import asyncio
import contextlib
import os
import signal
import zlib
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import structlog
from faststream.nats import NatsBroker
from nats.aio.client import Client
from nats.errors import AuthorizationError, Error
from prometheus_client import CollectorRegistry

from shared.bus.connection import Address, BusMayLose, BusMetrics, BusSilent, connect, refuse_a_lossy_server
from shared.bus.face import Handler, Heard
from shared.bus.following import JetStreamView, JoinedView
from shared.bus.publisher import JetStreamPublisher
from shared.bus.working import Worker, new_broker
from shared.clock import Clock
from shared.endings import called_off
from shared.events import Event

log: structlog.stdlib.BoundLogger = structlog.get_logger()

E = TypeVar("E", bound=Event)

START_SECONDS = 3.0
"""How long a stop waits for work that is just being taken up: a few round trips."""
PATIENCE = 5
"""How often the bus may refuse this service's password: while it is provisioned, it may do so for a moment."""


def end_the_process(reason: str) -> None:
    """What a bus does that cannot go on: ask the process to end in order, so that it is started anew."""
    log.critical("the bus connection is over, the process ends", reason=reason)
    os.kill(os.getpid(), signal.SIGTERM)


@dataclass(frozen=True)
class Options:
    """How a bus is used; the defaults are those of a service."""

    snapshots: Path | None = None
    """Folder for what the views know, so that a replica can start while the bus is away."""
    accept_loss: bool = False
    """Start on a server that may lose what it acknowledged."""
    over: Callable[[str], None] = end_the_process
    registry: CollectorRegistry | None = None
    location: str = ""
    """Of this deployment, where there are several: it takes the jobs that are for it."""


class JetStreamBus:
    """One replica's connections to the bus."""

    def __init__(self, service: str, address: Address, clock: Clock, options: Options | None = None) -> None:
        self._service = service
        self._address = address
        self._clock = clock
        self._options = options or Options()
        self._metrics = BusMetrics(service, self._options.registry)
        self.publisher = JetStreamPublisher(service, address, self._metrics)
        self._worker = Worker(service, clock, self._metrics, self._options.location)
        self._views: list[JetStreamView] = []
        self._loops: list[asyncio.Task[None]] = []
        self._connection: Client | None = None
        self._broker: NatsBroker | None = None
        self._starting: asyncio.Task[None] | None = None
        self._taking: asyncio.Task[None] | None = None
        self._stopping = False
        self._shut_out = 0

    def work(self, event: type[E], handler: Handler[E], *, at_once: int | None = None, long: bool = False) -> None:
        """Take events of a topic from this service's durable; said before `start`."""
        self._worker.add(event, handler, at_once=at_once, long=long)

    def view(self, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]) -> JoinedView:
        """Hear everything of these topics; said before `start`."""
        parts = [
            self._part([event for event in events if event.stream == stream], heard)
            for stream in dict.fromkeys(event.stream for event in events)
        ]
        self._views += parts
        return JoinedView(parts)

    async def start(self) -> None:
        """Begin to hear, now or as soon as the bus can be reached. Raises BusMayLose."""
        # A monitor that is away may mean that the whole bus is: it is asked once more when the bus has come.
        with contextlib.suppress(BusSilent):
            await refuse_a_lossy_server(self._address, accept_loss=self._options.accept_loss)
        for view in self._views:
            view.load()
        if self._views or self._worker.works:
            self._loop(self._hear())

    async def stop(self) -> None:
        """Stop hearing, let running handlers finish, disconnect."""
        self._stopping = True
        await self._leave_work()
        await called_off(self._loops)
        for view in self._views:
            await view.close()
        if self._connection is not None:
            await self._connection.close()
        await self.publisher.close()

    async def _leave_work(self) -> None:
        """FastStream that is stopped while it starts goes on starting, on a connection that ends, and never stops."""
        if self._starting is not None:
            await asyncio.wait((self._starting,), timeout=START_SECONDS)
            await called_off([self._starting])
        if self._taking is not None:
            await called_off([self._taking])  # nor may the watch take anything up anew
        if self._broker is not None:
            await _stopped(self._broker)
            self._worker.let_go()

    async def _hear(self) -> None:
        waiting = asyncio.create_task(self._say_that_it_is_away())
        try:
            self._connection = await connect(
                self._address, name=self._service, error=self._trouble, closed=self._closed
            )
            await refuse_a_lossy_server(self._address, accept_loss=self._options.accept_loss)
        except (Error, OSError, TimeoutError, BusMayLose) as error:
            self._over(f"{type(error).__name__}: {error}")
            return
        finally:
            waiting.cancel()
        if self._stopping:
            return  # a cancellation can be lost
        for view in self._views:
            self._loop(view.follow(self._connection))
        if self._worker.works:
            self._taking = self._loop(self._take_work(self._connection))
        self._loop(self._measure())

    async def _say_that_it_is_away(self) -> None:
        await self._clock.sleep(1.0)
        for view in self._views:
            view.away()

    async def _take_work(self, connection: Client) -> None:
        await self._worker.await_durables(connection)
        if self._stopping:
            return  # a cancellation can be lost
        self._broker = new_broker(self._address, self._metrics, self._closed, f"{self._service} work")
        self._worker.subscribe(self._broker, self._address.inbox)
        self._starting = asyncio.create_task(self._broker.start())
        await asyncio.shield(self._starting)
        self._loop(self._worker.keep())
        await self._worker.watch(connection)

    async def _measure(self) -> None:
        while True:
            self._metrics.aged(max((view.age() for view in self._views), default=0.0))
            await self._clock.sleep(5.0)

    async def _trouble(self, error: Exception) -> None:
        await self._metrics.error(error)
        # The client would try a wrong password for ever.
        self._shut_out += isinstance(error, AuthorizationError) or "authorization violation" in str(error).lower()
        if self._shut_out == PATIENCE:
            self._over("the bus does not let this service in")

    async def _closed(self) -> None:
        self._worker.halt()
        self._over("a connection was closed")

    def _over(self, reason: str) -> None:
        if not self._stopping:
            self._options.over(reason)

    def _loop(self, endless: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(endless)
        task.add_done_callback(self._ended)
        self._loops.append(task)
        return task

    def _ended(self, task: asyncio.Task[None]) -> None:
        # None of these loops ends by itself: a bug that ended one must not leave a process that hears nothing.
        if not task.cancelled() and task.exception() is not None:
            log.error("a loop of the bus failed", exc_info=task.exception())
            self._over(f"{type(task.exception()).__name__}: {task.exception()}")

    def _part(self, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]) -> JetStreamView:
        stream, folder = events[0].stream, self._options.snapshots
        # Named for its topics: a snapshot that stands for fewer would hide the others' past.
        topics = zlib.crc32(",".join(sorted(event.topic for event in events)).encode())
        file = None if folder is None else folder / f"{self._service}-{stream.lower()}-{topics:08x}.snapshot"
        view = JetStreamView(stream, events, heard, self._clock, file)
        view.refused = self._metrics.fact_refused
        return view


async def _stopped(broker: NatsBroker) -> None:
    try:
        await broker.stop()
    except* (Error, OSError) as errors:
        # What cannot be unsubscribed on a dead connection needs not be.
        log.warning("bus not left in order", reasons=[str(error) for error in errors.exceptions])
