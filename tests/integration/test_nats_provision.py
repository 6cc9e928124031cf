"""The provisioner on a real server: it shows, does, does once, and loses nothing unsaid."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from prometheus_client import CollectorRegistry

from infra.nats.__main__ import main
from infra.nats.provision import Act, Provisioner, ProvisionRefused, provision
from infra.nats.topology import ADMINISTRATOR, Topology
from shared.bus import Heard
from shared.bus.jetstream import JetStreamBus, Options
from shared.clock import SystemClock
from shared.events.cleanups import CleanupRequested
from shared.events.images import ImageUntagged, ReferrerRequested
from shared.events.states import GroupState
from tests.support.bus import NatsWorld, a_nats_world, bounded, nats_world, until
from tests.support.certificates import self_signed
from tests.support.events import said
from tests.support.servers import running


@pytest.fixture
async def bus() -> AsyncIterator[NatsWorld]:
    async with a_nats_world() as made:
        yield made


@pytest.fixture
async def connection(bus: NatsWorld) -> Client:
    return await bus.client(ADMINISTRATOR)


async def test_what_is_as_it_should_be_is_left_alone(bus: NatsWorld, connection: Client) -> None:
    assert bus.over == []
    topology = Topology(sizes={"JOBS": 40_000})
    assert await Provisioner(connection).plan(topology.streams(), topology.durables()) == []


async def test_a_durable_that_is_missing_is_made_again(bus: NatsWorld, connection: Client) -> None:
    assert bus.over == []
    await connection.request("$JS.API.CONSUMER.DELETE.EVENTS.scanner-image-pushed", b"")
    done = await provision(connection, Topology(sizes={"JOBS": 40_000}))
    assert [str(change) for change in done] == ["create durable scanner-image-pushed on EVENTS"]


async def test_what_would_lose_messages_is_refused_unless_it_is_said(bus: NatsWorld, connection: Client) -> None:
    assert bus.over == []
    smaller = Topology(sizes={"JOBS": 20_000})
    changes = await Provisioner(connection).plan(smaller.streams(), smaller.durables())
    assert [(change.act, change.stream, change.differences) for change in changes] == [
        (Act.SHRINK, "JOBS", ("max_bytes: 40000 -> 20000",))
    ]
    with pytest.raises(ProvisionRefused, match="JOBS"):
        await provision(connection, smaller)
    await provision(connection, smaller, may_shrink=True)
    assert await Provisioner(connection).plan(smaller.streams(), smaller.durables()) == []


async def test_growing_is_an_update(bus: NatsWorld, connection: Client) -> None:
    assert bus.over == []
    done = await provision(connection, Topology(sizes={"JOBS": 80_000}))
    assert [change.act for change in done] == [Act.UPDATE]


async def test_a_durable_that_nobody_ordered_is_shown_and_left(bus: NatsWorld, connection: Client) -> None:
    assert bus.over == []
    await connection.jetstream().pull_subscribe("image.pushed.>", durable="stranger", stream="EVENTS")
    done = await provision(connection, Topology(sizes={"JOBS": 40_000}))
    assert [str(change) for change in done] == ["foreign durable stranger on EVENTS"]
    assert (await connection.jetstream().consumer_info("EVENTS", "stranger")).name == "stranger"


async def test_the_command_plans_and_applies(bus: NatsWorld, capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--server", bus.url, "--passwords", str(bus.folder / "passwords")]
    assert await asyncio.to_thread(main, ["plan", *options]) == 2
    assert "update stream JOBS" in capsys.readouterr().out
    assert await asyncio.to_thread(main, ["apply", *options]) == 0
    assert await asyncio.to_thread(main, ["plan", *options]) == 0


async def test_an_unreachable_server_is_said_in_a_sentence(bus: NatsWorld, capsys: pytest.CaptureFixture[str]) -> None:
    bus.server.stop()
    options = ["--server", bus.url, "--passwords", str(bus.folder / "passwords")]
    assert await asyncio.to_thread(main, ["plan", *options]) == 1
    assert capsys.readouterr().err


async def test_services_speak_tls_where_the_server_has_a_certificate(tmp_path: Path) -> None:
    certificate, key = self_signed(tmp_path)
    world = nats_world(tmp_path, tls=(certificate, key))
    trust = ssl.create_default_context(cafile=certificate)
    with running(world.server):
        options = ["--server", world.url, "--passwords", str(tmp_path / "passwords"), "--ca", str(certificate)]
        assert await asyncio.to_thread(main, ["apply", *options]) == 0
        address = replace(world.address("cleanup"), tls=trust)
        heard: list[str] = []
        facts: list[str] = []

        async def take(event: Heard[ImageUntagged]) -> None:
            heard.append(event.event.tag)

        bus = JetStreamBus("cleanup", address, SystemClock(), Options(over=facts.append))
        bus.work(ImageUntagged, take)
        view = bus.view([GroupState], lambda _one: None)
        await bus.start()
        event = ImageUntagged(project="acme", repository="web", image="app", tag="v1", digest="sha256:0")
        registry = JetStreamBus("registry", replace(world.address("registry"), tls=trust), SystemClock())
        await registry.publisher.publish([said(event)])
        await until(lambda: heard == ["v1"] and view.caught_up)
        await bounded(bus.stop())
        await registry.stop()
        assert facts == []


async def test_where_there_are_several_locations_each_takes_its_own_jobs_and_all_share_the_rest() -> None:
    async with a_nats_world("east", "west") as world:
        taken: dict[str, list[tuple[str, str]]] = {"east": [], "west": []}
        for location, jobs in taken.items():

            async def take(heard: Heard[Any], jobs: list[tuple[str, str]] = jobs) -> None:
                jobs.append((heard.event.topic, heard.event.location))

            options = Options(over=world.over.append, registry=CollectorRegistry(), location=location)
            bus = world.bus_with("registry", options)
            bus.work(CleanupRequested, take)
            bus.work(ReferrerRequested, take)
            await bus.start()
        for number in range(6):
            place = {"project": "acme", "location": ("east", "west")[number % 2], "repository": "gcr.io"}
            cleaning = CleanupRequested.model_validate({**place, "owner": "registry", "run": str(number)})
            image = {"image": "app", "subject_digest": "", "artifact_type": "", "media_type": "", "object": str(number)}
            attaching = ReferrerRequested.model_validate({**place, **image})
            for service, job in (("cleanup", cleaning), ("attestor", attaching)):
                await world.bus(service).publisher.publish([said(job, cause=str(number), producer=service)])
        await until(lambda: sum(map(len, taken.values())) == 12)
        for location, jobs in taken.items():
            assert sorted(jobs) == [("cleanup.requested", location)] * 3 + [("referrer.requested", location)] * 3
        assert await world.stored("JOBS") == []
        assert world.over == []
        connection = await world.client(ADMINISTRATOR)
        topology = Topology(sizes={"JOBS": 40_000}, locations=("east", "west"))
        assert await Provisioner(connection).plan(topology.streams(), topology.durables()) == []


def test_locations_are_told_on_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said_to = [
        "config",
        "--file",
        f"{tmp_path}/nats.json",
        "--store",
        f"{tmp_path}/store",
        "--passwords",
        f"{tmp_path}/p",
    ]
    assert main([*said_to, "--locations", "east, west"]) == 0
    assert "registry-cleanup-requested-west" in (tmp_path / "nats.json").read_text()
    assert "registry-cleanup-requested." not in (tmp_path / "nats.json").read_text()
    with pytest.raises(SystemExit):
        main([*said_to, "--locations", "east,east"])
    assert "locations are written" in capsys.readouterr().err
