"""Refusals: always in the protocol's own form, never as a failure that clients would try again."""

import asyncio
import re
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request

from services.registry.api.oci_errors import spoken_error
from shared.http.errors import ResourceExhausted, Unavailable
from tests.support.images import CONFIG, MANIFEST, descriptor, digest_of
from tests.support.registry import BEN, DOCKER, NAME, RegistryClient, json_bytes, registry, small_image
from tests.support.wire import wire

MANIFESTS = f"/v2/{NAME}/manifests"
UPLOADS = f"/v2/{NAME}/blobs/uploads/"
X = digest_of(b"x")
REFUSALS = [
    ("", ("GET", f"{MANIFESTS}/latest"), b"", (401, "UNAUTHORIZED")),
    ("", ("POST", UPLOADS), b"", (401, "UNAUTHORIZED")),
    (BEN, ("GET", f"{MANIFESTS}/latest"), b"", (403, "DENIED")),
    (BEN, ("PUT", f"{MANIFESTS}/latest"), b"{}", (403, "DENIED")),
    ("ada", ("GET", f"{MANIFESTS}/unknown"), b"", (404, "MANIFEST_UNKNOWN")),
    ("ada", ("GET", f"/v2/{NAME}/blobs/{X}"), b"", (404, "BLOB_UNKNOWN")),
    ("ada", ("PATCH", f"{UPLOADS}unknown"), b"x", (404, "BLOB_UPLOAD_UNKNOWN")),
    ("ada", ("GET", "/v2/demo/web/none/tags/list"), b"", (404, "NAME_UNKNOWN")),
    ("ada", ("PUT", f"{MANIFESTS}/latest"), b"{", (400, "MANIFEST_INVALID")),
    ("ada", ("PUT", f"{MANIFESTS}/sha256:x"), b"{}", (400, "DIGEST_INVALID")),
    ("ada", ("PUT", f"{MANIFESTS}/latest"), b" " * (5 * 1024 * 1024 + 1), (413, "SIZE_INVALID")),
    ("ada", ("POST", f"{UPLOADS}?digest={X}"), b"y", (400, "DIGEST_INVALID")),
    ("ada", ("PATCH", f"{MANIFESTS}/latest"), b"", (405, "UNSUPPORTED")),
    ("ada", ("PUT", f"/v2/{NAME}/tags/list"), b"", (405, "UNSUPPORTED")),
    ("ada", ("GET", f"/v2/{NAME}/blobs/uploads/"), b"", (405, "UNSUPPORTED")),
    ("ada", ("GET", f"/v2/{NAME}/layers/{X}"), b"", (404, "NAME_UNKNOWN")),
]


@pytest.mark.parametrize(("who", "asked", "content", "said"), REFUSALS)
async def test_a_refusal_is_json_with_a_code_a_message_and_a_detail(
    oci: RegistryClient, who: str, asked: tuple[str, str], content: bytes, said: tuple[int, str]
) -> None:
    await oci.push(small_image(), "latest")
    caller = oci if who == "ada" else oci.by(who)
    answer = await caller.call(*asked, content or None)
    assert (answer.status, answer.code) == said
    assert answer.headers["Content-Type"].startswith("application/json")
    for error in answer.json["errors"]:
        assert set(error) == {"code", "message", "detail"}
        assert error["message"]


@pytest.mark.parametrize(("who", "status"), [("", 401), (BEN, 403), ("ada", 404)])
@pytest.mark.parametrize("path", [f"{MANIFESTS}/unknown", f"/v2/{NAME}/blobs/{X}"])
async def test_a_refused_head_has_no_body(oci: RegistryClient, who: str, status: int, path: str) -> None:
    await oci.push(small_image(), "latest")
    async with wire(oci if who == "ada" else oci.by(who)) as line:
        reply = await line.ask(f"HEAD {path}", authorised=bool(who))
        assert (reply.status, reply.content) == (status, b"")
        assert (await line.ask("GET /v2/", authorised=bool(who))).status == (200 if who else 401)


async def test_an_upload_that_nobody_began_asks_whoever_shows_no_token_for_one(oci: RegistryClient) -> None:
    for verb in ("GET", "PATCH", "PUT", "DELETE"):
        answer = await oci.by("").call(verb, f"{UPLOADS}unknown?_state=x&digest={X}")
        assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
        assert f'scope="repository:{NAME}:' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize(("error", "status"), [(ResourceExhausted, 429), (Unavailable, 503)])
def test_who_shall_come_again_is_told_when(error: type[ResourceExhausted] | type[Unavailable], status: int) -> None:
    answer = spoken_error(make_mocked_request("GET", f"{MANIFESTS}/latest"), error("wait", retry_after=7))
    assert (answer.status, answer.headers["Retry-After"]) == (status, "7")
    assert b'"errors"' in bytes(answer.body)  # type: ignore[arg-type]


async def test_a_crowd_of_readers_waits_its_turn_and_nobody_is_refused(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    answers = await asyncio.gather(*(oci.call("GET", f"{MANIFESTS}/latest") for _ in range(300)))
    assert {answer.status for answer in answers} == {200}


async def test_what_is_against_a_limit_is_never_a_failure_of_the_server(tmp_path: Path) -> None:
    async with registry(tmp_path / "bucket", blob_bytes="10") as oci:
        for answer in (
            await oci.call("POST", f"{UPLOADS}?digest={X}", b"x" * 11),
            await oci.call("PATCH", await oci.begin(), b"x" * 11),
            await oci.call("PUT", f"{await oci.begin()}&digest={X}", b"x" * 11),
        ):
            assert (answer.status, answer.code) == (413, "SIZE_INVALID")


async def test_a_warning_has_the_form_that_clients_print(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.blob(b"layer")
    layer = descriptor("application/vnd.docker.image.rootfs.diff.tar+zstd", b"layer")
    body = {"schemaVersion": 2, "mediaType": DOCKER, "config": descriptor(CONFIG, b"{}"), "layers": [layer]}
    warning = (await oci.manifest(json_bytes(body), "zstd", kind=DOCKER)).headers["Warning"]
    assert re.fullmatch(r'299 - "[ !#-\[\]-~]+"', warning)
    assert len(warning) <= 4096


async def test_what_harms_nobody_is_taken_without_a_warning(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.blob(b"layer")
    layer = descriptor("application/vnd.oci.image.layer.v1.tar+zstd", b"layer")
    body = {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, b"{}"), "layers": [layer]}
    answer = await oci.manifest(json_bytes(body), "zstd")
    assert (answer.status, "Warning" in answer.headers) == (201, False)
