"""Uploads: every style that clients have, out of order, broken off, resumed, cancelled, mounted."""

import asyncio
import gzip
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from services.registry.app import build
from shared.events.states import ProjectState
from tests.support.images import digest_of
from tests.support.parts import client_of
from tests.support.registry import ADA, BEN, EVERYTHING, NAME, RegistryClient, registry, sha512_of

CONTENT = bytes(range(256)) * 4
DIGEST = digest_of(CONTENT)
FIRST, SECOND = CONTENT[:300], CONTENT[300:]


async def finish(oci: RegistryClient, location: str, content: bytes = b"", digest: str = DIGEST, **headers: str) -> int:
    answer = await oci.call("PUT", f"{location}&digest={digest}", content or None, **headers)
    if answer.status == 201:
        assert answer.location == f"/v2/{NAME}/blobs/{digest}"
        assert answer.headers["Docker-Content-Digest"] == digest
    return answer.status


async def stored(oci: RegistryClient, digest: str = DIGEST) -> bytes | None:
    answer = await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")
    return answer.content if answer.status == 200 else None


async def test_an_upload_begins_with_an_address_a_range_and_an_id(oci: RegistryClient) -> None:
    answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/")
    assert (answer.status, answer.headers["Range"], answer.headers["Content-Length"]) == (202, "0-0", "0")
    assert answer.headers["Docker-Upload-UUID"] in answer.location
    assert answer.location.startswith(f"/v2/{NAME}/blobs/uploads/")


async def test_uploads_begin_with_and_without_a_slash_at_the_end(oci: RegistryClient) -> None:
    assert (await oci.call("POST", f"/v2/{NAME}/blobs/uploads")).status == 202


async def test_a_blob_comes_whole_in_the_first_request(oci: RegistryClient) -> None:
    answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={DIGEST}", CONTENT)
    assert answer.status == 201
    assert await stored(oci) == CONTENT


async def test_a_blob_comes_whole_in_the_second_request_as_containerd_sends_it(oci: RegistryClient) -> None:
    assert await finish(oci, await oci.begin(), CONTENT) == 201
    assert await stored(oci) == CONTENT


async def test_a_blob_comes_as_one_stream_without_length_as_docker_sends_it(oci: RegistryClient) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for start in range(0, len(CONTENT), 100):
            yield CONTENT[start : start + 100]

    answer = await oci.call("PATCH", await oci.begin(), pieces())
    assert (answer.status, answer.headers["Range"]) == (202, f"0-{len(CONTENT) - 1}")
    assert await finish(oci, answer.location) == 201
    assert await stored(oci) == CONTENT


async def test_a_blob_comes_in_chunks_with_ranges(oci: RegistryClient) -> None:
    answer = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range="0-299")
    assert (answer.status, answer.headers["Range"]) == (202, "0-299")
    answer = await oci.call("PATCH", answer.location, SECOND, Content_Range="300-1023")
    assert (answer.status, answer.headers["Range"]) == (202, "0-1023")
    assert await finish(oci, answer.location) == 201
    assert await stored(oci) == CONTENT


async def test_the_last_chunk_may_come_with_the_put(oci: RegistryClient) -> None:
    answer = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range="0-299")
    assert await finish(oci, answer.location, SECOND, Content_Range="300-1023") == 201
    assert await stored(oci) == CONTENT


async def test_a_range_may_be_written_with_unit_and_total(oci: RegistryClient) -> None:
    answer = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range="bytes 0-299/1024")
    assert answer.status == 202


async def test_a_chunk_out_of_order_is_refused_and_the_upload_goes_on(oci: RegistryClient) -> None:
    first = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range="0-299")
    wrong = await oci.call("PATCH", first.location, SECOND, Content_Range="400-1123")
    assert (wrong.status, wrong.headers["Range"], wrong.code) == (416, "0-299", "BLOB_UPLOAD_INVALID")
    assert await finish(oci, first.location, SECOND, Content_Range="500-1223") == 416
    status = await oci.call("GET", wrong.location)
    assert (status.status, status.headers["Range"]) == (204, "0-299")
    assert await finish(oci, status.location, SECOND, Content_Range="300-1023") == 201
    assert await stored(oci) == CONTENT


async def test_the_first_chunk_begins_at_the_beginning(oci: RegistryClient) -> None:
    answer = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range="10-309")
    assert answer.status == 416


@pytest.mark.parametrize("span", ["x-y", "5-2", "bytes */5", "0-"])
async def test_a_range_that_makes_no_sense_is_the_clients_mistake(oci: RegistryClient, span: str) -> None:
    answer = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range=span)
    assert (answer.status, answer.code) == (400, "BLOB_UPLOAD_INVALID")


async def test_a_range_longer_than_the_body_is_the_clients_mistake(oci: RegistryClient) -> None:
    answer = await oci.call("PATCH", await oci.begin(), FIRST, Content_Range="0-400")
    assert (answer.status, answer.code) == (400, "SIZE_INVALID")


async def test_chunks_may_be_as_small_as_the_client_likes(oci: RegistryClient) -> None:
    begun = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/")
    assert "OCI-Chunk-Min-Length" not in begun.headers
    location = begun.location
    for at, byte in enumerate(b"tiny"):
        answer = await oci.call("PATCH", location, bytes([byte]), Content_Range=f"{at}-{at}")
        assert answer.headers["Range"] == f"0-{at}"
        location = answer.location
    assert await finish(oci, location, digest=digest_of(b"tiny")) == 201


async def test_an_old_address_of_the_upload_still_works(oci: RegistryClient) -> None:
    begun = await oci.begin()
    await oci.call("PATCH", begun, FIRST)
    await oci.call("PATCH", begun, SECOND)
    assert await finish(oci, begun) == 201
    assert await stored(oci) == CONTENT


async def test_a_wrong_digest_is_refused_in_every_style_and_nothing_is_kept(oci: RegistryClient) -> None:
    wrong = digest_of(b"wrong")
    posted = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={wrong}", CONTENT)
    assert (posted.status, posted.code) == (400, "DIGEST_INVALID")
    assert await finish(oci, await oci.begin(), CONTENT, wrong) == 400
    patched = await oci.call("PATCH", await oci.begin(), CONTENT)
    assert await finish(oci, patched.location, digest=wrong) == 400
    assert await stored(oci, wrong) is None
    assert await stored(oci) is None
    assert not [name for name in oci.parts.bucket.objects if name.startswith("blobs/")]


async def test_a_put_without_or_with_a_malformed_digest_is_refused(oci: RegistryClient) -> None:
    begun = await oci.begin()
    assert (await oci.call("PUT", begun, CONTENT)).code == "DIGEST_INVALID"
    assert (await oci.call("PUT", f"{begun}&digest=sha256:x", CONTENT)).code == "DIGEST_INVALID"


async def test_the_digest_may_be_sha512_whatever_was_hashed_on_the_way(oci: RegistryClient) -> None:
    patched = await oci.call("PATCH", await oci.begin(), CONTENT)
    digest = sha512_of(CONTENT)
    assert await finish(oci, patched.location, digest=digest) == 201
    assert await stored(oci, digest) == CONTENT


async def test_the_algorithm_may_be_announced(oci: RegistryClient) -> None:
    begun = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest-algorithm=sha512")
    patched = await oci.call("PATCH", begun.location, CONTENT)
    assert await finish(oci, patched.location, digest=sha512_of(CONTENT)) == 201
    refused = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest-algorithm=md5")
    assert (refused.status, refused.code) == (400, "BLOB_UPLOAD_INVALID")


async def test_an_empty_blob_is_uploaded_in_two_requests(oci: RegistryClient) -> None:
    assert await finish(oci, await oci.begin(), digest=digest_of(b"")) == 201
    assert await stored(oci, digest_of(b"")) == b""


async def test_a_cancelled_upload_is_unknown(oci: RegistryClient) -> None:
    begun = await oci.begin()
    assert (await oci.call("DELETE", begun)).status == 204
    for verb in ("GET", "PATCH", "DELETE"):
        answer = await oci.call(verb, begun, FIRST if verb == "PATCH" else None)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")
    assert await finish(oci, begun, CONTENT) == 404


async def test_closing_an_upload_twice_is_as_good_as_once(oci: RegistryClient) -> None:
    patched = await oci.call("PATCH", await oci.begin(), CONTENT)
    assert await finish(oci, patched.location) == 201
    assert await finish(oci, patched.location) == 201
    assert len(oci.parts.audited()) == 2  # the repository and the blob, once


async def test_an_upload_whose_closing_was_cut_off_after_the_bytes_is_closed_by_the_next_try(
    oci: RegistryClient,
) -> None:
    patched = await oci.call("PATCH", await oci.begin(), CONTENT)
    assert await finish(oci, patched.location) == 201
    await oci.call("DELETE", f"/v2/{NAME}/blobs/{DIGEST}")  # as if the step had never been made
    assert await finish(oci, patched.location) == 201
    assert await stored(oci) == CONTENT


async def test_bytes_that_come_while_an_upload_is_closed_do_not_get_into_its_blob(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    blobs = oci.parts.parts.blobs
    commit = blobs.commit

    async def more() -> AsyncIterator[bytes]:
        yield b"more"

    async def commit_too_late(upload: str, name: str, size: int | None = None) -> None:
        await blobs.append(upload, len(CONTENT), more())
        await commit(upload, name, size)

    location = (await oci.call("PATCH", await oci.begin(), CONTENT)).location
    monkeypatch.setattr(blobs, "commit", commit_too_late)
    assert await finish(oci, location) == 416
    assert await stored(oci) is None


async def test_an_address_says_nothing_for_other_uploads_images_or_keys(oci: RegistryClient) -> None:
    begun, other = await oci.begin(), await oci.begin()
    state = urlsplit(begun).query
    for path in (
        f"{urlsplit(other).path}?{state}",
        begun.replace(NAME, "demo/web/other"),
        f"{begun}x",
        begun.partition("?")[0],
        f"{urlsplit(begun).path}?_state=AAAA",
    ):
        answer = await oci.call("PATCH", path, FIRST)
        assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_the_address_authorises_whatever_becomes_of_the_token(oci: RegistryClient) -> None:
    begun = await oci.begin()
    patched = await oci.call("PATCH", begun, CONTENT, Authorization="Bearer expired")
    assert patched.status == 202
    assert await finish(oci, patched.location, Authorization="Bearer expired") == 201
    actors = {entry["protoPayload"]["authenticationInfo"]["principalSubject"] for entry in oci.parts.audited()}
    assert actors == {oci.member}


async def test_an_upload_ends_after_a_day(oci: RegistryClient) -> None:
    begun = await oci.begin()
    await oci.parts.clock.advance(86_401)
    answer = await oci.call("PATCH", begun, FIRST)
    assert (answer.status, answer.code) == (404, "BLOB_UPLOAD_UNKNOWN")


async def test_an_upload_goes_on_at_another_replica(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text("k" * 32)
    key.chmod(0o600)
    async with registry(upload_key_file=str(key)) as one:
        patched = await one.call("PATCH", await one.begin(), FIRST, Content_Range="0-299")
        async with client_of(build(one.parts.parts)) as client:
            two = RegistryClient(client, one.parts)
            patched = await two.call("PATCH", patched.location, SECOND, Content_Range="300-1023")
            assert patched.status == 202
            assert await finish(one, patched.location) == 201
            assert await stored(two) == CONTENT


async def test_what_was_uploaded_or_mounted_is_seen_at_once_by_another_replica(tmp_path: Path) -> None:
    async with registry(tmp_path / "bucket") as one, client_of(build(one.parts.parts)) as client:
        two = RegistryClient(client, one.parts)
        await one.blob(CONTENT)
        assert (await two.call("HEAD", f"/v2/{NAME}/blobs/{DIGEST}")).status == 200
        mounted = await one.call("POST", f"/v2/demo/other/app/blobs/uploads/?mount={DIGEST}&from={NAME}")
        assert mounted.status == 201
        assert (await two.call("HEAD", f"/v2/demo/other/app/blobs/{DIGEST}")).status == 200


async def test_a_connection_that_breaks_keeps_the_bytes_that_came(oci: RegistryClient) -> None:
    begun = await oci.begin()
    server = oci.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    writer.write(f"PATCH {begun} HTTP/1.1\r\nHost: x\r\nContent-Length: 1024\r\n\r\n".encode() + FIRST)
    await writer.drain()
    await asyncio.sleep(0.1)
    writer.close()
    await writer.wait_closed()
    del reader
    for _ in range(50):
        status = await oci.call("GET", begun)
        if status.headers["Range"] == "0-299":
            break
        await asyncio.sleep(0.02)
    assert (status.status, status.headers["Range"]) == (204, "0-299")
    assert await finish(oci, status.location, SECOND, Content_Range="300-1023") == 201
    assert await stored(oci) == CONTENT


async def test_a_compressed_body_is_refused(oci: RegistryClient) -> None:
    begun = await oci.begin()
    assert (await oci.call("PATCH", begun, gzip.compress(FIRST), Content_Encoding="gzip")).status == 415
    assert (await oci.call("GET", begun)).headers["Range"] == "0-0"


async def test_a_blob_over_the_limit_is_refused_in_every_style(tmp_path: Path) -> None:
    async with registry(tmp_path / "bucket", blob_bytes="1000") as oci:
        answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={DIGEST}", CONTENT)
        assert (answer.status, answer.code) == (413, "SIZE_INVALID")

        async def unannounced() -> AsyncIterator[bytes]:
            yield CONTENT

        assert (await oci.call("PATCH", await oci.begin(), unannounced())).status == 413
        assert (await oci.call("PATCH", await oci.begin(), CONTENT[:1000])).status == 202


# Mounts.


async def mount(oci: RegistryClient, source: str, digest: str = DIGEST, name: str = "demo/other/app") -> int:
    given = f"&from={source}" if source else ""
    return (await oci.call("POST", f"/v2/{name}/blobs/uploads/?mount={digest}{given}")).status


async def test_a_blob_is_mounted_from_a_repository_that_holds_it(oci: RegistryClient) -> None:
    await oci.blob(CONTENT)
    answer = await oci.call("POST", f"/v2/demo/other/app/blobs/uploads/?mount={DIGEST}&from={NAME}")
    assert (answer.status, answer.location) == (201, f"/v2/demo/other/app/blobs/{DIGEST}")
    assert answer.headers["Docker-Content-Digest"] == DIGEST
    assert (await oci.call("GET", answer.location)).content == CONTENT


async def test_a_blob_that_is_held_already_is_mounted_without_a_change(oci: RegistryClient) -> None:
    await oci.blob(CONTENT)
    assert await mount(oci, "") == 201
    before = len(oci.parts.audited())
    assert await mount(oci, "") == 201
    assert await mount(oci, NAME) == 201
    assert len(oci.parts.audited()) == before


async def test_a_mount_without_a_source_finds_the_blob_where_the_caller_may_read(oci: RegistryClient) -> None:
    await oci.blob(CONTENT)
    assert await mount(oci, "") == 201


async def test_a_mount_that_cannot_be_made_begins_an_upload(oci: RegistryClient) -> None:
    await oci.blob(CONTENT)
    for source in ("demo/nothing/app", "Not A Name", "other/web/app"):
        assert await mount(oci, source, name="demo/third/app") == 202
    assert await mount(oci, NAME, digest_of(b"unknown")) == 202
    assert await mount(oci, "", digest_of(b"unknown")) == 202


async def test_a_mount_without_the_right_to_read_the_source_begins_an_upload(oci: RegistryClient) -> None:
    await oci.blob(CONTENT)
    other = "projects/demo/locations/local/repositories/other"
    await oci.begin("demo/other/app")
    oci.parts.grant(other, BEN, "artifactregistry.repositories.uploadArtifacts")
    assert await mount(oci.by(BEN), NAME) == 202
    assert await mount(oci.by(BEN), "") == 202
    assert (await oci.call("HEAD", f"/v2/demo/other/app/blobs/{DIGEST}")).status == 404


async def test_a_blob_of_another_project_is_copied_by_a_mount(oci: RegistryClient) -> None:
    oci.parts.learn(ProjectState(project="other", number=2))
    oci.parts.grant("projects/other", ADA, *EVERYTHING)
    await oci.blob(CONTENT)
    assert await mount(oci, NAME, name="other/web/app") == 201
    assert (await oci.call("GET", f"/v2/other/web/app/blobs/{DIGEST}")).content == CONTENT
