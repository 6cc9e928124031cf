"""When cleanup comes round: each day once, whatever the clocks of its replicas say and however often these restart."""

import asyncio
import random
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace

import pytest

from services.cleanup.app import build
from services.cleanup.calendar import Calendar
from services.cleanup.repositories import Repositories
from services.cleanup.store import Place, Schedule, Store
from services.cleanup.sweep import Habits, Sweeper, SweepLoop
from shared.bus import Heard
from shared.clock import rfc3339
from shared.events import Event
from shared.events.images import ImagePushed, RepositoryState
from tests.support.clock import EPOCH, FakeClock
from tests.support.events import said
from tests.support.parts import MemoryParts, client_of, memory_parts

AT = {"project": "demo", "location": "local", "repository": "web"}
OLD = {"old": {"action": "DELETE", "condition": {"olderThan": "30d"}}}
HOUR, DAY = 3600.0, 86_400.0


@dataclass
class Wall:
    """A replica's own clock on the wall, set wrong at will; what passes is the same for all."""

    common: FakeClock
    wrong: float = 0.0

    def now(self) -> float:
        return self.common.now() + self.wrong

    def monotonic(self) -> float:
        return self.common.monotonic()

    async def sleep(self, seconds: float) -> None:
        await self.common.sleep(seconds)


@dataclass
class Replica:
    """One replica of cleanup, which can be stopped and started again."""

    memory: MemoryParts
    wall: Wall
    running: AsyncExitStack = field(default_factory=AsyncExitStack)

    async def start(self) -> None:
        service = build(replace(self.memory.parts, clock=self.wall))
        await self.running.enter_async_context(client_of(service, self.memory.parts))
        loops = [asyncio.create_task(loop()) for loop in service.background]
        self.running.callback(lambda: [loop.cancel() for loop in loops])


@dataclass
class Pair:
    """Two replicas on one state store."""

    replicas: list[Replica]

    @property
    def memory(self) -> MemoryParts:
        return self.replicas[0].memory

    async def hear(self, *events: Event, generation: int = 1) -> None:
        now = rfc3339(self.memory.clock.now())
        cause = str(generation)
        messages = [
            said(event, cause=cause + event.model_dump_json(), generation=generation, time=now) for event in events
        ]
        await self.memory.parts.bus.publisher.publish(messages)
        for _ in range(20):
            await asyncio.sleep(0.003)
            await self.memory.clock.advance(0.01)

    async def pass_(self, seconds: float, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Time passes in steps of the loop's own, and some of what can happen to clocks happens."""
        until = self.memory.clock.monotonic() + seconds
        while self.memory.clock.monotonic() < until:
            await self.memory.clock.advance(601)
            meanwhile()

    def runs(self) -> int:
        return len(self.memory.announced("cleanup.planned"))


@pytest.fixture
async def pair() -> AsyncGenerator[Pair]:
    environment = {"ENTREPOT_CLEANUP_CHECK_SECONDS": "600"}
    first = memory_parts("cleanup", environment=environment)
    second = memory_parts("cleanup", environment=environment, shared=first)
    found = Pair([Replica(memory, Wall(first.clock)) for memory in (first, second)])
    for replica in found.replicas:
        await replica.start()
    yield found
    for replica in found.replicas:
        await replica.running.aclose()


def days(count: float) -> tuple[int, int]:
    """How often cleanup may come round in so many days: it looks every ten minutes, so that it is never early."""
    return int(count * 144 / 146) - 1, int(count)


async def test_two_replicas_run_once_a_day_whatever_their_clocks_say(pair: Pair) -> None:
    await pair.hear(RepositoryState(**AT, cleanup_policies=OLD))
    draw = random.Random(11)  # noqa: S311 - a seeded generator is the point

    def jump() -> None:
        if draw.random() < 0.2:
            draw.choice(pair.replicas).wall.wrong = draw.choice((0.0, -400 * DAY, -5 * HOUR, 7 * HOUR, 3 * DAY))

    least, most = days(30)
    await pair.pass_(30 * DAY, jump)
    assert least <= pair.runs() <= most


async def test_a_replica_that_is_days_ahead_neither_runs_early_nor_keeps_the_other_waiting(pair: Pair) -> None:
    await pair.hear(RepositoryState(**AT, cleanup_policies=OLD))
    pair.replicas[0].wall.wrong = 40 * DAY
    await pair.pass_(20 * HOUR)
    assert pair.runs() == 0
    await pair.replicas[0].running.aclose()
    await pair.pass_(5 * HOUR)
    assert pair.runs() == 1


async def test_restarts_put_no_run_off_and_make_none_twice(pair: Pair) -> None:
    await pair.hear(RepositoryState(**AT, cleanup_policies=OLD))
    for day in range(1, 6):
        for _ in range(4):
            for replica in pair.replicas:
                await replica.running.aclose()
            await pair.pass_(3 * HOUR)  # nobody is there
            for replica in pair.replicas:
                await replica.start()
            await pair.pass_(3 * HOUR)
        least, most = day - 1, day
        assert least <= pair.runs() <= most


async def test_what_was_due_while_nobody_was_there_is_done_once_at_the_return(pair: Pair) -> None:
    await pair.hear(RepositoryState(**AT, cleanup_policies=OLD))
    await pair.pass_(25 * HOUR)
    for replica in pair.replicas:
        await replica.running.aclose()
    await pair.pass_(5 * DAY)
    for replica in pair.replicas:
        await replica.start()
    await pair.pass_(HOUR)
    assert pair.runs() == 2


async def test_a_repository_made_anew_rests_before_its_first_run(pair: Pair) -> None:
    await pair.hear(RepositoryState(**AT, cleanup_policies=OLD, created="2026-01-01T00:00:00Z"))
    await pair.pass_(25 * HOUR)
    assert pair.runs() == 1
    await pair.hear(RepositoryState(**AT, deleted=True))
    await pair.pass_(9 * DAY)
    await pair.hear(RepositoryState(**AT, cleanup_policies=OLD, created="2026-01-10T00:00:00Z"))
    await pair.pass_(20 * HOUR)
    assert pair.runs() == 1
    await pair.pass_(5 * HOUR)
    assert pair.runs() == 2


async def test_a_clock_that_is_set_forward_makes_nothing_old(pair: Pair) -> None:
    young = "sha256:" + "a" * 64
    push = ImagePushed(**AT, image="app", digest=young, tag="v1", media_type="m", size=1, uploaded=rfc3339(EPOCH - DAY))
    await pair.hear(push, RepositoryState(**AT, cleanup_policies=OLD))
    for replica in pair.replicas:
        replica.wall.wrong = 400 * DAY
    await pair.pass_(25 * HOUR)
    assert pair.runs() == 1
    assert pair.memory.announced("cleanup.requested") == []


def test_the_calendar_follows_a_clock_that_is_put_back_and_not_one_that_is_set_forward() -> None:
    wall = Wall(FakeClock())
    calendar = Calendar(wall)
    wall.wrong = 5 * DAY
    assert calendar.now() == EPOCH
    wall.wrong = -HOUR
    assert calendar.now() == EPOCH - HOUR


@pytest.mark.parametrize("without", [RepositoryState(**AT, created="x"), RepositoryState(**AT, deleted=True)])
async def test_policies_that_were_taken_away_run_no_more_and_begin_with_a_rest_when_they_come_back(
    pair: Pair, without: RepositoryState
) -> None:
    policies = RepositoryState(**AT, cleanup_policies=OLD, created="x")
    await pair.hear(policies, generation=1)
    await pair.pass_(1.5 * DAY)
    assert pair.runs() == 1
    await pair.hear(without, generation=2)
    await pair.pass_(3 * DAY)
    assert pair.runs() == 1
    parts = pair.memory.parts
    assert await parts.state.record(parts.keys.of("demo", "followed")) == {}
    await pair.hear(policies, generation=3)
    await pair.pass_(0.9 * DAY)
    assert pair.runs() == 1
    await pair.pass_(0.2 * DAY)
    assert pair.runs() == 2


async def test_policies_that_come_back_within_the_rest_begin_with_a_whole_one(pair: Pair) -> None:
    policies = RepositoryState(**AT, cleanup_policies=OLD)
    await pair.hear(policies, generation=1)
    await pair.pass_(0.5 * DAY)
    await pair.hear(RepositoryState(**AT), generation=2)
    await pair.pass_(HOUR)
    await pair.hear(policies, generation=3)
    await pair.pass_(0.9 * DAY)
    assert pair.runs() == 0
    await pair.pass_(0.2 * DAY)
    assert pair.runs() == 1


async def test_a_replica_that_has_not_heard_of_the_policies_yet_ends_nobodys_schedule() -> None:
    memory = memory_parts("cleanup")
    store = Store(memory.parts.state, memory.parts.keys, memory.parts.outbox)
    place, behind = Place("demo", "local", "web"), Repositories()
    behind.heard(heard(RepositoryState(**AT), 4))
    await store.follow(place, None, Schedule("", 5), 60, "follow")
    sweeper = Sweeper(store, memory.parts.blobs, behind, memory.clock, memory.parts.cpu, Habits(0))
    loop = SweepLoop(sweeper, store, behind, memory.clock, memory.parts.ids, 60)
    await loop.once()
    assert await store.schedules("demo") == {place: Schedule("", 5)}
    behind.heard(heard(RepositoryState(**AT), 6))
    await loop.once()
    assert await store.schedules("demo") == {}


def heard(fact: RepositoryState, generation: int) -> Heard[Event]:
    return Heard(event=fact, id=str(generation), generation=generation, sequence=generation, time="")
