"""The audit log on a directory and on both buses: replicas share the work, one dies, and nothing is lost or doubled."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.audit_log.handlers import Handlers
from services.audit_log.log import AuditLog, Bounds
from services.audit_log.sequencer import Sequencer
from services.audit_log.verification import verified
from shared.blobs.directory import DirectoryBlobs
from shared.bus import Bus, BusUnavailable, StreamFull
from shared.clock import SystemClock
from shared.events.audit import AuditAccess, AuditActivity
from tests.support.bus import BusWorld, a_memory_world, a_nats_world, until
from tests.support.events import said

ENTRIES = 1200


@pytest.fixture(params=["memory", "nats"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[BusWorld]:
    async with a_memory_world() if request.param == "memory" else a_nats_world() as made:
        yield made


async def replica(bus: Bus, folder: Path) -> AuditLog:
    """One replica of the audit log that hears activity and access."""
    clock = SystemClock()
    log = AuditLog(DirectoryBlobs(folder), clock, Bounds(snapshot_every=8))
    handlers = Handlers(Sequencer(log, clock, 0.02), clock)
    bus.work(AuditActivity, handlers.on_entry, at_once=64)
    bus.work(AuditAccess, handlers.on_entry, at_once=64)
    await bus.start()
    return log


async def say(bus: Bus, first: int, last: int) -> None:
    """Say entries that are numbered without a gap."""
    for number in range(first, last):
        entry = {"insertId": f"i{number}", "timestamp": f"2026-01-01T00:00:00.{number:06d}Z"}
        event = AuditActivity(project="acme", producer="registry", entry=entry)
        message = said(event, cause=f"c{number}", sequence=number + 1)
        while True:
            try:
                await bus.publisher.publish([message])
            except (BusUnavailable, StreamFull):
                await asyncio.sleep(0.05)
                continue
            break


async def test_replicas_write_one_log_and_one_may_die_meanwhile(world: BusWorld, tmp_path: Path) -> None:
    one, other = world.bus("audit_log"), world.bus("audit_log")
    await replica(one, tmp_path)
    await replica(other, tmp_path)
    speaker = world.bus("registry")
    await say(speaker, 0, ENTRIES // 2)
    await one.stop()
    await say(speaker, ENTRIES // 2, ENTRIES)
    reader = AuditLog(DirectoryBlobs(tmp_path), SystemClock())

    async def all_written() -> None:
        while reader.head.sequence < ENTRIES:
            await asyncio.sleep(0.05)
            await reader.follow()

    await asyncio.wait_for(all_written(), 60)
    await asyncio.sleep(0.2)
    await reader.follow()
    names = [str(record.entry["insertId"]) async for record in reader.since(0)]
    assert sorted(names) == sorted(f"i{number}" for number in range(ENTRIES))
    assert reader.completeness.missing() == 0
    assert (await verified(DirectoryBlobs(tmp_path), reader.head)).broken == ""
    assert reader.head.segment < ENTRIES, "entries that come together are written together"


async def test_a_start_on_an_old_folder_goes_on_where_it_ended(world: BusWorld, tmp_path: Path) -> None:
    first = world.bus("audit_log")
    log = await replica(first, tmp_path)
    speaker = world.bus("registry")
    await say(speaker, 0, 100)
    await until(lambda: log.head.sequence == 100)
    await first.stop()
    await say(speaker, 100, 200)
    again = await replica(world.bus("audit_log"), tmp_path)
    await until(lambda: again.head.sequence == 200)
    assert [record.source["sequence"] async for record in again.since(0)] == list(range(1, 201))
