"""The real bus when things go wrong: killed servers, missing rights, silence, other people's tricks."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from nats.errors import Error
from nats.errors import TimeoutError as NoAnswer
from prometheus_client import CollectorRegistry

from infra.nats.topology import ADMINISTRATOR
from shared.bus import BusUnavailable, Heard, Later, Message, Publisher, following, working
from shared.bus.connection import Address, BusMayLose
from shared.bus.jetstream import JetStreamBus, Options
from shared.clock import SystemClock
from shared.events import Event
from shared.events.images import ImageDeleted, ImagePushed, ImageUntagged
from shared.events.states import GroupState
from tests.support.bus import NatsWorld, a_nats_world, bounded, until
from tests.support.events import said
from tests.support.ports import free_port
from tests.support.servers import nats_server, running


@pytest.fixture
async def bus() -> AsyncIterator[NatsWorld]:
    async with a_nats_world() as made:
        yield made


def untagged(number: int, project: str = "acme") -> Message:
    event = ImageUntagged(project=project, repository="web", image="app", tag=f"v{number}", digest="sha256:0")
    return said(event, cause=f"c{number}", sequence=number)


def group(email: str) -> Message:
    return said(GroupState(project="acme", email=email), cause=email, producer="identity")


async def _note(world: NatsWorld, heard: list[int], service: str = "cleanup", at_once: int = 8) -> JetStreamBus:
    async def take(event: Heard[ImageUntagged]) -> None:
        heard.append(event.sequence)

    made = world.bus_with(service, Options(over=world.over.append))
    made.work(ImageUntagged, take, at_once=at_once)
    await made.start()
    return made


async def _alter(world: NatsWorld, durable: str, **changes: Any) -> None:
    client = await world.client(ADMINISTRATOR)
    info = json.loads((await client.request(f"$JS.API.CONSUMER.INFO.EVENTS.{durable}", b"")).data)
    config = info["config"] | changes
    body = json.dumps({"stream_name": "EVENTS", "config": config, "action": "update"}).encode()
    subject = f"$JS.API.CONSUMER.CREATE.EVENTS.{durable}.{config['filter_subject']}"
    assert b'"error"' not in (await client.request(subject, body)).data
    await client.close()


# Servers that die.


async def test_a_killed_server_loses_nothing_acknowledged_and_all_resumes(bus: NatsWorld) -> None:
    heard: list[int] = []
    facts: list[str] = []
    await _note(bus, heard)
    watcher = bus.bus("registry")
    view = watcher.view([GroupState], lambda one: facts.append(_email(one)))
    await watcher.start()
    acknowledged: list[int] = []
    ending = asyncio.Event()
    publishing = asyncio.create_task(_publish_on(bus, acknowledged, ending))
    for _ in range(3):
        goal = len(acknowledged) + 40
        await until(lambda goal=goal: len(acknowledged) > goal)
        bus.server.kill()
        await asyncio.sleep(0.3)
        bus.server.start()
    ending.set()
    await publishing
    # What was on its way when the server died comes again once its time to be answered has run out.
    await until(lambda: set(acknowledged) <= set(heard), 60)
    assert len(await bus.stored("EVENTS")) == len(set(acknowledged))
    await bus.bus("identity").publisher.publish([group("after")])
    await until(lambda: facts == ["after"] and view.age() < 5, 30)
    assert bus.over == []


async def _publish_on(world: NatsWorld, acknowledged: list[int], ending: asyncio.Event) -> None:
    publisher = world.bus("registry").publisher
    number = 0
    while not ending.is_set():
        await _publish(publisher, [untagged(number + n) for n in range(10)])
        acknowledged += range(number, number + 10)
        number += 10
        await asyncio.sleep(0.01)


async def _publish(publisher: Publisher, batch: list[Message]) -> None:
    """As the relay does: the same once more, until it is acknowledged; the bus may have it already."""
    while True:
        try:
            await publisher.publish(batch)
        except BusUnavailable:
            await asyncio.sleep(0.05)
        else:
            return


async def test_a_bus_that_is_away_at_the_start_is_joined_when_it_comes(bus: NatsWorld) -> None:
    bus.server.stop()
    heard: list[int] = []
    facts: list[str] = []
    replica = bus.bus_with("cleanup", Options(over=bus.over.append))

    async def take(event: Heard[ImageUntagged]) -> None:
        heard.append(event.sequence)

    replica.work(ImageUntagged, take)
    view = replica.view([GroupState], lambda one: facts.append(_email(one)))
    await bounded(replica.start())
    with pytest.raises(BusUnavailable):
        await replica.publisher.publish([group("x")])
    await asyncio.sleep(1.5)
    assert not view.caught_up
    bus.server.start()
    await bus.bus("registry").publisher.publish([untagged(1)])
    await until(lambda: heard == [1] and view.caught_up)
    assert bus.over == []


async def test_a_replica_starts_from_its_snapshot_while_the_bus_is_away(bus: NatsWorld, tmp_path: Path) -> None:
    await bus.bus("identity").publisher.publish([group("a"), group("b")])
    first, _ = await _watch(bus, tmp_path)
    await first.stop()
    assert [file.stat().st_mode & 0o777 for file in tmp_path.iterdir()] == [0o600]  # noqa: ASYNC240 - a test
    bus.server.stop()
    second, facts = await _watch(bus, tmp_path)
    assert facts == ["a", "b"]
    view = second._views[0]
    assert view.age() < 30
    bus.server.start()
    await bus.bus("identity").publisher.publish([group("c")])
    await until(lambda: facts == ["a", "b", "c"])


async def _watch(world: NatsWorld, folder: Path) -> tuple[JetStreamBus, list[str]]:
    facts: list[str] = []
    made = world.bus_with("registry", Options(snapshots=folder, over=world.over.append))
    view = made.view([GroupState], lambda one: facts.append(_email(one)))
    await made.start()
    await until(lambda: view.caught_up)
    return made, facts


async def test_a_view_of_a_stream_that_was_made_anew_begins_anew(bus: NatsWorld) -> None:
    await bus.bus("identity").publisher.publish([group(name) for name in "abcdef"])
    _, facts = await _watch(bus, bus.folder)
    client = await bus.client(ADMINISTRATOR)
    await client.request("$JS.API.STREAM.DELETE.STATE", b"")
    await client.close()
    await bus.provision()
    await bus.bus("identity").publisher.publish([group("new")])
    await until(lambda: facts[6:] == ["new"])


async def test_a_paused_server_is_no_acknowledgement(bus: NatsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.bus.publisher.DEADLINE_SECONDS", 1.0)
    publisher = bus.bus("registry").publisher
    await publisher.publish([untagged(0)])
    bus.server.pause()
    try:
        started = time.monotonic()
        with pytest.raises(BusUnavailable):
            await publisher.publish([untagged(n) for n in range(1, 5)])
        assert time.monotonic() - started < 5
    finally:
        bus.server.go_on()
    await publisher.publish([untagged(n) for n in range(1, 5)])
    assert len(await bus.stored("EVENTS")) == 5


async def test_a_connection_that_can_never_come_about_ends_the_process(bus: NatsWorld) -> None:
    address = Address((bus.url,), "scanner", "wrong password")
    over: list[str] = []
    made = JetStreamBus("scanner", address, SystemClock(), Options(over=over.append))
    made.view([GroupState], lambda _one: None)
    await made.start()
    await until(lambda: over)
    await made.stop()


async def test_a_connection_that_closes_ends_the_process(bus: NatsWorld) -> None:
    made = await _note(bus, [])
    await until(lambda: made._broker is not None and made._broker._connection is not None)
    assert made._broker is not None
    assert made._broker._connection is not None
    await made._broker._connection.close()
    await until(lambda: bus.over)


async def test_a_server_that_does_not_sync_is_refused_unless_loss_is_accepted(tmp_path: Path) -> None:
    lossy = nats_server(tmp_path)
    text = (tmp_path / "nats.conf").read_text().replace("sync_interval: always", "sync_interval: 2m")
    monitor = free_port()
    (tmp_path / "nats.conf").write_text(text + f"http: 127.0.0.1:{monitor}\n")
    with running(lossy):
        address = Address((f"nats://127.0.0.1:{lossy.port}",), monitor=f"http://127.0.0.1:{monitor}")
        with pytest.raises(BusMayLose, match="sync_interval"):
            await JetStreamBus("scanner", address, SystemClock()).start()
        accepting = JetStreamBus("scanner", address, SystemClock(), Options(accept_loss=True))
        await accepting.start()
        await accepting.stop()


# Silence and long work.


async def test_heartbeats_keep_long_work(bus: NatsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "HEARTBEAT_SECONDS", 0.3)
    await _alter(bus, "cleanup-image-untagged", ack_wait=1_000_000_000)
    calls: list[int] = []

    async def take(event: Heard[ImageUntagged]) -> None:
        calls.append(event.delivery)
        await asyncio.sleep(4)

    made = bus.bus("cleanup")
    made.work(ImageUntagged, take)
    await made.start()
    await bus.bus("registry").publisher.publish([untagged(1)])
    await until(lambda: calls)
    await asyncio.sleep(6)
    assert calls == [1]


async def test_a_replica_that_dies_loses_its_message_to_another(
    bus: NatsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "HEARTBEAT_SECONDS", 3600)
    await _alter(bus, "cleanup-image-untagged", ack_wait=1_000_000_000)
    deliveries: list[int] = []

    async def die_once(event: Heard[ImageUntagged]) -> None:
        deliveries.append(event.delivery)
        if event.delivery == 1:
            await asyncio.sleep(5)

    made = bus.bus("cleanup")
    made.work(ImageUntagged, die_once)
    await made.start()
    await bus.bus("registry").publisher.publish([untagged(1)])
    await until(lambda: deliveries == [1, 2])


async def test_the_watchdog_takes_a_silent_durable_up_anew(bus: NatsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(working, "SILENCE_SECONDS", 1.0)
    monkeypatch.setattr(working, "FETCH_SECONDS", 1.0)
    await _alter(bus, "cleanup-image-untagged", ack_wait=1_000_000_000)
    heard: list[int] = []
    made = await _note(bus, heard)
    await bus.bus("registry").publisher.publish([untagged(1)])
    await until(lambda: heard == [1])
    for task in made._worker.works[0].subscribers[0].tasks:
        task.cancel()
    await asyncio.sleep(0.1)
    await bus.bus("registry").publisher.publish([untagged(2)])
    await until(lambda: heard == [1, 2])


async def test_an_idle_durable_is_not_a_silent_one(bus: NatsWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    # Short fetches: between two of them no request waits at the server, and the watchdog looks just then.
    monkeypatch.setattr(working, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(working, "FETCH_SECONDS", 0.15)
    counted = CollectorRegistry()
    heard: list[int] = []

    async def take(event: Heard[ImageUntagged]) -> None:
        heard.append(event.sequence)

    made = bus.bus_with("cleanup", Options(over=bus.over.append, registry=counted))
    made.work(ImageUntagged, take)
    await made.start()
    await asyncio.sleep(6)
    await bus.bus("registry").publisher.publish([untagged(1)])
    await until(lambda: heard == [1])
    assert _restarts(counted) == 0


async def test_a_durable_whose_messages_all_wait_for_later_is_not_silent(
    bus: NatsWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(working, "SILENCE_SECONDS", 0.1)
    monkeypatch.setattr(working, "FETCH_SECONDS", 0.15)
    await _alter(bus, "cleanup-image-untagged", max_ack_pending=2)
    counted = CollectorRegistry()
    heard: list[int] = []

    async def put_off(event: Heard[ImageUntagged]) -> None:
        heard.append(event.sequence)
        raise Later("not yet", 60)

    made = bus.bus_with("cleanup", Options(over=bus.over.append, registry=counted))
    made.work(ImageUntagged, put_off)
    await made.start()
    await bus.bus("registry").publisher.publish([untagged(number) for number in range(4)])
    await until(lambda: len(heard) == 2)
    await asyncio.sleep(3)
    assert (len(heard), _restarts(counted)) == (2, 0)


def _restarts(counted: CollectorRegistry) -> float:
    labels = {"service": "cleanup", "durable": "cleanup-image-untagged"}
    return counted.get_sample_value("entrepot_bus_restarts_total", labels) or 0


async def test_a_message_that_the_server_gave_up_is_a_dead_letter_and_can_be_redriven(bus: NatsWorld) -> None:
    await _alter(bus, "cleanup-image-untagged", ack_wait=200_000_000, max_deliver=2)
    await bus.bus("registry").publisher.publish([untagged(1)])
    client = await bus.client("cleanup")
    puller = await client.jetstream().pull_subscribe(
        "image.untagged.>", durable="cleanup-image-untagged", stream="EVENTS"
    )
    for _ in range(2):
        await puller.fetch(1, timeout=3)
        await asyncio.sleep(0.4)
    with pytest.raises(NoAnswer):
        await puller.fetch(1, timeout=1)
    await client.close()
    letters = bus.dead()
    async with asyncio.timeout(20):
        while not (found := [letter async for letter in letters.all()]):  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.1)
    assert [(one.service, one.delivery, one.content) for one in found] == [
        ("cleanup-image-untagged", 2, untagged(1).content)
    ]
    heard: list[int] = []
    await _note(bus, heard)
    await letters.redrive(found[0].number)
    await until(lambda: heard == [1])


# Rights.


async def test_nobody_can_say_what_is_another_services(bus: NatsWorld) -> None:
    publisher = bus.bus("scanner").publisher
    event = ImageDeleted(project="acme", repository="web", image="app", digest="sha256:0")
    client = await bus.client("scanner")
    for subject in (
        event.subject(),
        "audit.activity.registry.acme",
        "dead.registry.image.deleted.acme._.web",
        "state.account.acme._.x",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.AUDIT",
        "$JS.API.CONSUMER.CREATE.EVENTS.mine.image.pushed.>",
        "$JS.API.CONSUMER.CREATE.STATE",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.attestor-image-pushed",
        "$JS.API.DIRECT.GET.EVENTS",
        "$JS.API.STREAM.MSG.GET.AUDIT",
        "$JS.ACK.AUDIT.audit_log-audit-activity.1.1.1.1.1",
    ):
        with pytest.raises((NoAnswer, Error)):
            await client.request(subject, b"{}", timeout=0.3)
    await client.close()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("shared.bus.publisher.DEADLINE_SECONDS", 1.0)
        with pytest.raises(BusUnavailable):
            await publisher.publish([said(event, producer="registry")])
    assert await bus.stored("EVENTS") == []


async def test_nobody_can_listen_to_another_services_answers(bus: NatsWorld) -> None:
    refused: list[str] = []

    async def note(error: Exception) -> None:
        refused.append(str(error))

    client = await bus.client("scanner")
    client._error_cb = note
    for subject in ("_INBOX_registry.>", ">", "audit.>", "image.pushed.>"):
        await client.subscribe(subject)
        await until(lambda: refused)
        refused.clear()
    await client.close()


async def test_a_copy_that_a_reader_had_sent_elsewhere_is_not_believed(bus: NatsWorld) -> None:
    # A reader may name any subject as the one to be answered on, and the server answers there.
    forged = said(ImageUntagged(project="acme", repository="web", image="app", tag="x", digest="sha256:0"))
    inside = GroupState(project="acme", email="a").subject()
    identity = await bus.client("identity")
    await identity.jetstream().publish(inside, forged.content)
    wanted = json.dumps({"batch": 1, "seq": 1, "next_by_subj": "state.>"}).encode()
    await identity.publish("$JS.API.DIRECT.GET.STATE", wanted, reply="image.untagged.acme._.web")
    await identity.flush()
    await identity.close()
    heard: list[int] = []
    await _note(bus, heard)
    letters = bus.dead()
    async with asyncio.timeout(20):
        while not [one async for one in letters.all(service="cleanup")]:  # noqa: ASYNC110 - another process does it
            await asyncio.sleep(0.1)
    assert heard == []


async def test_an_outside_subscriber_hears_what_was_chosen_and_can_do_nothing_else(bus: NatsWorld) -> None:
    publisher = bus.bus("registry").publisher
    pushed = ImagePushed(
        project="acme", repository="web", image="app", digest="sha256:0", media_type="m", size=1, uploaded="now"
    )
    deleted = ImageDeleted(project="acme", repository="web", image="app", digest="sha256:0")
    await publisher.publish([said(pushed), said(deleted), untagged(1), untagged(2, "other")])
    client = await bus.client("outside-acme")
    stream = client.jetstream(timeout=1)
    ordered = await stream.subscribe("image.>", stream="EVENTS", ordered_consumer=True)
    subjects = [(await ordered.next_msg(10)).subject for _ in range(2)]
    assert subjects == ["image.pushed.acme._.web", "image.untagged.acme._.web"]
    with pytest.raises(NoAnswer):
        await ordered.next_msg(0.5)
    filtered = await stream.pull_subscribe("image.untagged.>", durable="mine", stream="EVENTS")
    assert [message.subject for message in await filtered.fetch(1, timeout=5)] == ["image.untagged.acme._.web"]
    for subject in (
        "image.pushed.acme._.web",
        "scan.requested.acme._.web",
        "$JS.API.STREAM.DELETE.EVENTS",
        "$JS.API.STREAM.PURGE.EVENTS",
        "$JS.API.STREAM.CREATE.MINE",
        "$JS.API.STREAM.UPDATE.EVENTS",
        "entrepot.api.CONSUMER.CREATE.EVENTS.mine",
    ):
        with pytest.raises((NoAnswer, Error)):
            await client.request(subject, b"{}", timeout=0.3)
    await client.close()
    assert len(await bus.stored("EVENTS")) == 4
    assert await bus.stored("JOBS") == []


async def test_a_service_may_be_stopped_at_any_moment_of_its_start(bus: NatsWorld) -> None:
    async def take(_event: Heard[Any]) -> None: ...

    before = len(asyncio.all_tasks())
    for moment in range(40):
        stopped = bus.bus_with("cleanup", Options(over=bus.over.append))
        for event in (ImagePushed, ImageUntagged, ImageDeleted):
            stopped.work(event, take)
        stopped.view([GroupState], lambda _: None)
        await stopped.start()
        await asyncio.sleep(moment * 0.001)
        async with asyncio.timeout(9):
            await stopped.stop()
    assert bus.over == []
    await until(lambda: len(asyncio.all_tasks()) == before, 5)


def _email(heard: Heard[Event]) -> str:
    assert isinstance(heard.event, GroupState)
    return heard.event.email


def test_views_are_asked_often_enough_to_notice_silence_in_time() -> None:
    assert following.IDLE_SECONDS < 10
