"""What clients put on the wire, byte by byte: header lines, encodings, odd addresses, early refusals."""

from urllib.parse import urlsplit

import pytest

from tests.support.images import MANIFEST, digest_of
from tests.support.registry import BEN, DOCKER, INDEX, NAME, RegistryClient, artifact, index_of, small_image
from tests.support.wire import wire

MANIFESTS = f"/v2/{NAME}/manifests"
UPLOADS = f"/v2/{NAME}/blobs/uploads"
CONTENT = b"bytes of a layer" * 100
SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"
DOCKERS_ACCEPT = [
    "Accept: application/json",
    f"Accept: {SCHEMA_1}",
    f"Accept: {DOCKER}",
    f"Accept: {INDEX}",
    "Accept: application/vnd.docker.distribution.manifest.list.v2+json",
    f"Accept: {MANIFEST}",
]


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
@pytest.mark.parametrize(
    "accept",
    [DOCKERS_ACCEPT, list(reversed(DOCKERS_ACCEPT)), [f"Accept: {DOCKER}, {MANIFEST};q=0.5, */*"], []],
    ids=["docker", "backwards", "containerd", "none"],
)
async def test_however_accept_is_written_the_stored_type_comes(
    oci: RegistryClient, verb: str, accept: list[str]
) -> None:
    image = small_image()
    await oci.push(image, "image")
    index = index_of(image.manifest)
    await oci.manifest(index, "index", kind=INDEX)
    async with wire(oci) as line:
        for tag, kind, content in (("image", MANIFEST, image.manifest), ("index", INDEX, index)):
            reply = await line.ask(f"{verb} {MANIFESTS}/{tag}", *accept)
            assert (reply.status, reply.headers["content-type"]) == (200, kind)
            assert reply.headers["content-length"] == str(len(content))
            assert reply.content == (content if verb == "GET" else b"")


async def test_dockers_upload_has_no_length_no_range_and_no_type(oci: RegistryClient) -> None:
    digest = digest_of(CONTENT)
    async with wire(oci) as line:
        begun = await line.ask(f"POST {UPLOADS}/", "Content-Length: 0")
        chunks = b"".join(f"{len(part):x}\r\n".encode() + part + b"\r\n" for part in (CONTENT[:999], CONTENT[999:]))
        patched = await line.ask(
            f"PATCH {begun.headers['location']}", "Transfer-Encoding: chunked", content=chunks + b"0\r\n\r\n"
        )
        assert (patched.status, patched.headers["range"]) == (202, f"0-{len(CONTENT) - 1}")
        closed = await line.ask(f"PUT {patched.headers['location']}&digest={digest}", "Content-Length: 0")
        assert (closed.status, closed.headers["docker-content-digest"]) == (201, digest)
        assert (await line.ask(f"GET /v2/{NAME}/blobs/{digest}")).content == CONTENT


async def test_podmans_upload_has_a_length_and_a_type(oci: RegistryClient) -> None:
    async with wire(oci) as line:
        begun = await line.ask(f"POST {UPLOADS}/", "Content-Length: 0")
        about = (f"Content-Length: {len(CONTENT)}", "Content-Type: application/octet-stream")
        patched = await line.ask(f"PATCH {begun.headers['location']}", *about, content=CONTENT)
        query = f"digest={digest_of(CONTENT).replace(':', '%3A')}"
        assert (await line.ask(f"PUT {patched.headers['location']}&{query}", "Content-Length: 0")).status == 201


async def test_addresses_in_answers_are_relative_so_that_no_proxy_can_make_them_wrong(oci: RegistryClient) -> None:
    async with wire(oci) as line:
        proxied = ("X-Forwarded-Proto: https", "X-Forwarded-Host: evil.example", "Forwarded: host=evil.example")
        begun = await line.ask(f"POST {UPLOADS}/", "Content-Length: 0", *proxied)
        place = urlsplit(begun.headers["location"])
        assert (place.scheme, place.netloc) == ("", "")
        assert place.query, "the state is in our query, to which clients append theirs"


async def test_a_client_that_waits_is_told_to_continue(oci: RegistryClient) -> None:
    digest = digest_of(CONTENT)
    async with wire(oci) as line:
        waits = ("Expect: 100-continue", f"Content-Length: {len(CONTENT)}")
        await line.send(f"POST {UPLOADS}/?digest={digest}", *waits)
        assert (await line.reply(has_body=False)).status == 100
        line.writer.write(CONTENT)
        assert (await line.reply()).status == 201


async def test_after_an_early_refusal_the_connection_serves_or_ends_and_never_mixes_up_answers(
    oci: RegistryClient,
) -> None:
    async with wire(oci.by(BEN)) as line:
        refused = await line.ask(f"PUT {MANIFESTS}/latest", "Content-Length: 300000", content=b"{" * 300_000)
        assert refused.status == 403
        if refused.headers.get("connection") != "close":
            assert (await line.ask("GET /v2/")).status == 200


@pytest.mark.parametrize("path", ["/v2", "/v2/", "/v2/?x=y"])
async def test_the_ping_has_several_spellings(oci: RegistryClient, path: str) -> None:
    async with wire(oci) as line:
        assert (await line.ask(f"GET {path}")).status == 200
        assert (await line.ask(f"GET {path}", authorised=False)).status == 401


@pytest.mark.parametrize(
    "path",
    [
        f"//v2/{NAME}/manifests/latest",
        f"/v2//{NAME}/manifests/latest",
        f"/v2/{NAME}//manifests/latest",
        f"/v2/{NAME}/manifests//latest",
        f"/v2/{NAME}/manifests/latest/",
        "/v2/demo/web/other/../app/manifests/latest",
        "/v2/demo/web/other/%2e%2e/app/manifests/latest",
        "/v2/demo/web/other%2f..%2fapp/manifests/latest",
        f"/v2/{NAME}/manifests/../manifests/latest",
    ],
)
async def test_no_second_spelling_of_an_address_reaches_an_image(oci: RegistryClient, path: str) -> None:
    await oci.push(small_image(), "latest")
    async with wire(oci) as line:
        assert (await line.ask(f"GET {path}")).status in {400, 404, 405}
        assert (await line.ask(f"GET {path}", authorised=False)).status in {400, 401, 404}


async def test_a_digest_may_be_percent_encoded_everywhere(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    content, digest = artifact(), digest_of(artifact())
    encoded = digest.replace(":", "%3A")
    async with wire(oci) as line:
        about = (f"Content-Length: {len(content)}", f"Content-Type: {MANIFEST}")
        assert (await line.ask(f"PUT {MANIFESTS}/{encoded}", *about, content=content)).status == 201
        assert (await line.ask(f"GET {MANIFESTS}/{encoded.lower()}")).content == content
        assert (await line.ask(f"GET /v2/{NAME}/referrers/{encoded}")).status == 200
        assert (await line.ask(f"DELETE {MANIFESTS}/{encoded}")).status == 202
        assert (await line.ask(f"HEAD {MANIFESTS}/{digest}")).status == 404


async def test_who_asks_a_mirror_says_for_whom_and_gets_the_image_all_the_same(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    async with wire(oci) as line:
        assert (await line.ask(f"GET {MANIFESTS}/latest?ns=registry.example")).content == image.manifest
        blob, content = next(iter(image.blobs.items()))
        assert (await line.ask(f"GET /v2/{NAME}/blobs/{blob}?ns=registry.example")).content == content
