"""Unfinished uploads live by their signed address: through restarts, at any replica, whatever becomes of the token."""

import asyncio
import os
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from services.registry.app import build
from shared.blobs.directory import DirectoryBlobs
from shared.telemetry.metrics import Metrics
from tests.support.images import digest_of
from tests.support.parts import client_of
from tests.support.registry import ADA, BEN, EVERYTHING, NAME, Answer, RegistryClient, registry

CONTENT = os.urandom(3000)
DIGEST = digest_of(CONTENT)
FIRST, SECOND, THIRD = CONTENT[:1000], CONTENT[1000:1500], CONTENT[1500:]


@pytest.fixture(params=["memory", "directory"])
async def one(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[RegistryClient]:
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    folder = tmp_path / "bucket" if request.param == "directory" else None
    async with registry(folder, upload_key_file=str(key)) as made:
        yield made


@asynccontextmanager
async def another(one: RegistryClient) -> AsyncGenerator[RegistryClient]:
    """A replica beside it, or the same after a restart: it shares state and bucket, and remembers nothing itself."""
    service = build(replace(one.parts.parts, metrics=Metrics("registry")))
    async with client_of(service) as client:
        yield replace(one, client=client, service=service)


async def patch(at: RegistryClient, location: str, content: bytes, start: int, **headers: str) -> Answer:
    span = f"{start}-{start + len(content) - 1}"
    return await at.call("PATCH", location, content, Content_Range=span, **headers)


async def put(at: RegistryClient, location: str, content: bytes = b"", **headers: str) -> Answer:
    return await at.call("PUT", f"{location}&digest={DIGEST}", content or None, **headers)


async def stored(at: RegistryClient) -> bytes:
    return (await at.call("GET", f"/v2/{NAME}/blobs/{DIGEST}")).content


async def test_an_upload_goes_from_replica_to_replica_and_through_a_restart(one: RegistryClient) -> None:
    begun = await one.begin()
    async with another(one) as two:
        first = await patch(two, begun, FIRST, 0)
        second = await patch(one, first.location, SECOND, 1000)
    async with another(one) as three:
        status = await three.call("GET", second.location)
        assert (status.status, status.headers["Range"]) == (204, "0-1499")
        third = await patch(three, status.location, THIRD, 1500)
        assert (await put(one, third.location)).status == 201
        assert await stored(three) == CONTENT


async def test_a_broken_upload_is_resumed_at_the_right_byte_by_another_replica(one: RegistryClient) -> None:
    begun = await one.begin()
    server = one.client.server
    _, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"PATCH {begun} HTTP/1.1\r\nHost: x\r\nContent-Length: 3000\r\n\r\n".encode() + FIRST + SECOND[:77])
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.transport.abort()
    async with another(one) as two:
        for _ in range(100):
            status = await two.call("GET", begun)
            if status.headers["Range"] == "0-1076":
                break
            await asyncio.sleep(0.02)
        assert (status.status, status.headers["Range"]) == (204, "0-1076")
        refused = await patch(two, status.location, THIRD, 1500)
        assert (refused.status, refused.headers["Range"]) == (416, "0-1076")
        rest = await patch(two, refused.location, CONTENT[1077:], 1077)
        assert (await put(two, rest.location)).status == 201
        assert await stored(one) == CONTENT


async def test_of_two_replicas_that_take_the_same_chunk_at_once_one_has_it(one: RegistryClient) -> None:
    begun = await one.begin()
    async with another(one) as two:
        answers = await asyncio.gather(*(patch(at, begun, FIRST, 0) for at in (one, two)))
        assert sorted(answer.status for answer in answers) == [202, 416]
        status = await one.call("GET", begun)
        assert status.headers["Range"] == "0-999"
        assert (await put(two, status.location, CONTENT[1000:])).status == 201
        assert await stored(one) == CONTENT


async def test_a_blob_comes_whole_at_another_replica_than_the_one_that_was_asked(one: RegistryClient) -> None:
    begun = await one.begin()
    async with another(one) as two:
        assert (await put(two, begun, CONTENT)).status == 201
        assert await stored(one) == CONTENT
        assert (await put(one, begun, CONTENT)).status == 201, "a client that did not hear the answer asks again"
        assert (await put(one, begun)).status == 201
    assert len(one.parts.audited()) == 2  # the repository and the blob, once


async def test_a_whole_blob_counts_whatever_was_sent_to_the_same_address_before(one: RegistryClient) -> None:
    begun = await one.begin()
    await patch(one, begun, b"something else", 0)
    assert (await put(one, begun, CONTENT)).status == 201
    assert await stored(one) == CONTENT


@pytest.mark.parametrize("came", [0, 1, 77, 499, 500, 501, len(CONTENT) - 1000], ids=str)
async def test_a_closing_request_with_the_last_bytes_is_sent_again_after_a_crash(
    one: RegistryClient, came: int
) -> None:
    first = await patch(one, await one.begin(), FIRST, 0)
    last = CONTENT[1000:]
    if came:
        assert (await patch(one, first.location, last[:came], 1000)).status == 202  # as far as the crash let it come
    async with another(one) as two:
        assert (await put(two, first.location, last)).status == 201
        assert (await put(two, first.location, last)).status == 201
        assert await stored(one) == CONTENT


async def test_one_address_for_all_chunks_is_as_good_as_each_its_own(one: RegistryClient) -> None:
    begun = await one.begin()
    for chunk in (FIRST, SECOND):
        assert (await one.call("PATCH", begun, chunk)).status == 202
    assert (await put(one, begun, THIRD)).status == 201
    assert await stored(one) == CONTENT


async def test_last_bytes_that_begin_as_those_before_are_not_taken_for_them(one: RegistryClient) -> None:
    begun, chunk, last = await one.begin(), b"a" * 500 + b"b" * 500, b"a" * 500 + b"c" * 500
    assert (await one.call("PATCH", begun, chunk)).status == 202
    closed = await one.call("PUT", f"{begun}&digest={digest_of(chunk + last)}", last)
    assert closed.status == 201, closed


@pytest.mark.parametrize("content", [b"", FIRST], ids=["before its first byte", "with bytes"])
async def test_what_one_replica_cancelled_is_unknown_to_all(one: RegistryClient, content: bytes) -> None:
    begun = newest = await one.begin()
    if content:
        newest = (await patch(one, begun, content, 0)).location
    async with another(one) as two:
        assert (await two.call("DELETE", newest)).status == 204
        for at in (one, two):
            for address in (begun, newest):
                assert (await at.call("GET", address)).status == 404
                assert (await patch(at, address, CONTENT, 0)).status == 404
                assert (await put(at, address, CONTENT)).status == 404
    assert (await one.call("HEAD", f"/v2/{NAME}/blobs/{DIGEST}")).status == 404


async def test_the_bearers_expiry_ends_nothing_and_the_addresss_own_does(one: RegistryClient) -> None:
    patched = await patch(one, await one.begin(), FIRST, 0)
    await one.parts.clock.advance(86_000)
    async with another(one) as two:
        stale = {"Authorization": "Bearer expired long ago"}
        patched = await patch(two, patched.location, SECOND, 1000, **stale)
        assert patched.status == 202
        await one.parts.clock.advance(500)
        for at in (one, two):
            answers = [
                await at.call("GET", patched.location),
                await patch(at, patched.location, THIRD, 1500),
                await put(at, patched.location, THIRD),
            ]
            assert [(answer.status, answer.code) for answer in answers[1:]] == [(404, "BLOB_UPLOAD_UNKNOWN")] * 2
            assert answers[0].status == 404


async def test_a_small_blob_does_not_slip_through_an_expired_address(one: RegistryClient) -> None:
    begun = await one.begin()
    await one.parts.clock.advance(86_401)
    assert (await put(one, begun, CONTENT)).status == 404


async def test_expired_bytes_are_cleared_by_any_replica_and_those_under_way_stay(one: RegistryClient) -> None:
    old, fresh = await one.begin(), await one.begin()
    await patch(one, old, FIRST, 0)
    await patch(one, fresh, FIRST, 0)
    blobs = one.parts.parts.blobs
    if isinstance(blobs, DirectoryBlobs):
        now = time.time()
        await one.parts.clock.advance(now - one.parts.clock.now())
        path = next(path for path in blobs._uploads.iterdir() if path.name in old)
        os.utime(path, (now - 86_401, now - 86_401))
    else:
        await one.parts.clock.advance(86_000)
        patched = await patch(one, fresh, SECOND, 1000)
        assert patched.status == 202
        await one.parts.clock.advance(500)
    async with another(one) as two:
        assert await two.background[1].__self__.uploads.forget_expired() == 1
    assert [upload.name async for upload in blobs.uploads()] == [next(u for u in fresh.split("/") if "?" in u)[:32]]


async def test_what_follows_in_an_upload_waits_in_the_line_of_the_account_that_began_it(one: RegistryClient) -> None:
    one.parts.grant("projects/demo", BEN, *EVERYTHING)
    narrow = one.parts.parts.settings.model_copy(update={"calls_streamed": 1, "calls_wait_seconds": 0.3})
    service = build(replace(one.parts.parts, settings=narrow, metrics=Metrics("registry")))
    async with client_of(service) as client:
        ada = replace(one, client=client, service=service)
        ben = ada.by(BEN)
        held, next_one, of_ben = await ada.begin(), await ada.begin(), await ben.begin()
        _, writer = await asyncio.open_connection(client.server.host, client.server.port)
        head = f"PATCH {held} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer as:{ADA}\r\nContent-Length: 3000\r\n\r\n"
        writer.write(head.encode() + FIRST)
        await writer.drain()
        await asyncio.sleep(0.1)
        assert (await patch(ben, of_ben, FIRST, 0)).status == 202
        assert (await patch(ada, next_one, FIRST, 0)).status == 429
        assert (await patch(ben, next_one, FIRST, 0)).status == 429, "it is the address that counts"
        writer.transport.abort()


async def test_an_upload_ends_with_its_repository(one: RegistryClient) -> None:
    begun, patched = await one.begin(), await patch(one, await one.begin(), CONTENT, 0)
    gone = await one.call("DELETE", "/v1/projects/demo/locations/local/repositories/web")
    assert gone.status == 200
    async with another(one) as two:
        for answer in (await put(two, begun, CONTENT), await put(two, patched.location)):
            assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")
        await two.begin()  # makes the repository anew
        assert (await put(two, begun, CONTENT)).status == 201
        assert await stored(one) == CONTENT
