"""The bus in memory, by a clock that is turned by hand: what needs no real server to be told."""

import asyncio
import heapq

import pytest

from shared.bus import Bus, BusUnavailable, Heard, Later, Message, Reject, StreamFull
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.events import Event
from shared.events.builds import BuildRequested
from shared.events.cleanups import CleanupRequested
from shared.events.images import ImageUntagged
from shared.events.scans import ScanRequested
from shared.events.states import GroupState
from tests.support.events import said


class HandTurnedClock:
    """Time goes on only when a test says so."""

    def __init__(self) -> None:
        self.time = 0.0
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._number = 0

    def now(self) -> float:
        return 1_750_000_000 + self.time

    def monotonic(self) -> float:
        return self.time

    async def sleep(self, seconds: float) -> None:
        self._number += 1
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.time + seconds, self._number, future))
        await future

    async def advance(self, seconds: float) -> None:
        until = self.time + seconds
        await settled()
        while self._sleepers and self._sleepers[0][0] <= until:
            self.time, _, future = heapq.heappop(self._sleepers)
            if not future.done():
                future.set_result(None)
            await settled()
        self.time = until
        await settled()


async def settled() -> None:
    for _ in range(30):
        await asyncio.sleep(0)


@pytest.fixture
def clock() -> HandTurnedClock:
    return HandTurnedClock()


@pytest.fixture
def broker(clock: HandTurnedClock) -> MemoryBroker:
    return MemoryBroker(clock, limits={"JOBS": 2})


def untagged(number: int) -> Message:
    event = ImageUntagged(project="acme", repository="web", image="app", tag=f"v{number}", digest="sha256:0")
    return said(event, cause=f"c{number}", sequence=number)


def job(number: int) -> Message:
    event = ScanRequested(project="acme", repository="web", image="app", digest=f"sha256:{number}")
    return said(event, cause=f"j{number}")


def group(email: str, *members: str, cause: str = "") -> Message:
    event = GroupState(project="acme", email=email, members=members)
    return said(event, cause=cause or f"{email}{members}", producer="identity")


async def test_it_is_a_bus(clock: HandTurnedClock) -> None:
    bus: Bus = MemoryBus("scanner", clock)
    await bus.start()
    await bus.stop()


async def test_a_message_published_before_anybody_listened_is_heard(
    clock: HandTurnedClock, broker: MemoryBroker
) -> None:
    broker.publish([untagged(1)])
    tags = await _hear_tags(clock, broker)
    assert tags == ["v1"]


async def test_twins_are_dropped_within_the_window_and_stored_after_it(
    clock: HandTurnedClock, broker: MemoryBroker
) -> None:
    publisher = MemoryBus("registry", clock, broker).publisher
    await publisher.publish([untagged(1), untagged(1)])
    await publisher.publish([untagged(1)])
    assert len(broker.messages("EVENTS")) == 1
    await clock.advance(601)
    await publisher.publish([untagged(1)])
    assert len(broker.messages("EVENTS")) == 2


async def test_replicas_share_the_work_and_services_do_not(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    heard: list[str] = []
    for service, replica in (("scanner", "a"), ("scanner", "b"), ("cleanup", "c")):
        await _listen(service, clock, broker, heard, replica)
    broker.publish([untagged(1), untagged(2)])
    await settled()
    assert sorted(name[1:] for name in heard if name[0] in "ab") == ["v1", "v2"]
    assert sorted(name for name in heard if name[0] == "c") == ["cv1", "cv2"]


async def test_a_passing_error_is_retried_with_growing_delay(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    times: list[float] = []

    async def fail(heard: Heard[ImageUntagged]) -> None:
        times.append(clock.time)
        if heard.delivery < 4:
            raise ConnectionError

    await _start("scanner", clock, broker, fail)
    broker.publish([untagged(1)])
    await clock.advance(100)
    assert times == [0, 1, 6, 36]
    assert broker.pending == 0


async def test_a_handler_may_choose_the_delay(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    times: list[float] = []

    async def wait(heard: Heard[ImageUntagged]) -> None:
        times.append(clock.time)
        if heard.delivery == 1:
            raise Later("not yet", 7)

    await _start("scanner", clock, broker, wait)
    broker.publish([untagged(1)])
    await clock.advance(100)
    assert times == [0, 7]


async def test_what_is_rejected_lies_among_the_dead_with_its_reason(
    clock: HandTurnedClock, broker: MemoryBroker
) -> None:
    async def reject(heard: Heard[ImageUntagged]) -> None:
        raise Reject(f"no such image: {heard.event.image}")

    await _start("scanner", clock, broker, reject)
    broker.publish([untagged(1)])
    await settled()
    dead = broker.messages("DEAD")
    assert [stored.subject for stored in dead] == ["dead.scanner.image.untagged.acme._.web"]
    assert dead[0].letter is not None
    assert dead[0].letter.reason == "no such image: app"
    assert broker.pending == 0


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"data": 1}', b"[" * 5000])
async def test_what_cannot_be_read_lies_among_the_dead(
    clock: HandTurnedClock, broker: MemoryBroker, content: bytes
) -> None:
    tags = await _hear_tags(clock, broker)
    broker.publish([Message("x", "image.untagged.acme._.web", content)])
    await settled()
    assert tags == []
    assert [stored.content for stored in broker.messages("DEAD")] == [content]


async def test_an_envelope_on_a_foreign_subject_is_not_believed(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    tags = await _hear_tags(clock, broker)
    broker.publish([Message("x", "image.untagged.other._.web", untagged(1).content)])
    await settled()
    assert tags == []
    assert len(broker.messages("DEAD")) == 1


async def test_an_error_nobody_foresaw_is_given_up_after_many_tries(
    clock: HandTurnedClock, broker: MemoryBroker
) -> None:
    async def broken(_heard: Heard[ImageUntagged]) -> None:
        raise KeyError("bug")

    await _start("scanner", clock, broker, broken)
    broker.publish([untagged(1)])
    await clock.advance(86_400)
    assert [stored.letter and stored.letter.delivery for stored in broker.messages("DEAD")] == [20]


async def test_a_silent_replica_loses_its_message_to_another(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    async def hang(_heard: Heard[ImageUntagged]) -> None:
        await asyncio.Event().wait()

    hanging = MemoryBus("scanner", clock, broker)
    hanging.work(ImageUntagged, hang, at_once=1)
    await hanging.start()
    broker.publish([untagged(1)])
    await settled()
    tags = await _hear_tags(clock, broker)
    assert tags == []
    await clock.advance(31)
    assert tags == ["v1"]
    for loop in hanging._running.values():
        loop.cancel()


async def test_long_work_keeps_its_message_and_comes_one_at_a_time(
    clock: HandTurnedClock, broker: MemoryBroker
) -> None:
    calls: list[str] = []

    async def build(heard: Heard[BuildRequested]) -> None:
        calls.append(heard.event.build)
        await clock.sleep(3600)

    for _ in range(2):
        bus = MemoryBus("builder", clock, broker)
        bus.work(BuildRequested, build, long=True)
        await bus.start()
    builds = [BuildRequested(project="p", build=str(n), object="o") for n in range(2)]
    broker.publish([said(build, cause=build.build) for build in builds])
    await clock.advance(3590)
    assert sorted(calls) == ["0", "1"]
    await clock.advance(60)
    assert broker.pending == 0
    assert len(calls) == 2


async def test_a_full_work_queue_refuses_all_of_a_call(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    publisher = MemoryBus("registry", clock, broker).publisher
    await publisher.publish([job(1)])
    with pytest.raises(StreamFull):
        await publisher.publish([job(2), job(3)])
    assert len(broker.messages("JOBS")) == 1
    await publisher.publish([job(1), job(2)])
    assert len(broker.messages("JOBS")) == 2


async def test_work_that_is_done_leaves_its_queue(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    async def scan(_heard: Heard[ScanRequested]) -> None: ...

    bus = MemoryBus("scanner", clock, broker)
    bus.work(ScanRequested, scan)
    await bus.start()
    broker.publish([job(1)])
    await settled()
    assert broker.messages("JOBS") == []


async def test_an_addressed_job_reaches_its_owner_alone(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    heard: list[str] = []
    for service in ("registry", "scanner"):

        async def take(_heard: Heard[CleanupRequested], service: str = service) -> None:
            heard.append(service)

        bus = MemoryBus(service, clock, broker)
        bus.work(CleanupRequested, take)
        await bus.start()
    broker.publish([said(CleanupRequested(project="p", owner="scanner", repository="r", run="1"))])
    await settled()
    assert heard == ["scanner"]


async def test_a_view_begins_with_the_last_word_on_each_thing(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    broker.publish([group("a", "x"), group("a", "x", "y"), group("b")])
    facts: list[tuple[str, tuple[str, ...]]] = []
    bus = MemoryBus("registry", clock, broker)
    view = bus.view([GroupState], lambda heard: facts.append(_fact(heard)))
    assert (view.caught_up, view.age()) == (False, float("inf"))
    await bus.start()
    await settled()
    assert facts == [("a", ("x", "y")), ("b", ())]
    assert (view.caught_up, view.age()) == (True, 0)
    broker.publish([group("b", "z")])
    await settled()
    assert facts[2:] == [("b", ("z",))]


async def test_a_view_ages_while_the_bus_is_away(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    bus = MemoryBus("registry", clock, broker)
    view = bus.view([GroupState], lambda _heard: None)
    await bus.start()
    await clock.advance(60)
    assert view.age() == 0
    broker.away = True
    await clock.advance(60)
    assert view.age() == 60
    broker.away = False
    await settled()
    assert view.age() == 0


async def test_a_view_outlives_a_fact_that_it_cannot_take(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    facts: list[str] = []

    def hear(heard: Heard[Event]) -> None:
        if _fact(heard)[0] == "bad":
            raise KeyError("bad")
        facts.append(_fact(heard)[0])

    bus = MemoryBus("registry", clock, broker)
    bus.view([GroupState], hear)
    await bus.start()
    broker.publish([group("bad"), group("good")])
    await settled()
    assert facts == ["good"]


async def test_a_bus_that_is_away_refuses_and_delivers_when_it_is_back(
    clock: HandTurnedClock, broker: MemoryBroker
) -> None:
    tags = await _hear_tags(clock, broker)
    broker.publish([untagged(1)])
    broker.away = True
    await settled()
    assert tags == []
    with pytest.raises(BusUnavailable):
        broker.publish([untagged(2)])
    broker.away = False
    await settled()
    assert tags == ["v1"]


async def test_a_stop_lets_a_running_handler_finish(clock: HandTurnedClock, broker: MemoryBroker) -> None:
    finished: list[bool] = []

    async def slow(_heard: Heard[ImageUntagged]) -> None:
        await clock.sleep(2)
        finished.append(True)

    bus = await _start("scanner", clock, broker, slow)
    broker.publish([untagged(1), untagged(2)])
    await settled()
    stopping = asyncio.create_task(bus.stop())
    await clock.advance(5)
    await stopping
    assert finished == [True, True]
    assert broker.pending == 0


def _fact(heard: Heard[Event]) -> tuple[str, tuple[str, ...]]:
    assert isinstance(heard.event, GroupState)
    return heard.event.email, heard.event.members


async def _start(service: str, clock: HandTurnedClock, broker: MemoryBroker, handler: object) -> MemoryBus:
    bus = MemoryBus(service, clock, broker)
    bus.work(ImageUntagged, handler)  # pyright: ignore[reportArgumentType]
    await bus.start()
    return bus


async def _listen(service: str, clock: HandTurnedClock, broker: MemoryBroker, heard: list[str], replica: str) -> None:
    async def note(event: Heard[ImageUntagged]) -> None:
        heard.append(replica + event.event.tag)

    await _start(service, clock, broker, note)


async def _hear_tags(clock: HandTurnedClock, broker: MemoryBroker) -> list[str]:
    tags: list[str] = []
    await _listen("scanner", clock, broker, tags, "")
    await settled()
    return tags
