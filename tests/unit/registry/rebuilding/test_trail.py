"""How far the registry's audit entries have come is read from the log itself, as the audit log writes it."""

import orjson
from hypothesis import given
from hypothesis import strategies as st

from services.audit_log.completeness import Completeness
from services.audit_log.entries import Pending, Source
from services.audit_log.segments import Head, object_of, written
from services.audit_log.snapshots import Snapshot, Snapshots
from services.registry.rebuilding import trail
from shared.blobs.memory import MemoryBlobs


async def test_numbers_come_from_the_latest_snapshot_and_the_segments_behind_it() -> None:
    blobs, completeness = MemoryBlobs(lambda: 0.0), Completeness()
    for number in (1, 2, 3):
        completeness.came("registry", "audit.activity", "demo", number)
    await Snapshots(blobs).write(Snapshot(Head(segment=2, sequence=3), [], completeness))
    await blobs.put(object_of(1), b"not read: the snapshot knows it")
    entries = [entry("registry", 4), entry("identity", 9), entry("registry", 5), entry("registry/0/1", 7)]
    await blobs.put(object_of(2), written(Head(segment=2, sequence=3), entries, "now"))
    found = [(number.project, number.sequence) async for number in trail.numbers(blobs, "registry")]
    assert found == [("demo", 3), ("demo", 4), ("demo", 5)]


async def test_without_a_snapshot_all_segments_are_read() -> None:
    blobs = MemoryBlobs(lambda: 0.0)
    for segment in (0, 1):
        head = Head(segment=segment, sequence=segment)
        await blobs.put(object_of(segment), written(head, [entry("registry", segment + 1)], "now"))
    assert [number.sequence async for number in trail.numbers(blobs, "registry")] == [1, 2]


async def test_where_there_is_no_log_there_are_no_numbers() -> None:
    assert [number async for number in trail.numbers(MemoryBlobs(lambda: 0.0), "registry")] == []


@given(st.binary(max_size=60) | st.recursive(st.text() | st.none(), st.lists).map(orjson.dumps))
async def test_a_snapshot_that_cannot_be_read_is_passed_over(content: bytes) -> None:
    blobs = MemoryBlobs(lambda: 0.0)
    await blobs.put(f"{trail.SNAPSHOTS}0000000001.json", content)
    await blobs.put(object_of(0), written(Head(), [entry("registry", 1)], "now"))
    assert [number.sequence async for number in trail.numbers(blobs, "registry")] == [1]


def entry(producer: str, number: int) -> Pending:
    return Pending(Source(producer, "audit.activity", "demo", number, f"event-{number}"), {"insertId": str(number)})
