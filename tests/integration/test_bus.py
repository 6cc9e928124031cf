"""One suite over the bus in memory and a real server: what services rely on, whichever they are given."""

import asyncio
import time
from collections.abc import AsyncIterator

import pytest

from shared.bus import Heard, Later, Message, Reject, StreamFull
from shared.events import Event
from shared.events.audit import AuditActivity
from shared.events.builds import BuildRequested
from shared.events.images import ImageUntagged
from shared.events.scans import ScanRequested
from shared.events.states import GroupState
from tests.support.bus import BusWorld, a_memory_world, a_nats_world, until
from tests.support.events import said


@pytest.fixture(params=["memory", "nats"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[BusWorld]:
    async with a_memory_world() if request.param == "memory" else a_nats_world() as made:
        yield made


def untagged(number: int) -> Message:
    event = ImageUntagged(project="acme", repository="web", image="app", tag=f"v{number}", digest="sha256:0")
    return said(event, cause=f"c{number}", sequence=number, generation=number)


def job(number: int) -> Message:
    event = ScanRequested(project="acme", repository="web", image="app", digest=f"sha256:{number}", reason="x" * 1000)
    return said(event, cause=f"j{number}", producer="scanner")


def group(email: str, *members: str) -> Message:
    return said(
        GroupState(project="acme", email=email, members=members), cause=f"{email}{members}", producer="identity"
    )


async def test_all_is_heard_in_full(world: BusWorld) -> None:
    heard: list[Heard[ImageUntagged]] = []
    await _listen(world, "cleanup", heard)
    await world.bus("registry").publisher.publish([untagged(7)])
    await until(lambda: heard)
    only = heard[0]
    assert (only.event.tag, only.generation, only.sequence, only.delivery) == ("v7", 7, 7, 1)
    assert (only.actor, only.id) == ("user:somebody@example.com", untagged(7).id)


async def test_what_was_said_before_a_service_first_came_is_heard(world: BusWorld) -> None:
    await world.bus("registry").publisher.publish([untagged(1)])
    heard: list[Heard[ImageUntagged]] = []
    await _listen(world, "cleanup", heard)
    await until(lambda: heard)


async def test_twins_are_dropped_in_batches_and_alone(world: BusWorld) -> None:
    publisher = world.bus("registry").publisher
    await publisher.publish([untagged(n) for n in range(3)])
    await publisher.publish([untagged(n) for n in range(5)])
    await publisher.publish([untagged(4)])
    await publisher.publish([untagged(n) for n in range(3, 7)])
    assert len(await world.stored("EVENTS")) == 7


async def test_many_messages_stay_in_order(world: BusWorld) -> None:
    await world.bus("registry").publisher.publish([untagged(n) for n in range(200)])
    heard: list[Heard[ImageUntagged]] = []

    async def take(event: Heard[ImageUntagged]) -> None:
        heard.append(event)

    bus = world.bus("cleanup")
    bus.work(ImageUntagged, take, at_once=1)
    await bus.start()
    await until(lambda: len(heard) == 200)
    assert [event.event.tag for event in heard] == [f"v{n}" for n in range(200)]


async def test_two_replicas_share_the_work(world: BusWorld) -> None:
    heard: list[list[Heard[ImageUntagged]]] = [[], []]
    for each in heard:
        await _listen(world, "cleanup", each, seconds=0.02)
    await world.bus("registry").publisher.publish([untagged(n) for n in range(60)])
    await until(lambda: len(heard[0]) + len(heard[1]) >= 60)
    await asyncio.sleep(0.3)
    assert sorted(event.sequence for each in heard for event in each) == list(range(60))
    assert all(len(each) > 5 for each in heard)


async def test_two_services_each_hear_all(world: BusWorld) -> None:
    cleanup: list[Heard[ImageUntagged]] = []
    attestor: list[Heard[ImageUntagged]] = []
    await _listen(world, "cleanup", cleanup)
    await _listen(world, "attestor", attestor)
    await world.bus("registry").publisher.publish([untagged(n) for n in range(5)])
    await until(lambda: len(cleanup) == len(attestor) == 5)


async def test_what_is_rejected_is_a_dead_letter_with_its_reason_and_can_be_redriven(world: BusWorld) -> None:
    mended = False
    heard: list[Heard[ImageUntagged]] = []

    async def take(event: Heard[ImageUntagged]) -> None:
        if not mended:
            raise Reject("no such image:\napp \u2013 at all")
        heard.append(event)

    bus = world.bus("cleanup")
    bus.work(ImageUntagged, take)
    await bus.start()
    await world.bus("registry").publisher.publish([untagged(1)])
    letters = world.dead()
    async with asyncio.timeout(20):
        while not [letter async for letter in letters.all()]:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)
    found = [letter async for letter in letters.all(service="cleanup")]
    assert [(letter.service, letter.subject, letter.delivery) for letter in found] == [
        ("cleanup", "image.untagged.acme._.web", 1)
    ]
    assert found[0].reason.startswith("no such image:")
    assert found[0].content == untagged(1).content
    mended = True
    await letters.redrive(found[0].number)
    await until(lambda: heard)
    assert heard[0].id == untagged(1).id
    assert [letter async for letter in letters.all()] == []
    with pytest.raises(LookupError):
        await letters.show(found[0].number)


@pytest.mark.parametrize("content", [b"", b"no json", b'{"specversion": "1.0"}', b"\xff\x00", b"[" * 3000])
async def test_what_cannot_be_read_is_a_dead_letter_and_the_next_is_handled(world: BusWorld, content: bytes) -> None:
    heard: list[Heard[ImageUntagged]] = []
    await _listen(world, "cleanup", heard)
    publisher = world.bus("registry").publisher
    await publisher.publish([Message("x", "image.untagged.acme._.web", content), untagged(2)])
    await until(lambda: heard)
    letters = world.dead()
    async with asyncio.timeout(10):
        while not (found := [letter async for letter in letters.all(service="cleanup")]):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert found[0].content == content
    assert "cannot be read" in found[0].reason


async def test_a_passing_error_is_retried_after_a_delay_not_at_once(world: BusWorld) -> None:
    times: list[float] = []

    async def take(event: Heard[ImageUntagged]) -> None:
        times.append(time.monotonic())
        if event.delivery == 1:
            raise ConnectionError("away")
        if event.delivery == 2:
            raise Later("soon", 0.5)

    bus = world.bus("cleanup")
    bus.work(ImageUntagged, take)
    await bus.start()
    await world.bus("registry").publisher.publish([untagged(1)])
    await until(lambda: len(times) == 3)
    await asyncio.sleep(0.5)
    assert len(times) == 3
    assert 0.9 < times[1] - times[0] < 4
    assert 0.4 < times[2] - times[1] < 3


async def test_one_slow_handler_does_not_hold_up_the_others(world: BusWorld) -> None:
    heard: list[int] = []
    release = asyncio.Event()

    async def take(event: Heard[ImageUntagged]) -> None:
        if event.sequence == 0:
            await release.wait()
        heard.append(event.sequence)

    bus = world.bus("cleanup")
    bus.work(ImageUntagged, take, at_once=4)
    await bus.start()
    await world.bus("registry").publisher.publish([untagged(n) for n in range(20)])
    await until(lambda: len(heard) == 19)
    release.set()
    await until(lambda: len(heard) == 20)


async def test_long_work_comes_one_at_a_time_to_each_replica(world: BusWorld) -> None:
    running = [0, 0]
    most = [0, 0]
    done: list[str] = []
    release = asyncio.Event()
    for replica in range(2):

        async def build(heard: Heard[BuildRequested], replica: int = replica) -> None:
            running[replica] += 1
            most[replica] = max(most[replica], running[replica])
            await release.wait()
            running[replica] -= 1
            done.append(heard.event.build)

        bus = world.bus("builder")
        bus.work(BuildRequested, build, long=True)
        await bus.start()
    builds = [BuildRequested(project="p", build=str(n), object="o") for n in range(3)]
    publisher = world.bus("builder").publisher
    await publisher.publish([said(one, cause=one.build, producer="builder") for one in builds])
    await until(lambda: running == [1, 1])
    await asyncio.sleep(0.5)
    assert running == [1, 1]
    release.set()
    await until(lambda: sorted(done) == ["0", "1", "2"])
    assert most == [1, 1]
    await _emptied(world, "JOBS")


async def test_long_work_runs_as_many_at_once_as_told_and_takes_no_more(world: BusWorld) -> None:
    running: list[str] = []
    release = asyncio.Event()

    async def build(heard: Heard[BuildRequested]) -> None:
        running.append(heard.event.build)
        await release.wait()

    bus = world.bus("builder")
    bus.work(BuildRequested, build, at_once=3, long=True)
    await bus.start()
    builds = [BuildRequested(project="p", build=str(n), object="o") for n in range(5)]
    await bus.publisher.publish([said(one, cause=one.build, producer="builder") for one in builds])
    await until(lambda: len(running) == 3)
    await asyncio.sleep(0.5)
    assert len(running) == 3
    late: list[str] = []

    async def help_out(heard: Heard[BuildRequested]) -> None:
        late.append(heard.event.build)

    helper = world.bus("builder")
    helper.work(BuildRequested, help_out, long=True)
    await helper.start()
    await until(lambda: len(late) == 2)
    release.set()
    await _emptied(world, "JOBS")


async def test_a_full_queue_refuses_and_takes_again_once_there_is_room(world: BusWorld) -> None:
    publisher = world.bus("scanner").publisher

    async def fill() -> None:
        for start in range(0, 100, 10):
            await publisher.publish([job(n) for n in range(start, start + 10)])

    with pytest.raises(StreamFull):
        await fill()
    stored = len(await world.stored("JOBS"))
    assert 0 < stored < 100
    assert stored % 10 == 0

    async def scan(_heard: Heard[ScanRequested]) -> None: ...

    bus = world.bus("scanner")
    bus.work(ScanRequested, scan)
    await bus.start()
    await _emptied(world, "JOBS")
    await publisher.publish([job(n) for n in range(stored, stored + 10)])
    await _emptied(world, "JOBS")


async def test_a_view_catches_up_and_follows(world: BusWorld) -> None:
    publisher = world.bus("identity").publisher
    await publisher.publish([group("a", "x"), group("b", "x"), group("a", "x", "y")])
    facts: list[tuple[str, tuple[str, ...]]] = []
    bus = world.bus("registry")
    view = bus.view([GroupState], lambda heard: facts.append(_members(heard)))
    assert not view.caught_up
    assert view.age() == float("inf")
    await bus.start()
    await until(lambda: view.caught_up)
    assert facts == [("b", ("x",)), ("a", ("x", "y"))]
    assert view.age() < 10
    await publisher.publish([group("c", str(n)) for n in range(600)])
    await until(lambda: facts[-1:] == [("c", ("599",))])
    told = [members for name, members in facts if name == "c"]
    assert told == sorted(told, key=lambda members: int(members[0]))


async def test_a_view_of_several_topics_is_in_the_order_in_which_they_were_said(world: BusWorld) -> None:
    publisher = world.bus("builder").publisher
    from shared.events.builds import BuildCancelled, BuildLog  # noqa: PLC0415

    logs = [BuildLog(project="p", build="b", offset=n, text="x" * 100) for n in range(700)]
    await publisher.publish([said(one, cause=str(one.offset), producer="builder") for one in logs])
    await publisher.publish([said(BuildCancelled(project="p", build="b"), producer="builder")])
    heard: list[Event] = []
    bus = world.bus("builder")
    view = bus.view([BuildLog, BuildCancelled], lambda one: heard.append(one.event))
    await bus.start()
    await until(lambda: view.caught_up and len(heard) == 701)
    assert [one.offset for one in heard if isinstance(one, BuildLog)] == list(range(700))


async def test_an_audit_entry_leaves_its_queue_only_when_it_is_handled(world: BusWorld) -> None:
    entry = AuditActivity(project="acme", producer="registry", entry={"insertId": "1"})
    await world.bus("registry").publisher.publish([said(entry)])
    assert len(await world.stored("AUDIT")) == 1

    async def keep(heard: Heard[AuditActivity]) -> None:
        if heard.delivery == 1:
            raise Later("disk is slow", 0.1)

    bus = world.bus("audit_log")
    bus.work(AuditActivity, keep)
    await bus.start()
    await _emptied(world, "AUDIT")


async def test_a_stop_lets_running_handlers_finish(world: BusWorld) -> None:
    done: list[int] = []
    started = asyncio.Event()

    async def slow(event: Heard[ImageUntagged]) -> None:
        started.set()
        await asyncio.sleep(1)
        done.append(event.sequence)

    bus = world.bus("cleanup")
    bus.work(ImageUntagged, slow, at_once=1)
    await bus.start()
    await world.bus("registry").publisher.publish([untagged(1)])
    async with asyncio.timeout(10):
        await started.wait()
    await bus.stop()
    assert done == [1]
    again: list[Heard[ImageUntagged]] = []
    await _listen(world, "cleanup", again)
    await asyncio.sleep(0.5)
    assert again == []


def _members(heard: Heard[Event]) -> tuple[str, tuple[str, ...]]:
    assert isinstance(heard.event, GroupState)
    return heard.event.email, heard.event.members


async def _listen(world: BusWorld, service: str, heard: list[Heard[ImageUntagged]], seconds: float = 0) -> None:
    async def take(event: Heard[ImageUntagged]) -> None:
        await asyncio.sleep(seconds)
        heard.append(event)

    bus = world.bus(service)
    bus.work(ImageUntagged, take)
    await bus.start()


async def _emptied(world: BusWorld, stream: str) -> None:
    async with asyncio.timeout(20):
        while await world.stored(stream):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.05)
