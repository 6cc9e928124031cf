"""Work from the real bus: FastStream's pull subscribers on durables that exist already.

FastStream fetches and spreads; what becomes of a message is decided here alone, never by its defaults: those drop a
message after one error, or repeat it at once and for ever.
"""

import contextlib
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, cast

import structlog
from faststream.middlewares import AckPolicy
from faststream.nats import JStream, NatsBroker, NatsMessage, PullSub
from faststream.nats.security import NatsUserPassword
from faststream.security import BaseSecurity
from nats.aio.client import Client
from nats.errors import Error

from shared.bus.connection import CONNECT_SECONDS, Address, BusMetrics, jetstream
from shared.bus.face import AT_ONCE, Handler
from shared.bus.fates import Again, Arrival, Dead, Fate, Handled, fate_of
from shared.clock import Clock
from shared.events import Event
from shared.events.contracts import BY_NAME, Topic, durable_of

log: structlog.stdlib.BoundLogger = structlog.get_logger()

HEARTBEAT_SECONDS = 10.0
"""A third of the time after which the server would deliver again."""
FETCH_SECONDS = 5.0
"""Bounds what an interrupted connection can cost: an outstanding request is lost with it."""
GRACE_SECONDS = 15.0
SILENCE_SECONDS = 60.0
"""A durable that has brought nothing for so long is looked at: it may be idle, or its loop may be dead."""
LOOKS = 12
"""So often, within two fetches, it must look dead: between two requests none waits at the server for a moment."""


@dataclass
class Work:
    """One topic that this service takes work from."""

    event: type[Event]
    handler: Handler[Any]
    at_once: int
    long: bool
    durable: str
    subjects: str
    running: int = 0
    last_delivery: float = 0.0
    subscribers: list[Any] = field(default_factory=list[Any])


class Worker:
    """Takes deliveries, lets handlers run, and answers the server."""

    def __init__(self, service: str, clock: Clock, metrics: BusMetrics, location: str) -> None:
        self._service = service
        self._location = location
        self._clock = clock
        self._metrics = metrics
        self._connection: Client | None = None
        self._works: list[Work] = []
        self._held: dict[int, NatsMessage] = {}
        """Deliveries whose handlers run, by a number of their own."""

    def add(self, event: type[Event], handler: Handler[Any], *, at_once: int | None, long: bool) -> None:
        """Take this topic too; said before `subscribe`."""
        topic = BY_NAME.get(event.topic) or Topic(event, said_by=())
        self._works.append(
            Work(
                event=event,
                handler=handler,
                at_once=at_once or (1 if long else AT_ONCE),
                long=long,
                durable=durable_of(self._service, event, self._location),
                subjects=topic.heard_by(self._service, self._location),
            )
        )

    @property
    def works(self) -> list[Work]:
        """What is taken."""
        return self._works

    def subscribe(self, broker: NatsBroker, inbox: str) -> None:
        """Tell the broker of all durables."""
        for work in self._works:
            if work.long:
                # Each takes one message and holds no other: one that waits in a buffer would be held for hours.
                work.subscribers = [self._subscriber(work, broker, inbox) for _ in range(work.at_once)]
            else:
                work.subscribers = [self._subscriber(work, broker, inbox, max_workers=work.at_once)]

    def _subscriber(self, work: Work, broker: NatsBroker, inbox: str, *, max_workers: int = 1) -> Any:
        made = cast("Any", broker).subscriber(
            work.subjects,
            durable=work.durable,
            stream=JStream(work.event.stream, declare=False),
            pull_sub=PullSub(batch_size=1, timeout=FETCH_SECONDS),
            inbox_prefix=f"{inbox}.".encode(),
            ack_policy=AckPolicy.MANUAL,
            decoder=_as_it_is,
            max_workers=max_workers,
        )
        made(self._taker(work))
        return made

    def halt(self) -> None:
        """Fetch no more. On a closed connection FastStream's loops would spin and let nothing else run."""
        for work in self._works:
            for subscriber in work.subscribers:
                subscriber.running = False

    def let_go(self) -> None:
        """Leave nothing open that a stop on a dead connection has left open."""
        for subscriber in (one for work in self._works for one in work.subscribers):
            for task in subscriber.tasks:
                task.cancel()
            if hasattr(subscriber, "send_stream"):
                subscriber.send_stream.close()
                subscriber.receive_stream.close()

    async def await_durables(self, connection: Client) -> None:
        """Wait until every durable exists: they are the provisioner's to make, and it may come later."""
        self._connection = connection
        for work in self._works:
            while not await self._exists(connection, work):
                log.warning("durable missing", durable=work.durable, stream=work.event.stream)
                await self._clock.sleep(2.0)
            work.last_delivery = self._clock.monotonic()

    async def watch(self, connection: Client) -> None:
        """Take up anew what has fallen silent though the server has messages for it, for ever."""
        while True:
            await self._clock.sleep(SILENCE_SECONDS / 4)
            for work in self._works:
                if await self._is_stuck(connection, work):
                    log.error("durable silent, taken up anew", durable=work.durable)
                    self._metrics.restarted(work.durable)
                    work.last_delivery = self._clock.monotonic()
                    for subscriber in work.subscribers:
                        await subscriber.stop()
                        await subscriber.start()

    async def _exists(self, connection: Client, work: Work) -> bool:
        try:
            await jetstream(connection).consumer_info(work.event.stream, work.durable)
        except (Error, OSError, TimeoutError):
            return False
        return True

    async def _is_stuck(self, connection: Client, work: Work) -> bool:
        silent = self._clock.monotonic() - work.last_delivery > SILENCE_SECONDS
        if work.running or not silent or not connection.is_connected:
            return False
        for _ in range(LOOKS):
            if work.running or not await self._looks_dead(connection, work):
                return False
            await self._clock.sleep(2 * FETCH_SECONDS / LOOKS)
        return True

    async def _looks_dead(self, connection: Client, work: Work) -> bool:
        try:
            info = await jetstream(connection).consumer_info(work.event.stream, work.durable)
        except (Error, OSError, TimeoutError):
            return False
        # Whoever is idle has a request waiting at the server. Messages may wait beside it only where so many are
        # unanswered that the server gives out no more.
        room = (info.num_ack_pending or 0) < (info.config.max_ack_pending or 1)
        return not info.num_waiting or bool(info.num_pending and room)

    def _taker(self, work: Work) -> Callable[[NatsMessage], Awaitable[None]]:
        async def take(message: NatsMessage) -> None:
            work.running += 1
            work.last_delivery = self._clock.monotonic()
            self._held[id(message)] = message
            try:
                raw = message.raw_message
                arrival = Arrival(raw.subject, raw.data, raw.metadata.num_delivered or 1)
                fate = await self._fate(work, arrival, dict(raw.headers or {}))
                await self._settle(work, message, fate)
                self._metrics.handled(work.event.topic, type(fate).__name__.lower())
            finally:
                work.running -= 1
                work.last_delivery = self._clock.monotonic()
                del self._held[id(message)]

        return take

    async def _fate(self, work: Work, arrival: Arrival, headers: dict[str, str]) -> Fate:
        if "Nats-Sequence" in headers:
            # Only the server's answers to a reader carry this: somebody had them sent to a subject not his own.
            return Dead("a copy of a stored message, not said by its producer")
        return await fate_of(arrival, work.event, work.handler)

    async def keep(self) -> None:
        """Tell the server, now and then, what is worked on still, for ever."""
        while True:
            await self._clock.sleep(HEARTBEAT_SECONDS)
            for message in list(self._held.values()):
                with contextlib.suppress(Error, OSError):
                    await message.in_progress()

    async def _settle(self, work: Work, message: NatsMessage, fate: Fate) -> None:
        # Where the answer does not arrive the message comes again, and the handler is idempotent.
        try:
            match fate:
                case Handled():
                    await message.ack()
                case Again(seconds):
                    await message.nack(delay=seconds)
                case Dead(reason):
                    await self._bury(work, message, reason)
                    await message.reject()
        except (Error, OSError, TimeoutError) as error:
            log.warning("delivery not answered", durable=work.durable, reason=f"{type(error).__name__}: {error}")

    async def _bury(self, work: Work, message: NatsMessage, reason: str) -> None:
        """Publish to the dead letters and await that it is durable; only then is the message terminated."""
        raw = message.raw_message
        number = raw.metadata.sequence.stream
        headers = {
            "Nats-Msg-Id": f"dead.{self._service}.{work.event.stream}.{number}",
            "Entrepot-Reason": _one_line(reason),
            "Entrepot-Service": self._service,
            "Entrepot-Stream": work.event.stream,
            "Entrepot-Number": str(number),
            "Entrepot-Delivery": str(raw.metadata.num_delivered or 1),
        }
        if self._connection is None:
            raise ConnectionError("not connected")
        subject = f"dead.{self._service}.{raw.subject}"
        await jetstream(self._connection).publish(subject, raw.data, headers=headers)


def new_broker(address: Address, metrics: BusMetrics, closed: Callable[[], Awaitable[None]], name: str) -> NatsBroker:
    """A FastStream broker that reconnects for ever and tells when its connection ends all the same."""
    return NatsBroker(
        list(address.servers),
        name=name,
        security=_security(address),
        inbox_prefix=address.inbox,
        allow_reconnect=True,
        max_reconnect_attempts=-1,
        reconnect_time_wait=1,
        connect_timeout=CONNECT_SECONDS,
        ping_interval=10,
        max_outstanding_pings=2,
        error_cb=metrics.error,
        closed_cb=closed,
        graceful_timeout=GRACE_SECONDS,
        ack_policy=AckPolicy.MANUAL,
        apply_types=False,
        # A name of our own: FastStream hangs handlers on the loggers that it knows by name.
        logger=logging.getLogger("shared.bus.faststream"),
        log_level=logging.DEBUG,
    )


def _security(address: Address) -> BaseSecurity | None:
    if address.user:
        return NatsUserPassword(address.user, address.password, ssl_context=address.tls, use_ssl=bool(address.tls))
    return BaseSecurity(ssl_context=address.tls, use_ssl=True) if address.tls else None


async def _as_it_is(message: Any) -> Any:
    """No decoding: the message goes to the handler whole."""
    return cast("NatsMessage", message)


def _one_line(text: str) -> str:
    return " ".join(text.split()).encode("ascii", "backslashreplace").decode()[:1000]
