import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.audit_log.completeness import Completeness
from services.audit_log.filters import parse
from services.audit_log.log import AuditLog, Bounds
from services.audit_log.merkle import EMPTY_ROOT, Frontier, leaf_hash, node_hash
from services.audit_log.query import Place, Query, Reader
from services.audit_log.segments import Head, SegmentBroken, object_of, read, written
from services.audit_log.verification import verified
from shared.blobs.memory import MemoryBlobs, MemoryBucket
from tests.support.audit import entry
from tests.support.clock import FakeClock


def log_over(bucket: MemoryBucket, **bounds: int) -> AuditLog:
    clock = FakeClock()
    return AuditLog(MemoryBlobs(clock.now, bucket), clock, Bounds(**bounds))


def root_of(leaves: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, word for word."""
    if not leaves:
        return EMPTY_ROOT
    if len(leaves) == 1:
        return leaf_hash(leaves[0])
    split = 1
    while split * 2 < len(leaves):
        split *= 2
    return node_hash(root_of(leaves[:split]), root_of(leaves[split:]))


@given(st.lists(st.binary(max_size=4), max_size=70), st.integers(0, 70))
def test_the_frontier_has_the_root_of_rfc_6962(leaves: list[bytes], cut: int) -> None:
    hashes = [leaf_hash(leaf) for leaf in leaves]
    assert Frontier().with_leaves(hashes[:cut]).with_leaves(hashes[cut:]).root() == root_of(leaves)


def test_the_known_roots_of_certificate_transparency() -> None:
    leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
    frontier = Frontier().with_leaves([leaf_hash(bytes.fromhex(leaf)) for leaf in leaves])
    assert frontier.root().hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


async def test_entries_come_back_in_order_and_twins_are_left_out() -> None:
    log = log_over(MemoryBucket())
    assert await log.append([entry(1), entry(2), entry(1)]) == 2
    assert await log.append([entry(2), entry(3)]) == 1
    assert await log.append([entry(3)]) == 0
    assert [record.sequence async for record in log.since(0)] == [0, 1, 2]
    assert [record.entry["insertId"][-1] async for record in log.since(1)] == ["2", "3"]


async def test_two_replicas_write_one_log() -> None:
    bucket = MemoryBucket()
    one, other = log_over(bucket), log_over(bucket)
    for number in range(0, 20, 2):
        await one.append([entry(number)])
        await other.append([entry(number), entry(number + 1)])
    await one.follow()
    assert one.head == other.head
    assert [record.source["sequence"] async for record in one.since(0)] == list(range(1, 21))
    assert one.completeness.missing() == 0


async def test_a_segment_whose_writer_died_before_it_knew_is_taken_over() -> None:
    bucket = MemoryBucket()
    dead, heir = log_over(bucket), log_over(bucket)
    await dead.append([entry(0)])
    await heir.append([entry(0), entry(1)])
    assert heir.head.sequence == 2
    assert (await verified(heir._blobs, heir.head)).broken == ""


async def test_a_start_from_a_snapshot_knows_the_same() -> None:
    bucket = MemoryBucket()
    log = log_over(bucket, snapshot_every=4)
    for number in (0, 1, 2, 4, 5, 6):
        await log.append([entry(number)])
    fresh = log_over(bucket)
    await fresh.follow()
    assert (fresh.head, fresh.spans) == (log.head, log.spans)
    assert fresh.completeness == log.completeness
    assert fresh.completeness.missing() == 1
    assert await fresh.append([entry(1)]) == 0


@pytest.mark.parametrize("change", ["flip", "cut", "swap", "drop"])
async def test_every_tampering_shows(change: str) -> None:
    bucket = MemoryBucket()
    log = log_over(bucket)
    for number in range(6):
        await log.append([entry(2 * number), entry(2 * number + 1)])
    blobs = log._blobs
    middle = await blobs.content(object_of(3))
    match change:
        case "flip":
            await blobs.put(object_of(3), middle.replace(b"NOTICE", b"NOTHIN", 1))
        case "cut":
            await blobs.put(object_of(3), middle[:-40])
        case "swap":
            await blobs.put(object_of(3), await blobs.content(object_of(2)))
        case _:
            await blobs.delete(object_of(3))
    found = await verified(blobs, log.head)
    assert found.broken
    assert found.head.segment == 3


async def test_a_log_rewritten_from_some_point_on_does_not_have_the_known_hash() -> None:
    bucket = MemoryBucket()
    log = log_over(bucket)
    await log.append([entry(0)])
    head = Head()
    forged = written(head, [entry(9)], "now")
    await log._blobs.put(object_of(0), forged)
    assert read(forged, head).after.sequence == 1
    assert "hash" in (await verified(log._blobs, log.head)).broken


@given(st.binary(max_size=80))
def test_any_bytes_are_a_segment_or_broken(content: bytes) -> None:
    with pytest.raises(SegmentBroken):
        read(content, Head())


@given(st.lists(st.integers(1, 40), max_size=60))
def test_what_is_missing_is_what_did_not_come(numbers: list[int]) -> None:
    seen = Completeness()
    for number in numbers:
        seen.came("p", "t", "demo", number)
    expected = set(range(1, max(numbers, default=0))) - set(numbers)
    assert seen.missing() == len(expected)
    gaps = {n for found in seen.incomplete().values() for first, last in found.gaps for n in range(first, last + 1)}
    assert gaps == expected


@given(
    st.lists(st.tuples(st.integers(0, 9), st.sampled_from(["demo", "other"]), st.booleans()), max_size=40),
    st.integers(1, 4),
    st.integers(1, 5),
    st.sampled_from(["asc", "desc"]),
    st.sampled_from(["", "protoPayload.methodName=m1", 'timestamp>="2026-01-01T00:04:00Z"', "NOT severity=INFO"]),
    st.integers(1, 50),
)
async def test_pages_give_what_sorting_everything_gives(  # noqa: PLR0917 - one for each thing drawn
    made: list[tuple[int, str, bool]], batch: int, size: int, order: str, text: str, most: int
) -> None:
    descending = order == "desc"
    log = log_over(MemoryBucket())
    entries = [
        entry(number, minute=minute, project=project, log="data_access" if private else "activity")
        for number, (minute, project, private) in enumerate(made)
    ]
    for start in range(0, len(entries), batch):
        await log.append(entries[start : start + batch])
    query = Query(frozenset({"demo"}), frozenset[str](), parse(text), descending)
    reader, found, after = Reader(log, max(most, 12)), list[str](), None
    for _ in range(200):
        page = await reader.page(query, after, size)
        found += [str(one["insertId"]) for one in page.entries]
        after: Place | None = page.next
        if after is None:
            break
    numbered = [(str(one.entry["timestamp"]), number, one.entry) for number, one in enumerate(entries)]
    wanted = sorted((one for one in numbered if query.takes(one[2])), key=lambda one: one[:2], reverse=descending)
    assert found == [one[2]["insertId"] for one in wanted]


def test_the_chain_hash_is_the_hash_of_the_object() -> None:
    content = written(Head(), [entry(0)], "now")
    assert read(content, Head()).after.hash == hashlib.sha256(content).hexdigest()
