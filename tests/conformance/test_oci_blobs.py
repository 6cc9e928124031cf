"""Blobs: read whole and in parts, looked at, deleted."""

import pytest

from tests.support.images import digest_of
from tests.support.registry import NAME, RegistryClient, artifact, sha512_of, small_image

CONTENT = bytes(range(256)) * 8


async def address(oci: RegistryClient, content: bytes = CONTENT) -> str:
    return f"/v2/{NAME}/blobs/{await oci.blob(content)}"


async def test_a_blob_comes_back_as_it_was_pushed(oci: RegistryClient) -> None:
    answer = await oci.call("GET", await address(oci))
    assert (answer.status, answer.content) == (200, CONTENT)
    assert answer.headers["Docker-Content-Digest"] == digest_of(CONTENT)
    assert answer.headers["Accept-Ranges"] == "bytes"
    assert "Content-Encoding" not in answer.headers


async def test_head_tells_length_and_digest_and_sends_no_body(oci: RegistryClient) -> None:
    answer = await oci.call("HEAD", await address(oci))
    assert (answer.status, answer.content) == (200, b"")
    assert answer.headers["Content-Length"] == str(len(CONTENT))
    assert answer.headers["Docker-Content-Digest"] == digest_of(CONTENT)


@pytest.mark.parametrize(
    ("asked", "start", "end"),
    [
        ("bytes=500-1499", 500, 1500),
        ("bytes=500-", 500, 2048),
        ("bytes=-500", 1548, 2048),
        ("bytes=2000-5000", 2000, 2048),
        ("bytes=0-0", 0, 1),
        ("bytes=-5000", 0, 2048),
    ],
)
async def test_a_part_of_a_blob_is_sent_alone(oci: RegistryClient, asked: str, start: int, end: int) -> None:
    answer = await oci.call("GET", await address(oci), Range=asked)
    assert (answer.status, answer.content) == (206, CONTENT[start:end])
    assert answer.headers["Content-Range"] == f"bytes {start}-{end - 1}/2048"
    assert answer.headers["Content-Length"] == str(end - start)


@pytest.mark.parametrize("asked", ["bytes=500-0", "bytes=5000-10000", "bytes=2048-", "bytes=-0"])
async def test_a_part_that_is_not_there_is_refused_and_the_connection_goes_on(oci: RegistryClient, asked: str) -> None:
    path = await address(oci)
    answer = await oci.call("GET", path, Range=asked)
    assert (answer.status, answer.headers["Content-Range"]) == (416, "bytes */2048")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert (await oci.call("GET", path)).content == CONTENT


@pytest.mark.parametrize("asked", ["bytes=0-1,5-6", "lines=1-2", "bytes=x-y", "bytes=-"])
async def test_a_range_that_is_not_understood_is_passed_over(oci: RegistryClient, asked: str) -> None:
    answer = await oci.call("GET", await address(oci), Range=asked)
    assert (answer.status, answer.content) == (200, CONTENT)


async def test_if_range_with_another_etag_gets_the_whole_blob(oci: RegistryClient) -> None:
    path = await address(oci)
    assert (await oci.call("GET", path, Range="bytes=0-9", If_Range='"other"')).status == 200
    assert (await oci.call("GET", path, Range="bytes=0-9", If_Range=f'"{digest_of(CONTENT)}"')).status == 206


async def test_a_blob_without_bytes_is_a_blob(oci: RegistryClient) -> None:
    answer = await oci.call("GET", await address(oci, b""))
    assert (answer.status, answer.content) == (200, b"")


async def test_a_blob_is_known_by_its_sha512_too(oci: RegistryClient) -> None:
    digest = sha512_of(CONTENT)
    pushed = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest}", CONTENT)
    assert (pushed.status, pushed.headers["Docker-Content-Digest"]) == (201, digest)
    answer = await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")
    assert (answer.content, answer.headers["Docker-Content-Digest"]) == (CONTENT, digest)


async def test_a_blob_is_sent_as_it_is_and_by_the_registry_itself(oci: RegistryClient) -> None:
    path = await address(oci)
    for verb in ("GET", "HEAD"):
        answer = await oci.call(verb, path, Accept_Encoding="gzip, deflate, br, zstd")
        assert (answer.status, answer.headers["Content-Length"]) == (200, str(len(CONTENT)))
        assert not {"Content-Encoding", "Location"} & set(answer.headers)


async def test_an_unknown_blob_is_not_found(oci: RegistryClient) -> None:
    await oci.blob(CONTENT)
    answer = await oci.call("GET", f"/v2/{NAME}/blobs/{digest_of(b'other')}")
    assert (answer.status, answer.code) == (404, "BLOB_UNKNOWN")
    assert (await oci.call("HEAD", f"/v2/{NAME}/blobs/{digest_of(b'other')}")).status == 404


async def test_a_malformed_digest_is_the_clients_mistake(oci: RegistryClient) -> None:
    answer = await oci.call("GET", f"/v2/{NAME}/blobs/sha256:baddigeststring")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_a_percent_encoded_digest_is_the_same_digest(oci: RegistryClient) -> None:
    digest = await oci.blob(CONTENT)
    assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest.replace(':', '%3A')}")).content == CONTENT


async def test_a_deleted_blob_is_gone_at_once(oci: RegistryClient) -> None:
    path = await address(oci)
    assert (await oci.call("DELETE", path)).status == 202
    assert (await oci.call("HEAD", path)).status == 404
    assert (await oci.call("DELETE", path)).status == 404


async def test_a_blob_that_a_manifest_refers_to_cannot_be_deleted(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    answer = await oci.call("DELETE", f"/v2/{NAME}/blobs/{next(iter(image.blobs))}")
    assert (answer.status, answer.code) == (403, "DENIED")
    assert image.digest in answer.json["errors"][0]["message"]


async def test_a_blob_is_free_again_when_the_manifest_has_gone(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    pushed = await oci.manifest(artifact())
    assert (await oci.call("DELETE", pushed.location)).status == 202
    assert (await oci.call("DELETE", f"/v2/{NAME}/blobs/{digest_of(b'{}')}")).status == 202


async def test_a_blob_of_another_repository_is_not_shown(oci: RegistryClient) -> None:
    digest = await oci.blob(CONTENT, "demo/secret/app")
    assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).status == 404


async def test_a_blob_pushed_again_is_there_still(oci: RegistryClient) -> None:
    assert await oci.blob(CONTENT) == await oci.blob(CONTENT)
