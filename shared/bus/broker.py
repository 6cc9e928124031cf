"""The server's part of the bus in memory: streams, durables and the dead letters, as JetStream keeps them."""

import asyncio
import heapq
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

from shared.bus.face import BusUnavailable, Message, StreamFull
from shared.bus.fates import Arrival
from shared.bus.memory_stream import Bell, Delivery, Letter, MemoryStream, Stored
from shared.bus.streams import STREAMS, Keeps
from shared.clock import Clock
from shared.events import Event
from shared.events.contracts import BY_NAME, Topic, durable_of, topic_of

ACK_SECONDS = 30.0
"""How long a message may go without an answer before another replica gets it."""


class Weather(Protocol):
    """What a simulation makes deliveries suffer."""

    def lag(self) -> float:
        """Seconds by which a delivery is late; different ones put messages out of order."""
        ...

    def twice(self) -> bool:
        """Whether an acknowledged message is delivered once more."""
        ...


class Calm:
    """Everything at once, in order, and once."""

    def lag(self) -> float:
        """Never late."""
        return 0.0

    def twice(self) -> bool:
        """Never twice."""
        return False


class Durable:
    """A service's place in one topic, shared by its replicas. Late answers to an earlier delivery count for nothing."""

    def __init__(self, broker: "MemoryBroker", stream: MemoryStream, service: str, subjects: str) -> None:
        self._broker = broker
        self._stream = stream
        self._service = service
        self._heard = re.compile(re.escape(subjects).replace(r"\*", r"[^.]+").replace(">", ".+")).fullmatch
        self.bell = Bell()
        self._due: dict[int, float] = {}
        self._deliveries: dict[int, int] = {}
        self._queue: list[tuple[float, int]] = []

    @property
    def pending(self) -> int:
        """Messages that are not done with."""
        return len(self._due)

    def offer(self, stored: Stored) -> None:
        """A new message of the stream."""
        if self._heard(stored.subject):
            self._deliveries[stored.number] = 0
            self._put(stored.number, self._broker.weather.lag())

    async def next(self, clock: Clock) -> Delivery:
        """The next message that is due, whenever that may be."""
        while True:
            if self._broker.away:
                await self.bell.next_ring()
            elif (delivery := self._take()) is not None:
                return delivery
            else:
                await self._wait(clock)

    def acknowledge(self, delivery: Delivery) -> None:
        """The message is done with."""
        if self._is_current(delivery):
            if self._broker.weather.twice():
                self._put(delivery.number, self._broker.weather.lag())
            else:
                self._forget(delivery.number)

    def again(self, delivery: Delivery, seconds: float) -> None:
        """Deliver it again after a while."""
        if self._is_current(delivery):
            self._put(delivery.number, seconds)

    def in_progress(self, delivery: Delivery) -> None:
        """Somebody works on it still."""
        if self._is_current(delivery):
            self._put(delivery.number, ACK_SECONDS)

    def dead(self, delivery: Delivery, reason: str) -> None:
        """Put it to the dead letters and be done with it."""
        if not self._is_current(delivery):
            return
        stored = self._stream.messages[delivery.number]
        name = self._stream.kind.name
        letter = Letter(self._service, reason, name, stored.number, stored.subject, delivery.arrival.delivery)
        self._broker.bury(stored, letter)
        self._forget(delivery.number)

    def _is_current(self, delivery: Delivery) -> bool:
        known = self._deliveries.get(delivery.number) == delivery.arrival.delivery
        return known and not self._broker.away

    def _forget(self, number: int) -> None:
        del self._due[number], self._deliveries[number]
        if self._stream.kind.keeps is Keeps.WORK:
            self._stream.messages.pop(number, None)

    def _put(self, number: int, seconds: float) -> None:
        due = self._due[number] = self._broker.monotonic() + seconds
        heapq.heappush(self._queue, (due, number))
        if self._first() == (due, number):  # else whoever waits wakes for an earlier one, and looks again
            self.bell.ring()

    def _first(self) -> tuple[float, int] | None:
        while self._queue:
            due, number = self._queue[0]
            if self._due.get(number) == due:
                return due, number
            heapq.heappop(self._queue)
        return None

    def _take(self) -> Delivery | None:
        first = self._first()
        if first is None or first[0] > self._broker.monotonic():
            return None
        number = first[1]
        self._deliveries[number] += 1
        # Until it is answered it is due when the time for that has run out.
        self._due[number] = self._broker.monotonic() + ACK_SECONDS
        heapq.heapreplace(self._queue, (self._due[number], number))
        stored = self._stream.messages[number]
        return Delivery(number, Arrival(stored.subject, stored.content, self._deliveries[number]))

    async def _wait(self, clock: Clock) -> None:
        change, first = self.bell.next_ring(), self._first()
        if first is None:
            await change
            return
        # The timer belongs to the replica that waits, not to whoever rang last: that one may die.
        timer = asyncio.ensure_future(clock.sleep(max(first[0] - self._broker.monotonic(), 0.0)))
        timer.add_done_callback(lambda _: change.done() or change.set_result(None))
        try:
            await change
        finally:
            timer.cancel()


class MemoryBroker:
    """What JetStream is to the real bus. Every call takes effect within one loop round."""

    def __init__(
        self, clock: Clock, *, weather: Weather | None = None, limits: Mapping[str, int] | None = None
    ) -> None:
        """`limits` says how many messages a work queue holds before it refuses."""
        self.weather: Weather = weather or Calm()
        self._clock = clock
        self._streams = {
            name: MemoryStream(kind, (limits or {}).get(name, 1_000_000)) for name, kind in STREAMS.items()
        }
        self._durables: dict[str, Durable] = {}
        self._by_topic: dict[str, list[Durable]] = {}
        self._waiting: list[asyncio.Future[None]] = []
        self._away = False

    @property
    def away(self) -> bool:
        """Whether nobody can reach the bus."""
        return self._away

    @away.setter
    def away(self, away: bool) -> None:
        self._away = away
        for bell in (*(each.bell for each in self._streams.values()), *(each.bell for each in self._durables.values())):
            bell.ring()

    @property
    def pending(self) -> int:
        """Deliveries that some durable still waits for; 0 when all work is done."""
        return sum(durable.pending for durable in self._durables.values())

    def monotonic(self) -> float:
        """The time by the server's clock."""
        return self._clock.monotonic()

    def stream(self, name: str) -> MemoryStream:
        """One stream."""
        return self._streams[name]

    def messages(self, stream: str) -> list[Stored]:
        """What a stream holds now, in order."""
        return list(self._streams[stream].messages.values())

    def durable(self, service: str, event: type[Event], location: str = "") -> Durable:
        """A service's durable on a topic; the first time it begins with all that the stream holds."""
        name = durable_of(service, event, location)
        if name not in self._durables:
            topic = BY_NAME.get(event.topic) or Topic(event, said_by=())
            stream = self._streams[event.stream]
            self._durables[name] = made = Durable(self, stream, service, topic.heard_by(service, location))
            self._by_topic.setdefault(event.topic, []).append(made)
            for stored in stream.after(0):
                made.offer(stored)
        return self._durables[name]

    def publish(self, messages: Sequence[Message]) -> None:
        """Store messages of one stream, in order, all or none. Raises BusUnavailable or StreamFull."""
        if self._away:
            raise BusUnavailable("the bus is away")
        topics = [_topic(message) for message in messages]
        for stream in {topic.event.stream: self._streams[topic.event.stream] for topic in topics}.values():
            if stream.is_full_for(sum(not stream.is_twin(message.id, self.monotonic()) for message in messages)):
                raise StreamFull(stream.kind.name)
        for message, topic in zip(messages, topics, strict=True):
            self._store(self._streams[topic.event.stream], message, topic.name)

    def bury(self, stored: Stored, letter: Letter) -> None:
        """Put a message to the dead letters."""
        message = Message(
            id=f"dead.{letter.service}.{letter.stream}.{stored.number}",
            subject=f"dead.{letter.service}.{stored.subject}",
            content=stored.content,
        )
        dead = self._streams["DEAD"]
        if not dead.is_twin(message.id, self.monotonic()):
            dead.store(message, stored.topic, self._clock.now(), letter)

    def _store(self, stream: MemoryStream, message: Message, topic: str) -> None:
        if stream.is_twin(message.id, self.monotonic()):
            return
        stored = stream.store(message, topic, self.monotonic())
        for durable in self._by_topic.get(topic, ()):
            durable.offer(stored)
        stream.bell.ring()


def _topic(message: Message) -> Topic:
    topic = topic_of(message.subject)
    if topic is None:
        raise BusUnavailable(f"no stream takes {message.subject}")
    return topic
