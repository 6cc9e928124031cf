"""Two replicas each of attestor, cleanup and audit log on one state, bus and bucket: nothing is done twice."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from services.attestor.app import build as build_attestor
from services.audit_log.app import build as build_audit_log
from services.cleanup.app import build as build_cleanup
from shared.clock import rfc3339
from shared.events import Event
from shared.events.audit import AuditActivity
from shared.events.images import ImagePushed, RepositoryState
from shared.events.scans import ScanCompleted
from shared.parts import Build
from tests.support.clock import EPOCH
from tests.support.events import said
from tests.support.parts import Client, MemoryParts, bearer, client_of, json_of, memory_parts

ADMIN = "user:admin@x.example"
AT = {"project": "demo", "location": "local", "repository": "web", "image": "app"}
IMAGES = 30

Twins = Callable[[str, Build, list[str]], Awaitable[tuple[list[MemoryParts], list[Client]]]]


@pytest.fixture
async def twins() -> AsyncIterator[Twins]:
    """Makes two replicas of a service, with their loops running."""
    async with AsyncExitStack() as stack:

        async def make(name: str, build: Build, permissions: list[str]) -> tuple[list[MemoryParts], list[Client]]:
            first = memory_parts(name)
            both = [first, memory_parts(name, shared=first)]
            clients: list[Client] = []
            for memory in both:
                memory.grant("projects/demo", ADMIN, *permissions)
                service = build(memory.parts)
                clients.append(await stack.enter_async_context(client_of(service, memory.parts)))
                for loop in service.background:
                    stack.callback(asyncio.create_task(loop()).cancel)
            return both, clients

        yield make


async def hear(memory: MemoryParts, *events: Event) -> None:
    """Say events and let them be handled."""
    messages = [
        said(event, cause=f"{event.topic}-{number}", generation=number + 1, sequence=number + 1)
        for number, event in enumerate(events)
    ]
    await memory.parts.bus.publisher.publish(messages)
    for _ in range(60):
        await asyncio.sleep(0.005)
        await memory.clock.advance(0.2)


def digest(number: int) -> str:
    return f"sha256:{number:064x}"


def pushed(number: int) -> ImagePushed:
    uploaded = rfc3339(EPOCH - (100 - number) * 86_400)
    return ImagePushed(**AT, digest=digest(number), tag=f"v{number}", media_type="m", size=1, uploaded=uploaded)


async def test_two_attestors_sign_each_image_once(twins: Twins) -> None:
    both, clients = await twins("attestor", build_attestor, ["binaryauthorization.attestors.create"])
    body = {"autoAttest": {"maximumFixableSeverity": "LOW"}}
    made = await clients[0].post("/v1/projects/demo/attestors?attestorId=a", json=body, headers=bearer(ADMIN))
    assert made.status == 200
    scans = [ScanCompleted(**AT, digest=digest(number), advisories="s", scanned="now") for number in range(IMAGES)]
    await hear(both[0], *(pushed(number) for number in range(IMAGES)), *scans)
    signed = [event.data["digest"] for event in both[0].announced("attestation.created")]
    assert sorted(signed) == [digest(number) for number in range(IMAGES)]
    assert len(both[0].announced("referrer.requested")) == IMAGES


async def test_of_two_cleanups_one_begins_a_periodic_run(twins: Twins) -> None:
    both, _ = await twins("cleanup", build_cleanup, [])
    policies: dict[str, dict[str, object]] = {"old": {"action": "DELETE", "condition": {"olderThan": "30d"}}}
    state = RepositoryState(project="demo", location="local", repository="web", cleanup_policies=policies)
    await hear(both[0], *(pushed(number) for number in range(IMAGES)), state)
    await both[0].clock.advance(90_000)
    for _ in range(30):
        await asyncio.sleep(0.005)
    (planned,) = both[0].announced("cleanup.planned")
    jobs = both[0].announced("cleanup.requested")
    assert planned.data["count"] == IMAGES
    assert sum(len(job.data["versions"]) for job in jobs) == IMAGES


async def test_two_audit_logs_list_the_same(twins: Twins) -> None:
    both, clients = await twins("audit_log", build_audit_log, ["logging.logEntries.list"])
    entries = [
        AuditActivity(project="demo", producer="registry", entry={"insertId": f"i{number}"}) for number in range(IMAGES)
    ]
    await hear(both[0], *entries)
    listed: list[list[str]] = []
    for client in clients:
        body = {"resourceNames": ["projects/demo"], "pageSize": 100}
        found = await json_of(await client.post("/v2/entries:list", json=body, headers=bearer(ADMIN)))
        listed.append([entry["insertId"] for entry in found["entries"]])
    assert listed[0] == listed[1]
    assert sorted(listed[0]) == sorted(f"i{number}" for number in range(IMAGES))
