"""Registries of two locations, each with its own state and bucket, on one bus: who serves what, and who says where."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from services.cleanup.app import build as build_cleanup
from services.registry.app import build as build_registry
from services.scanner.app import build as build_scanner
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.clock import SystemClock, SystemIds, in_a_thread
from shared.events import Event
from shared.events.cleanups import CleanupRequested, Doomed
from shared.events.images import ImagePushed, ReferrerRequested
from shared.events.scans import ScanCompleted
from shared.outbox import Outbox
from shared.parts import Build
from shared.relay import Relay
from shared.settings import SettingsWrong
from shared.state.memory import MemoryState
from tests.support.events import said
from tests.support.images import Image
from tests.support.parts import MemoryParts, client_of, memory_parts
from tests.support.registry import ADA, ENVIRONMENT, NAME, RegistryClient, granted
from tests.support.scans import ADMIN, PERMISSIONS, ScannerAtWork, osv, python_image

LOCATIONS = ("east", "west")
HOSTS = {"ENTREPOT_LOCATIONS": "east=east.example.test west=west.example.test:5443"}
HERE = "projects/demo/locations"


@dataclass
class World:
    """Two registries and who hears them."""

    registries: dict[str, RegistryClient]
    scanner: ScannerAtWork
    cleanup: MemoryParts
    broker: MemoryBroker

    def said(self, event: type[Event]) -> list[Any]:
        """What was said on a topic, by whomever."""
        stored = (orjson.loads(one.content) for one in self.broker.messages(event.stream) if one.topic == event.topic)
        return [event.model_validate(one["data"]) for one in stored]

    async def ask(self, event: Event) -> None:
        """Publish a job."""
        await self.scanner.memory.parts.bus.publisher.publish([said(event)])


async def until(found: Callable[[], Any]) -> Any:
    """Wait until there is something."""
    async with asyncio.timeout(20):
        while not (value := found()):  # noqa: ASYNC110 - it comes from many sides
            await asyncio.sleep(0.02)
    return value


@pytest.fixture
async def world() -> AsyncGenerator[World]:
    broker = MemoryBroker(SystemClock())
    registries = {location: granted(at(location, "registry", broker)) for location in LOCATIONS}
    buckets = {location: made.parts.blobs for location, made in registries.items()}
    scanner, cleanup = at("middle", "scanner", broker), at("middle", "cleanup", broker)
    scanner.grant("projects/demo", ADMIN, *PERMISSIONS)
    async with AsyncExitStack() as stack:
        clients = {
            location: await stack.enter_async_context(running(reading(made, buckets), build_registry))
            for location, made in registries.items()
        }
        scans = await stack.enter_async_context(running(reading(scanner, buckets), build_scanner))
        await stack.enter_async_context(running(reading(cleanup, buckets), build_cleanup))
        yield World(clients, ScannerAtWork(scans.parts, scans.client), cleanup, broker)


def at(location: str, service: str, broker: MemoryBroker) -> MemoryParts:
    """Parts of a deployment in a location, with a state and a bucket of its own."""
    own = {"ENTREPOT_SCANNER_REGISTRY_HOST": "LOCATION-docker.pkg.dev"}
    made = memory_parts(service, environment={**ENVIRONMENT, **HOSTS, **own, "ENTREPOT_LOCATION": location})
    clock = SystemClock()
    parts = dataclasses.replace(
        made.parts,
        clock=clock,
        ids=SystemIds(),
        cpu=in_a_thread,
        state=MemoryState(service, clock.monotonic, made.store),
        bus=MemoryBus(service, clock, broker, location),
        outbox=Outbox(service, clock),
    )
    return dataclasses.replace(made, parts=parts, broker=broker)


def reading(made: MemoryParts, buckets: dict[str, Any]) -> MemoryParts:
    """The same, able to read the buckets of other locations."""
    others = {location: blobs for location, blobs in buckets.items() if blobs is not made.parts.blobs}
    return dataclasses.replace(made, parts=dataclasses.replace(made.parts, elsewhere=others))


@asynccontextmanager
async def running(made: MemoryParts, build: Build) -> AsyncGenerator[RegistryClient]:
    """A service with its relay."""
    service, parts = build(made.parts), made.parts
    relay = asyncio.create_task(Relay(parts.state, parts.bus.publisher, parts.clock, parts.ids).run())
    async with client_of(service, parts) as client:
        yield RegistryClient(client, made, ADA, service)
    relay.cancel()
    await asyncio.gather(relay, return_exceptions=True)


def objects(world: World, location: str) -> set[str]:
    return set(world.registries[location].parts.bucket.objects)


async def pushed(world: World, location: str, image: Image) -> None:
    await world.registries[location].push(image, "v1")


async def test_a_push_lies_in_the_bucket_of_its_location_and_is_announced_from_there(world: World) -> None:
    image = python_image(("requests", "2.0"))
    await pushed(world, "west", image)
    assert not [name for name in objects(world, "east") if image.digest[7:] in name]
    assert [name for name in objects(world, "west") if image.digest[7:] in name]
    [event] = await until(lambda: world.said(ImagePushed))
    assert (event.location, event.repository, event.digest) == ("west", "web", image.digest)
    assert (await world.registries["east"].call("GET", f"/v2/{NAME}/manifests/v1")).status == 404


async def test_names_and_addresses_say_where_and_gcloud_can_read_them(world: World) -> None:
    image = python_image(("requests", "2.0"))
    for location in LOCATIONS:
        await pushed(world, location, image)
    for location, oci in world.registries.items():
        repository = f"{HERE}/{location}/repositories/web"
        [found] = (await oci.call("GET", f"/v1/{repository}/dockerImages")).json["dockerImages"]
        assert found["name"].startswith(f"{repository}/dockerImages/app@")
        assert found["uri"] == f"{location}-docker.pkg.dev/demo/web/app@{image.digest}"
        made = (await oci.call("GET", f"/v1/{repository}")).json
        assert (made["name"], made["registryUri"]) == (repository, f"{location}-docker.pkg.dev/demo/web")


async def test_every_registry_lists_all_locations_and_serves_its_own(world: World) -> None:
    await pushed(world, "west", python_image(("requests", "2.0")))
    east = world.registries["east"]
    listed = (await east.call("GET", "/v1/projects/demo/locations")).json["locations"]
    assert [one["locationId"] for one in listed] == list(LOCATIONS)
    assert (await east.call("GET", f"/v1/{HERE}/west")).json["name"] == f"{HERE}/west"
    assert (await east.call("GET", f"/v1/{HERE}/north")).status == 404
    for verb, path, content in (
        ("GET", "west/repositories", None),
        ("GET", "west/repositories/web", None),
        ("GET", "west/repositories/web/dockerImages", None),
        ("POST", "west/repositories?repositoryId=new", b"{}"),
        ("DELETE", "west/repositories/web", None),
    ):
        answer = await east.call(verb, f"/v1/{HERE}/{path}", content)
        assert answer.status == 404
        assert "west.example.test:5443" in json.dumps(answer.json)
    assert (await world.registries["west"].call("GET", f"/v1/{HERE}/west/repositories/web")).status == 200


async def test_the_challenge_names_the_registry_of_the_location(world: World) -> None:
    answer = await world.registries["west"].by("").call("GET", "/v2/")
    assert 'service="west.example.test:5443"' in answer.headers["WWW-Authenticate"]


async def test_images_of_both_locations_are_scanned_from_their_own_buckets_and_kept_apart(world: World) -> None:
    scanner = world.scanner
    await scanner.client.post(
        "/v1/projects/demo/advisories:import?source=test",
        data=orjson.dumps([osv("GHSA-1", "PyPI", "requests", {"introduced": "0"})]),
        headers={"Authorization": f"Bearer as:{ADMIN}"},
    )
    both, alone = python_image(("requests", "2.0")), python_image(("requests", "2.1"))
    await pushed(world, "east", both)
    await pushed(world, "west", both)
    await pushed(world, "west", alone)

    def scans() -> set[tuple[str, str, str]]:
        return {(one.location, one.digest, one.status) for one in world.said(ScanCompleted)}

    wanted = {("east", both.digest), ("west", both.digest), ("west", alone.digest)}
    await until(lambda: len(scans()) == len(wanted))
    assert scans() == {(*one, "FINISHED_SUCCESS") for one in wanted}
    listed = (await scanner.get("/v1/projects/demo/occurrences?pageSize=1000"))["occurrences"]
    uris = {one["resourceUri"] for one in listed if one["kind"] == "DISCOVERY"}
    assert uris == {f"https://{location}-docker.pkg.dev/demo/web/app@{digest}" for location, digest in wanted}


async def test_a_cleanup_job_is_done_by_the_registry_of_its_location_alone(world: World) -> None:
    image = python_image(("requests", "2.0"))
    for location in LOCATIONS:
        await pushed(world, location, image)
        answer = await world.registries[location].call("DELETE", f"/v2/{NAME}/manifests/v1")
        assert answer.status == 202
    doomed = Doomed(image="app", digest=image.digest, generation=99, tags=())
    job = {"owner": "registry", "project": "demo", "location": "west", "repository": "web", "run": "r1"}
    await world.ask(CleanupRequested.model_validate({**job, "versions": (doomed,)}))
    path = f"/v2/{NAME}/manifests/{image.digest}"
    async with asyncio.timeout(20):
        while (await world.registries["west"].call("HEAD", path)).status != 404:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (await world.registries["east"].call("HEAD", path)).status == 200
    assert world.broker.messages("DEAD") == []


async def test_what_is_to_be_attached_is_found_in_the_bucket_of_another_location(world: World) -> None:
    image = python_image(("requests", "2.0"))
    await pushed(world, "west", image)
    await world.registries["east"].parts.parts.blobs.put("attestor/demo/one", b'{"attested": true}')
    await world.ask(
        ReferrerRequested(
            project="demo", location="west", repository="web", image="app", subject_digest=image.digest,
            artifact_type="application/vnd.test", media_type="application/json", object="attestor/demo/one",
        )
    )  # fmt: skip
    async with asyncio.timeout(20):
        while True:
            found = (await world.registries["west"].call("GET", f"/v2/{NAME}/referrers/{image.digest}")).json
            if found["manifests"]:
                break
            await asyncio.sleep(0.05)
    assert found["manifests"][0]["artifactType"] == "application/vnd.test"


def test_a_registry_whose_location_is_not_listed_does_not_start() -> None:
    made = at("middle", "registry", MemoryBroker(SystemClock()))
    with pytest.raises(SettingsWrong, match="middle"):
        build_registry(made.parts)
