"""The relay over state in memory and in Valkey: order, failures, leases, and that nothing is removed unacknowledged."""

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from shared import relay as relays
from shared.bus import BusUnavailable, Message, StreamFull
from shared.clock import SystemClock, SystemIds
from shared.events import Cause, Event
from shared.events.audit import AuditActivity
from shared.events.images import ImageDeleted
from shared.outbox import Outbox
from shared.relay import Relay
from shared.state import Keys, Lease, State, Step
from shared.state.memory import MemoryState, MemoryStore
from shared.state.server import ValkeySettings
from shared.state.valkey import ValkeyState
from tests.support.servers import Server, valkey, valkey_shared

__all__ = ["valkey", "valkey_shared"]

AT = "07"
numbers = itertools.count(1)


class Paper:
    """A publisher that writes down what it is given, and fails as it is told."""

    def __init__(self) -> None:
        self.said: list[Message] = []
        self.fail: Callable[[Sequence[Message]], None] = lambda _: None
        self.seconds = 0.0
        self.batches: list[int] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.batches.append(len(messages))
        if self.seconds:
            await asyncio.sleep(self.seconds)
        self.fail(messages)
        known = {message.id for message in self.said}
        self.said += [message for message in messages if message.id not in known]


@pytest.fixture
def service() -> str:
    return f"relay{next(numbers)}"


@pytest.fixture(params=["memory", "valkey"])
async def state(request: pytest.FixtureRequest, service: str) -> AsyncIterator[State]:
    if request.param == "memory":
        yield MemoryState(service, SystemClock().monotonic, MemoryStore())
        return
    server: Server = request.getfixturevalue("valkey_shared")
    settings = ValkeySettings(url=f"redis://127.0.0.1:{server.port}")
    opened = ValkeyState.connect(service, settings, SystemClock())
    yield opened
    await opened.close()


@pytest.fixture
async def beside(request: pytest.FixtureRequest, state: State, service: str) -> AsyncIterator[State]:
    """Another replica's way to the same lanes."""
    if isinstance(state, MemoryState):
        yield MemoryState(service, SystemClock().monotonic, state.store)
        return
    server: Server = request.getfixturevalue("valkey_shared")
    opened = ValkeyState.connect(service, ValkeySettings(url=f"redis://127.0.0.1:{server.port}"), SystemClock())
    yield opened
    await opened.close()


def relay(state: State, paper: Paper) -> Relay:
    return Relay(state, paper, SystemClock(), SystemIds())


@contextlib.asynccontextmanager
async def running(*relays: Relay) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(each.run()) for each in relays]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def until(what: Callable[[], bool], seconds: float = 8.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.01)


async def emptied(state: State) -> None:
    for _ in range(200):
        if not await state.busy_lanes():
            return
        await asyncio.sleep(0.01)
    raise AssertionError("the lanes were not emptied in time")


async def say(state: State, *events: Event) -> list[str]:
    """The ids of what was put into the lanes."""
    drafts = Outbox("registry", SystemClock()).drafts(events, Cause(id=f"cause{next(numbers)}"))
    await state.apply(Step(AT, f"request{next(numbers)}", drafts=drafts))
    return [draft.id for draft in drafts]


def gone(number: int = 1) -> ImageDeleted:
    return ImageDeleted(project="acme", repository="web", image="app", digest=f"sha256:{number}")


def audit() -> AuditActivity:
    return AuditActivity(project="acme", producer="registry", entry={})


async def test_what_was_said_leaves_soon_in_order_and_the_lane_is_empty(state: State) -> None:
    paper, said = Paper(), list[str]()
    async with running(relay(state, paper)):
        await asyncio.sleep(0.2)
        started = time.monotonic()
        for number in range(5):
            said += await say(state, *map(gone, range(number * 40, number * 40 + 40)))
        await until(lambda: len(paper.said) == 200)
        assert time.monotonic() - started < relays.SWEEP_SECONDS
        assert [message.id for message in paper.said] == said
        assert max(paper.batches) <= relays.BATCH
        await emptied(state)


async def test_what_lay_there_before_the_start_leaves_too(state: State) -> None:
    paper = Paper()
    said = await say(state, gone())
    async with running(relay(state, paper)):
        await until(lambda: [message.id for message in paper.said] == said)


async def test_after_a_failure_it_goes_on_from_the_first_unacknowledged(state: State) -> None:
    paper = Paper()
    failures = iter([BusUnavailable("away"), BusUnavailable("still")])

    def fail(_: Sequence[Message]) -> None:
        for failure in failures:
            raise failure

    paper.fail = fail
    said = await say(state, *map(gone, range(3)))
    async with running(relay(state, paper)):
        await until(lambda: len(paper.said) == 3)
    assert [message.id for message in paper.said] == said


async def test_a_full_stream_stops_its_own_lane_only_and_nothing_is_removed_unsaid(state: State, service: str) -> None:
    paper = Paper()

    def fail(messages: Sequence[Message]) -> None:
        if messages[0].subject.startswith("audit"):
            raise StreamFull("AUDIT")

    paper.fail = fail
    tending = relay(state, paper)
    await say(state, audit())
    async with running(tending):
        await asyncio.sleep(0.5)
        said = await say(state, gone())
        await until(lambda: [message.id for message in paper.said] == said)
        assert tending.oldest() > 0.3
        assert len(await state.entries(Keys(service).lane(AT, "AUDIT"), 10)) == 1
        paper.fail = lambda _: None
        await until(lambda: len(paper.said) == 2)
        await until(lambda: tending.oldest() == 0.0)


async def test_an_error_nobody_foresaw_is_tried_again_without_a_hot_loop(state: State) -> None:
    paper = Paper()

    def fail(_: Sequence[Message]) -> None:
        raise ZeroDivisionError

    paper.fail = fail
    await say(state, gone())
    async with running(relay(state, paper)):
        await until(lambda: len(paper.batches) > 1)
        tried = len(paper.batches)
        await asyncio.sleep(1.0)
        assert len(paper.batches) < tried + 6
        paper.fail = lambda _: None
        await until(lambda: len(paper.said) == 1)


async def test_what_keeps_coming_leaves_together_ten_times_a_second(state: State) -> None:
    paper, said = Paper(), list[str]()
    async with running(relay(state, paper)):
        await asyncio.sleep(0.2)
        began = time.monotonic()
        for number in range(100):
            said += await say(state, gone(number))
            await asyncio.sleep(0.002)
        await until(lambda: len(paper.said) == 100)
        turns = (time.monotonic() - began) / relays.LASTING_PACE_SECONDS
    assert [message.id for message in paper.said] == said
    assert len(paper.batches) <= turns + relays.BURST + 2
    assert await state.busy_lanes() == []


async def test_what_comes_after_a_rest_leaves_at_once_again(state: State) -> None:
    paper = Paper()
    async with running(relay(state, paper)):
        for number in range(30):
            await say(state, gone(number))
            await asyncio.sleep(0.005)
        await until(lambda: len(paper.said) == 30)
        await emptied(state)
        batches = len(paper.batches)
        for number in range(3):
            await say(state, gone(number))
            await until(lambda many=31 + number: len(paper.said) == many)
            await asyncio.sleep(2 * relays.PACE_SECONDS)
    assert paper.batches[batches:] == [1, 1, 1]


async def test_what_comes_after_a_flood_does_not_wait_for_it(state: State) -> None:
    paper = Paper()
    for part in range(20):
        await say(state, *map(gone, range(part * relays.BATCH, (part + 1) * relays.BATCH)))
    async with running(relay(state, paper)):
        await until(lambda: len(paper.said) == 20 * relays.BATCH)
        began = time.monotonic()
        await say(state, gone(1))
        await until(lambda: len(paper.said) == 20 * relays.BATCH + 1)
    assert time.monotonic() - began < 5 * relays.LASTING_PACE_SECONDS


async def test_of_what_lies_there_a_moment_later_only_the_new_leaves_and_at_once(state: State) -> None:
    paper, took = Paper(), list[float]()
    async with running(relay(state, paper)):
        for number in range(8):
            await say(state, gone(number))
            said = time.monotonic()
            await until(lambda many=1 + number: len(paper.said) == many)
            took.append(time.monotonic() - said)
            await asyncio.sleep(2.4 * relays.LINGER_SECONDS if number % 2 else 0.8 * relays.LINGER_SECONDS)
    assert paper.batches == [1] * 8
    assert sorted(took)[4] < relays.PACE_SECONDS


async def test_what_another_replica_adds_to_what_lies_there_leaves_soon_too(state: State, beside: State) -> None:
    paper = Paper()
    async with running(relay(state, paper)):
        await say(state, gone(1))
        await until(lambda: len(paper.said) == 1)
        began = time.monotonic()
        await say(beside, gone(2))
        await until(lambda: len(paper.said) == 2)
        assert time.monotonic() - began < 1.0


async def test_a_stop_removes_what_the_bus_has(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "PACE_SECONDS", 30.0)
    paper = Paper()
    await say(state, gone())
    async with running(relay(state, paper)):
        await until(lambda: len(paper.said) == 1)
    assert await state.busy_lanes() == []


async def test_a_lane_that_was_emptied_stays_with_its_relay_for_a_while(state: State, service: str) -> None:
    paper, lane = Paper(), Keys(service).lane(AT, "EVENTS")
    async with running(relay(state, paper)):
        await say(state, gone())
        await until(lambda: len(paper.said) == 1)
        await asyncio.sleep(0.2)
        assert not await state.acquire(lane, "another", 0.1)
        await say(state, gone())
        await until(lambda: len(paper.said) == 2)


async def test_two_relays_share_the_lanes_and_say_everything_once_in_order(state: State) -> None:
    paper, said = Paper(), list[str]()
    paper.seconds = 0.002
    async with running(relay(state, paper), relay(state, paper)):
        for number in range(100):
            said += await say(state, gone(number))
        await until(lambda: len(paper.said) == 100)
    assert [message.id for message in paper.said] == said
    assert await state.busy_lanes() == []


async def test_a_slow_bus_does_not_cost_the_lease(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relays, "LEASE_SECONDS", 0.3)
    paper = Paper()
    paper.seconds = 1.0
    await say(state, gone())
    async with running(relay(state, paper), relay(state, paper)):
        await until(lambda: len(paper.said) == 1)
        await asyncio.sleep(0.1)
        assert paper.batches == [1]
        assert await state.busy_lanes() == []


async def test_a_relay_whose_lease_went_to_another_removes_nothing(
    state: State, service: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(relays, "LEASE_SECONDS", 0.3)
    paper, lane = Paper(), Keys(service).lane(AT, "EVENTS")
    await say(state, gone())
    assert await state.acquire(lane, "another", 1.0)
    async with running(relay(state, paper)):
        await asyncio.sleep(0.6)
        assert paper.said == []
        assert not await state.remove(Lease(lane, "somebody"), 1)
        await until(lambda: len(paper.said) == 1)


async def test_a_stop_gives_the_lease_back(state: State, service: str) -> None:
    paper, lane = Paper(), Keys(service).lane(AT, "EVENTS")
    paper.seconds = 5.0
    await say(state, gone())
    async with running(relay(state, paper)):
        await until(lambda: paper.batches == [1])
        assert not await state.acquire(lane, "another", 1.0)
    assert await state.acquire(lane, "another", 1.0)


async def test_an_idle_relay_costs_next_to_nothing(state: State) -> None:
    async with running(relay(state, Paper())):
        await asyncio.sleep(0.3)
        before = time.process_time()
        await asyncio.sleep(2.0)
        spent = time.process_time() - before
    assert spent < 0.2, f"{spent:.3f} s of CPU in 2 s"


async def test_killing_valkey_under_load_loses_nothing_and_keeps_the_order(valkey: Server) -> None:
    paper = Paper()
    paper.seconds = 0.001
    settings = ValkeySettings(url=f"redis://127.0.0.1:{valkey.port}", deadline=10.0)
    state = ValkeyState.connect("registry", settings, SystemClock())
    said: list[str] = []
    tending = relay(state, paper)
    async with running(tending, relay(state, paper)):
        for round_ in range(3):
            for number in range(150):
                said += await say(state, gone(1000 * round_ + number))
            valkey.kill()
            await asyncio.sleep(0.1)
            await asyncio.to_thread(valkey.start)
        await until(lambda: len(paper.said) == len(said), 20)
    await state.close()
    assert [message.id for message in paper.said] == said


async def test_a_stream_with_little_room_is_filled_bit_by_bit(state: State) -> None:
    paper = Paper()

    def fail(messages: Sequence[Message]) -> None:
        if len(messages) > 3:
            raise StreamFull("EVENTS")

    paper.fail = fail
    said = await say(state, *map(gone, range(20)))
    async with running(relay(state, paper)):
        await until(lambda: len(paper.said) == 20)
    assert [message.id for message in paper.said] == said
