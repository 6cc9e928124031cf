"""Files over Artifact Registry's API: uploaded in one request and in chunks, annotated, deleted."""

from typing import Any
from urllib.parse import quote, urlsplit

import orjson
import pytest

from shared.digest import Digest
from tests.support.registry import WEB, Answer, RegistryClient, registry, small_image

REPOSITORY = f"/v1/{WEB}"
SIMPLE = f"/upload/v1/{WEB}/files:upload"
RESUMABLE = f"/resumable/upload/v1/{WEB}/files:upload"
FILE_NAME = "artifactregistry.googleapis.com/file_name"
CONTENT = b"a bill of materials\r\nwith several lines\n" * 100
DIGEST = Digest.of(CONTENT)


def body(**fields: Any) -> bytes:
    return orjson.dumps(fields)


@pytest.fixture
async def web(oci: RegistryClient) -> RegistryClient:
    """With a repository that holds an image."""
    await oci.push(small_image(), "a")
    return oci


async def called(oci: RegistryClient, verb: str, path: str, content: bytes | None = None) -> Any:
    answer = await oci.call(verb, path, content)
    assert answer.status == 200, answer
    return answer.json


async def uploaded(oci: RegistryClient, content: bytes = CONTENT) -> Answer:
    return await oci.call("POST", f"{SIMPLE}?uploadType=media", content, Content_Type="text/plain")


def multipart(description: bytes, content: bytes, boundary: str = "edge") -> bytes:
    return f"--{boundary}\n\n".encode() + description + f"\n--{boundary}\n\n".encode() + content + b"\n--edge--\n"


def methods(oci: RegistryClient) -> list[str]:
    return [entry["protoPayload"]["methodName"].rpartition(".")[2] for entry in oci.parts.audited()]


async def begun(oci: RegistryClient, path: str = RESUMABLE, **asked: Any) -> str:
    answer = await oci.call("POST", f"{path}?uploadType=resumable", body(**asked))
    assert answer.status == 200, answer
    address = urlsplit(answer.location)
    assert address.scheme
    assert address.netloc
    return f"{address.path}?{address.query}"


async def test_a_file_is_uploaded_and_its_operation_shows_it(web: RegistryClient) -> None:
    answer = await uploaded(web)
    operation = answer.json["operation"]
    assert (answer.status, operation["done"]) == (200, True)
    file = await called(web, "GET", f"{REPOSITORY}/files/{DIGEST}")
    assert (file["name"], file["sizeBytes"]) == (f"{WEB}/files/{DIGEST}", str(len(CONTENT)))
    assert file["createTime"] == file["updateTime"]
    assert operation["response"] == {"@type": operation["response"]["@type"], **file}
    assert (await called(web, "GET", f"/v1/{operation['name']}"))["response"]["name"] == file["name"]
    got = await web.call("GET", f"{REPOSITORY}/files/{DIGEST}:download?alt=media")
    assert got.content == CONTENT
    assert methods(web)[-1] == "UploadFile"


async def test_a_file_comes_behind_its_description(web: RegistryClient) -> None:
    content = multipart(body(fileId=DIGEST), CONTENT)
    path = f"{SIMPLE}?uploadType=multipart"
    answer = await web.call("POST", path, content, Content_Type="multipart/related; boundary='edge'")
    assert answer.json["operation"]["response"]["name"] == f"{WEB}/files/{DIGEST}"


async def test_an_empty_file_is_a_file(web: RegistryClient) -> None:
    empty = Digest.of(b"")
    assert (await uploaded(web, b"")).json["operation"]["response"]["name"].endswith(empty)
    assert (await called(web, "GET", f"{REPOSITORY}/files/{empty}"))["sizeBytes"] == "0"


async def test_the_same_file_again_is_welcome_and_changes_nothing(web: RegistryClient) -> None:
    first = await uploaded(web)
    entries = len(web.parts.audited())
    await web.parts.clock.advance(5)
    assert (await uploaded(web)).json["operation"]["response"] == first.json["operation"]["response"]
    assert len(web.parts.audited()) == entries


@pytest.mark.parametrize(
    ("query", "content", "kind", "status"),
    [
        ("uploadType=media", CONTENT, "multipart/related", 200),
        ("uploadType=multipart", CONTENT, "multipart/related; boundary=edge", 400),
        ("uploadType=multipart", multipart(b"{}", CONTENT)[:-9], "multipart/related; boundary=edge", 400),
        ("uploadType=multipart", multipart(b"[]", CONTENT), "multipart/related; boundary=edge", 400),
        ("uploadType=multipart", multipart(b'{"fileId":"x"}', CONTENT), "multipart/related; boundary=edge", 400),
        ("uploadType=multipart", multipart(b'{"size":1}', CONTENT), "multipart/related; boundary=edge", 400),
        ("uploadType=multipart", multipart(b'{"fileType":"ARTIFACT"}', b""), "multipart/related; boundary=edge", 501),
        (
            "uploadType=multipart",
            multipart(body(fileId=Digest.of(b"other")), CONTENT),
            "multipart/related; boundary=edge",
            400,
        ),
        ("uploadType=carrier", CONTENT, "text/plain", 400),
        ("", CONTENT, "text/plain", 400),
    ],
)
async def test_an_upload_that_cannot_be_is_refused_and_leaves_nothing(
    web: RegistryClient, query: str, content: bytes, kind: str, status: int
) -> None:
    answer = await web.call("POST", f"{SIMPLE}?{query}", content, Content_Type=kind)
    assert answer.status == status, answer
    held = (await web.call("GET", f"{REPOSITORY}/files/{DIGEST}")).status
    assert held == (200 if status == 200 else 404)
    assert [upload async for upload in web.parts.parts.blobs.uploads()] == []


async def test_a_file_over_the_limit_is_refused() -> None:
    async with registry(blob_bytes="1000") as oci:
        await oci.push(small_image(), "a")
        assert (await uploaded(oci)).status == 413


async def test_a_repository_that_is_not_there_takes_no_files(oci: RegistryClient) -> None:
    assert (await uploaded(oci)).status == 404


async def test_a_file_comes_in_chunks_and_tells_how_far_it_is(web: RegistryClient) -> None:
    address, size = await begun(web), len(CONTENT)
    none = await web.call("PUT", address, b"", Content_Range=f"bytes */{size}")
    assert (none.status, "Range" in none.headers) == (308, False)
    first = await web.call("PUT", address, CONTENT[:1000], Content_Range=f"bytes 0-999/{size}")
    assert (first.status, first.headers["Range"]) == (308, "bytes=0-999")
    again = await web.call("PUT", address, CONTENT[:1000], Content_Range=f"bytes 0-999/{size}")
    assert (again.status, again.headers["Range"]) == (308, "bytes=0-999")
    asked = await web.call("PUT", address, b"", Content_Range="bytes */*")
    assert asked.headers["Range"] == "bytes=0-999"
    last = await web.call("PUT", address, CONTENT[1000:], Content_Range=f"bytes 1000-{size - 1}/{size}")
    assert last.json["operation"]["response"]["name"] == f"{WEB}/files/{DIGEST}"


async def test_a_chunk_whose_answer_was_lost_is_the_last_all_the_same(web: RegistryClient) -> None:
    address, size = await begun(web, fileId=DIGEST), len(CONTENT)
    whole = await web.call("PUT", address, CONTENT, Content_Range=f"bytes 0-{size - 1}/*")
    assert (whole.status, whole.headers["Range"]) == (308, f"bytes=0-{size - 1}")
    done = await web.call("PUT", address, b"", Content_Range=f"bytes */{size}")
    assert done.json["operation"]["response"]["name"] == f"{WEB}/files/{DIGEST}"


async def test_chunks_may_go_to_several_replicas(web: RegistryClient) -> None:
    address, size = await begun(web), len(CONTENT)
    await web.call("PUT", address, CONTENT[:1000], Content_Range=f"bytes 0-999/{size}")
    house = next(loop for loop in web.background if loop.__name__ == "clear_uploads").__self__
    house.uploads.hashes.kept.clear()  # another replica knows no running hash
    last = await web.call("PUT", address, CONTENT[1000:], Content_Range=f"bytes 1000-{size - 1}/{size}")
    assert last.json["operation"]["response"]["name"] == f"{WEB}/files/{DIGEST}"


async def test_a_body_without_a_place_is_the_whole_file(web: RegistryClient) -> None:
    done = await web.call("PUT", await begun(web), CONTENT)
    assert done.json["operation"]["response"]["name"] == f"{WEB}/files/{DIGEST}"
    empty = await web.call("PUT", await begun(web, SIMPLE), b"")
    assert empty.json["operation"]["response"]["sizeBytes"] == "0"


async def test_another_file_than_was_announced_is_refused(web: RegistryClient) -> None:
    address = await begun(web, fileId=Digest.of(b"other"))
    assert (await web.call("PUT", address, CONTENT)).status == 400
    assert (await web.call("GET", f"{REPOSITORY}/files/{DIGEST}")).status == 404


@pytest.mark.parametrize("place", ["bytes 5-1/10", "bytes 0-10/5", "bytes x", "items 0-1/2", "bytes -5/10"])
async def test_a_place_that_makes_no_sense_is_refused(web: RegistryClient, place: str) -> None:
    assert (await web.call("PUT", await begun(web), b"12", Content_Range=place)).status == 400


async def test_an_address_of_an_upload_is_good_for_its_beginner_only(web: RegistryClient) -> None:
    address = await begun(web)
    web.parts.grant("projects/demo", "user:cyd@example.org", "artifactregistry.files.upload")
    assert (await web.by("user:cyd@example.org").call("PUT", address, CONTENT)).status == 404
    forged = address.replace("upload_id=", "upload_id=A")
    assert (await web.call("PUT", forged, CONTENT)).status == 404
    assert (await web.call("PUT", f"{RESUMABLE}?uploadType=resumable", CONTENT)).status == 404


async def test_annotations_are_kept_found_by_filter_and_go_with_the_file(web: RegistryClient) -> None:
    await uploaded(web)
    path = f"{REPOSITORY}/files/{quote(DIGEST)}"
    await web.parts.clock.advance(5)
    patched = await called(web, "PATCH", f"{path}?updateMask=annotations", body(annotations={FILE_NAME: "sbom.json"}))
    assert patched["annotations"] == {FILE_NAME: "sbom.json"}
    assert patched["updateTime"] > patched["createTime"]
    assert methods(web)[-1] == "UpdateFile"
    chosen = quote(f"annotations.`{FILE_NAME}`:*.json")
    assert [file["name"] for file in (await called(web, "GET", f"{REPOSITORY}/files?filter={chosen}"))["files"]] == [
        f"{WEB}/files/{DIGEST}"
    ]
    assert (await called(web, "DELETE", path))["done"] is True
    assert (methods(web)[-1], (await web.call("GET", path)).status) == ("DeleteFile", 404)
    await uploaded(web)
    assert "annotations" not in await called(web, "GET", path)


async def test_a_blob_of_an_image_is_annotated_too_and_stays_as_long_as_the_image(web: RegistryClient) -> None:
    layer = next(iter(small_image().blobs))
    path = f"{REPOSITORY}/files/{layer}"
    assert (await called(web, "GET", path))["createTime"]
    await called(web, "PATCH", path, body(annotations={"a": "b"}))
    refused = await web.call("DELETE", path)
    assert (refused.status, refused.json["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert (await called(web, "GET", path))["annotations"] == {"a": "b"}


async def test_a_repository_that_comes_back_has_forgotten_its_annotations(web: RegistryClient) -> None:
    await uploaded(web)
    path = f"{REPOSITORY}/files/{DIGEST}"
    await called(web, "PATCH", path, body(annotations={"a": "b"}))
    await called(web, "DELETE", REPOSITORY)
    await web.push(small_image(), "a")
    await uploaded(web)
    assert "annotations" not in await called(web, "GET", path)


@pytest.mark.parametrize(
    ("verb", "path", "content", "status"),
    [
        ("PATCH", f"{REPOSITORY}/files/sha256:{'0' * 64}", body(annotations={}), 404),
        ("PATCH", f"{REPOSITORY}/files/x", body(annotations={}), 404),
        ("PATCH", f"{REPOSITORY}/files/{DIGEST}?updateMask=size", body(annotations={}), 400),
        ("PATCH", f"{REPOSITORY}/files/{DIGEST}", body(annotations={"a": 1}), 400),
        ("DELETE", f"{REPOSITORY}/files/sha256:{'0' * 64}", None, 404),
    ],
)
async def test_what_cannot_be_is_refused(
    web: RegistryClient, verb: str, path: str, content: bytes | None, status: int
) -> None:
    await uploaded(web)
    assert (await web.call(verb, path, content)).status == status


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", f"{SIMPLE}?uploadType=media"),
        ("POST", f"{RESUMABLE}?uploadType=resumable"),
        ("PUT", RESUMABLE),
        ("PUT", SIMPLE),
        ("PATCH", f"{REPOSITORY}/files/{DIGEST}"),
        ("DELETE", f"{REPOSITORY}/files/{DIGEST}"),
    ],
)
async def test_a_stranger_may_none_of_it(web: RegistryClient, verb: str, path: str) -> None:
    await uploaded(web)
    assert (await web.by("user:stranger@example.org").call(verb, path, b"{}")).status == 403
