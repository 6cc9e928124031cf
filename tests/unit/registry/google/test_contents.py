"""What is in a repository, over Artifact Registry's API: tags, versions, packages, files, settings of the project."""

import asyncio
import base64
from typing import Any
from urllib.parse import quote

import orjson
import pytest

from services.registry.api.google import listing, repositories
from services.registry.records import MOST_LISTED, Facts
from tests.support.images import MANIFEST, Image, descriptor, image_of, layer_of
from tests.support.registry import INDEX, NAME, WEB, RegistryClient, index_of, small_image

REPOSITORY = f"/v1/{WEB}"
PACKAGE = f"{REPOSITORY}/packages/app"
NEWER = ("config", "built", "manifests")
WINDOWS = {
    "os": "windows",
    "architecture": "arm",
    "variant": "v7",
    "os.version": "10.0.14393.1066",
    "os.features": ["win32k"],
}


def version_of(image: Image) -> str:
    return f"{WEB}/packages/app/versions/{image.digest}"


def body(**fields: Any) -> bytes:
    return orjson.dumps(fields)


async def called(oci: RegistryClient, verb: str, path: str, content: bytes | None = None) -> Any:
    answer = await oci.call(verb, path, content)
    assert answer.status == 200, answer
    return answer.json


def methods(oci: RegistryClient) -> list[str]:
    return [entry["protoPayload"]["methodName"].rpartition(".")[2] for entry in oci.parts.audited()]


async def house(oci: RegistryClient) -> None:
    """What each replica does now and then for deletions that were begun."""
    finish = next(loop for loop in oci.background if loop.__name__ == "finish_deletions")
    await finish.__self__.finish_deletions_once()


# Tags.


async def test_a_tag_is_created_and_announced_like_a_push(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a")
    made = await called(oci, "POST", f"{PACKAGE}/tags?tagId=stable", body(version=version_of(image)))
    assert made == {"name": f"{WEB}/packages/app/tags/stable", "version": version_of(image)}
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/stable")).headers["Docker-Content-Digest"] == image.digest
    pushed = oci.parts.announced("image.pushed")[-1].data
    assert (pushed["tag"], pushed["digest"], pushed.get("previous_digest", "")) == ("stable", image.digest, "")
    assert methods(oci)[-1] == "CreateTag"


async def test_a_tag_that_is_there_is_not_created_but_can_be_moved(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    await oci.push(one, "a")
    await oci.push(two, "b")
    again = await oci.call("POST", f"{PACKAGE}/tags?tagId=a", body(version=version_of(two)))
    assert (again.status, again.json["error"]["status"]) == (409, "ALREADY_EXISTS")
    moved = await called(oci, "PATCH", f"{PACKAGE}/tags/a?updateMask=version", body(version=version_of(two)))
    assert moved["version"] == version_of(two)
    pushed = oci.parts.announced("image.pushed")[-1].data
    assert (pushed["tag"], pushed["previous_digest"]) == ("a", one.digest)
    assert methods(oci)[-1] == "UpdateTag"


async def test_a_tag_is_deleted_and_its_version_stays(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a")
    assert await called(oci, "DELETE", f"{PACKAGE}/tags/a") == {}
    assert (await oci.call("GET", f"{PACKAGE}/tags/a")).status == 404
    assert (await oci.call("GET", f"/v1/{version_of(image)}")).status == 200
    assert (methods(oci)[-1], oci.parts.announced("image.untagged")[-1].data["tag"]) == ("DeleteTag", "a")


@pytest.mark.parametrize(
    ("verb", "path", "content", "status"),
    [
        ("POST", f"{PACKAGE}/tags?tagId=no%20tag", body(version=f"{WEB}/packages/app/versions/sha256:{'0' * 64}"), 400),
        ("POST", f"{PACKAGE}/tags", body(version=""), 400),
        ("POST", f"{PACKAGE}/tags?tagId=x", body(version=f"{WEB}/packages/app/versions/sha256:{'0' * 64}"), 404),
        ("POST", f"{PACKAGE}/tags?tagId=x", body(version=f"{WEB}/packages/other/versions/sha256:{'0' * 64}"), 400),
        ("POST", f"{PACKAGE}/tags?tagId=x", body(version="latest"), 400),
        ("POST", f"{PACKAGE}/tags?tagId=x", body(vers="latest"), 400),
        ("POST", f"{PACKAGE}/tags?tagId=x", b"[]", 400),
        ("PATCH", f"{PACKAGE}/tags/none", body(version=f"{WEB}/packages/app/versions/sha256:{'0' * 64}"), 404),
        ("PATCH", f"{PACKAGE}/tags/a?updateMask=size", body(version=""), 400),
        ("DELETE", f"{PACKAGE}/tags/none", None, 404),
        ("DELETE", f"{REPOSITORY}/packages/none/tags/a", None, 404),
    ],
)
async def test_a_tag_that_cannot_be_is_refused_and_nothing_is_said(
    oci: RegistryClient, verb: str, path: str, content: bytes | None, status: int
) -> None:
    await oci.push(small_image(), "a")
    before = len(oci.parts.audited()), len(oci.parts.announced("image.pushed"))
    assert (await oci.call(verb, path, content)).status == status
    assert (len(oci.parts.audited()), len(oci.parts.announced("image.pushed"))) == before


async def test_tags_of_one_version_are_found_by_filter(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    for tag in ("a", "c"):
        await oci.push(one, tag)
    await oci.push(two, "b")
    chosen = quote(f'version="{version_of(one)}"')
    found = (await called(oci, "GET", f"{PACKAGE}/tags?filter={chosen}"))["tags"]
    assert [tag["name"].rpartition("/")[2] for tag in found] == ["a", "c"]
    named = quote(f'name="{WEB}/packages/app/tags/*b*"')
    assert len((await called(oci, "GET", f"{PACKAGE}/tags?filter={named}"))["tags"]) == 1
    assert (await oci.call("GET", f"{PACKAGE}/tags?filter=size%3E5")).status == 400


# Versions.


async def test_a_tagged_version_is_deleted_only_by_force(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a")
    refused = await oci.call("DELETE", f"/v1/{version_of(image)}")
    assert (refused.status, refused.json["error"]["status"]) == (400, "FAILED_PRECONDITION")
    done = await called(oci, "DELETE", f"/v1/{version_of(image)}?force=true")
    assert done["done"] is True
    assert oci.parts.announced("image.deleted")[-1].data["tags"] == ["a"]
    assert (methods(oci)[-1], (await oci.call("GET", f"/v2/{NAME}/manifests/a")).status) == ("DeleteVersion", 404)


async def test_versions_are_deleted_together_indexes_before_what_they_list(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    for image in (one, two):
        await oci.push(image)
    index = index_of(one.manifest, two.manifest)
    top = (await oci.manifest(index, kind=INDEX)).headers["Docker-Content-Digest"]
    names = [version_of(one), version_of(two), f"{WEB}/packages/app/versions/{top}"]
    only = await oci.call("POST", f"{PACKAGE}/versions:batchDelete", body(names=names[:2]))
    assert (only.status, len(oci.parts.announced("image.deleted"))) == (400, 0)
    dry = await called(oci, "POST", f"{PACKAGE}/versions:batchDelete", body(names=names, validateOnly=True))
    assert (dry["done"], len(oci.parts.announced("image.deleted"))) == (True, 0)
    await called(oci, "POST", f"{PACKAGE}/versions:batchDelete", body(names=names))
    assert {event.data["digest"] for event in oci.parts.announced("image.deleted")} == {one.digest, two.digest, top}


async def test_versions_of_another_package_are_not_deleted_together(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image)
    names = [version_of(image), f"{WEB}/packages/other/versions/{image.digest}"]
    assert (await oci.call("POST", f"{PACKAGE}/versions:batchDelete", body(names=names))).status == 400
    assert oci.parts.announced("image.deleted") == []


async def test_versions_are_sorted_by_time_in_pages(oci: RegistryClient) -> None:
    images = [small_image(str(number)) for number in range(5)]
    for image in images:
        await oci.push(image)
        await oci.parts.clock.advance(1)
    wanted = [image.digest for image in reversed(images)]
    found: list[str] = []
    token = ""
    for _ in range(3):
        path = f"{PACKAGE}/versions?orderBy=create_time%20desc&pageSize=2&pageToken={token}"
        page = await called(oci, "GET", path)
        found += [version["name"].rpartition("/")[2] for version in page["versions"]]
        token = page.get("nextPageToken", "")
    assert (found, token) == (wanted, "")
    assert (await oci.call("GET", f"{PACKAGE}/versions?orderBy=colour")).status == 400


async def test_more_than_can_be_sorted_is_said(oci: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SORTED", 1)
    for text in ("one", "two"):
        await oci.push(small_image(text))
    assert (await oci.call("GET", f"{PACKAGE}/versions?orderBy=createTime")).status == 400


async def test_a_filter_looks_through_so_many_and_gives_a_further_page(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "LOOKED_THROUGH", 2)
    monkeypatch.setattr(listing, "_AT_ONCE", 2)
    image = small_image()
    for tag in ("a", "b", "c", "d", "e", "z1", "z2"):
        await oci.push(image, tag)
    chosen = quote(f'name="{WEB}/packages/app/tags/z*"')
    found: list[str] = []
    token, pages = "", 0
    while pages == 0 or token:
        page = await called(oci, "GET", f"{PACKAGE}/tags?filter={chosen}&pageSize=1&pageToken={token}")
        found += [tag["name"].rpartition("/")[2] for tag in page.get("tags", [])]
        token, pages = page.get("nextPageToken", ""), pages + 1
    assert found == ["z1", "z2"]
    assert pages >= 3


async def test_an_image_tells_when_it_was_built_and_an_index_what_it_lists(oci: RegistryClient) -> None:
    one = image_of([layer_of({"a": b"b"})], created="2024-01-02T03:04:05.5Z")
    await oci.push(one, "a")
    child = {**descriptor(MANIFEST, one.manifest), "platform": WINDOWS}
    index = orjson.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]})
    top = (await oci.manifest(index, kind=INDEX)).headers["Docker-Content-Digest"]
    shown = {
        image["name"].rpartition("@")[2]: image
        for image in (await called(oci, "GET", f"{REPOSITORY}/dockerImages"))["dockerImages"]
    }
    assert shown[one.digest]["buildTime"] == "2024-01-02T03:04:05.5Z"
    assert "imageManifests" not in shown[one.digest]
    assert shown[top]["imageManifests"] == [
        {
            "digest": one.digest,
            "mediaType": MANIFEST,
            "os": "windows",
            "architecture": "arm",
            "variant": "v7",
            "osVersion": "10.0.14393.1066",
            "osFeatures": ["win32k"],
        }
    ]


async def test_what_an_index_lists_is_read_from_it_where_it_is_not_remembered(oci: RegistryClient) -> None:
    """Of a long index, or one that was pushed before such things were remembered."""
    image = small_image()
    await oci.push(image)
    children = [
        {**descriptor(MANIFEST, image.manifest), "platform": {"os": "linux", "architecture": f"cpu{number}"}}
        for number in range(MOST_LISTED + 1)
    ]
    long = orjson.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children})
    top = (await oci.manifest(long, kind=INDEX)).headers["Docker-Content-Digest"]
    shown = await called(oci, "GET", f"{REPOSITORY}/dockerImages/app@{top}")
    assert len(shown["imageManifests"]) == MOST_LISTED + 1


def test_records_of_older_registries_are_read() -> None:
    facts = Facts(1, 2, blobs=("a", "b"), platforms=("linux/amd64",))
    kept = {name: value for name, value in orjson.loads(facts.text).items() if name not in NEWER}
    assert Facts.parse(orjson.dumps(kept).decode()) == facts


# Packages.


async def test_annotations_of_packages_and_versions_are_kept_until_they_go(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image)
    for path in (PACKAGE, f"/v1/{version_of(image)}"):
        patched = await called(oci, "PATCH", f"{path}?updateMask=annotations", body(annotations={"team": "web"}))
        assert patched["annotations"] == {"team": "web"}
        assert (await called(oci, "GET", path))["annotations"] == {"team": "web"}
    assert methods(oci)[-2:] == ["UpdatePackage", "UpdateVersion"]
    listed = await called(oci, "GET", f"{REPOSITORY}/packages?filter=annotations.team:web")
    assert len(listed["packages"]) == 1
    assert await called(oci, "GET", f"{REPOSITORY}/packages?filter=annotations.team:api") == {}
    await oci.push(image, "again")
    assert (await called(oci, "GET", f"/v1/{version_of(image)}"))["annotations"] == {"team": "web"}


@pytest.mark.parametrize("annotations", [["a"], {"a": 1}, {"a": "x" * 70_000}, "text"])
async def test_annotations_that_are_none_are_refused(oci: RegistryClient, annotations: Any) -> None:
    await oci.push(small_image())
    assert (await oci.call("PATCH", PACKAGE, body(annotations=annotations))).status == 400


async def test_a_package_is_deleted_with_all_its_versions_and_no_other(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    await oci.push(one, "a")
    await oci.manifest(index_of(one.manifest), "multi", kind=INDEX)
    await oci.push(two, "b", "demo/web/other")
    assert (await called(oci, "DELETE", PACKAGE))["done"] is True
    assert (await oci.call("GET", PACKAGE)).status == 404
    assert len((await called(oci, "GET", f"{REPOSITORY}/packages"))["packages"]) == 1
    assert len(oci.parts.announced("image.deleted")) == 2


# Files.


async def test_files_are_the_blobs_with_size_hash_and_owner(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a")
    loose = await oci.blob(b"not yet named by anybody")
    files = {
        file["name"].rpartition("/")[2]: file for file in (await called(oci, "GET", f"{REPOSITORY}/files"))["files"]
    }
    assert set(files) == {*image.blobs, loose}
    for digest, content in image.blobs.items():
        assert files[digest]["sizeBytes"] == str(len(content))
        assert base64.b64decode(files[digest]["hashes"][0]["value"]).hex() == digest.partition(":")[2]
        assert files[digest]["owner"] == version_of(image)
        assert await called(oci, "GET", f"{REPOSITORY}/files/{quote(digest)}") == files[digest]
    assert "owner" not in files[loose]
    owned = quote(f'owner="{version_of(image)}"')
    assert len((await called(oci, "GET", f"{REPOSITORY}/files?filter={owned}"))["files"]) == len(image.blobs)


async def test_a_file_is_downloaded_whole_or_in_part(oci: RegistryClient) -> None:
    digest = await oci.blob(b"0123456789")
    for written in (digest, quote(digest)):
        got = await oci.call("GET", f"{REPOSITORY}/files/{written}:download?alt=media")
        assert (got.status, got.content) == (200, b"0123456789")
    part = await oci.call("GET", f"{REPOSITORY}/files/{digest}:download?alt=media", Range="bytes=2-4")
    assert (part.status, part.content) == (206, b"234")
    assert (await oci.call("GET", f"{REPOSITORY}/files/{digest}:download")).status == 400


@pytest.mark.parametrize("file", ["nothing", f"sha256:{'0' * 64}", "sha256:", "..%2F..%2Fetc"])
async def test_a_file_that_is_not_there_is_not_found(oci: RegistryClient, file: str) -> None:
    await oci.push(small_image())
    assert (await oci.call("GET", f"{REPOSITORY}/files/{file}")).status == 404
    assert (await oci.call("GET", f"{REPOSITORY}/files/{file}:download?alt=media")).status == 404


async def test_a_file_of_another_repository_is_not_shown(oci: RegistryClient) -> None:
    await oci.push(small_image(), "a")
    digest = await oci.blob(b"secret", "demo/other/app")
    assert (await oci.call("GET", f"{REPOSITORY}/files/{digest}:download?alt=media")).status == 404


# What is there for the whole project.


async def test_names_of_container_registry_have_one_meaning(oci: RegistryClient) -> None:
    path = "/v1/projects/demo/projectSettings"
    state = (await called(oci, "GET", path))["legacyRedirectionState"]
    assert state == "REDIRECTION_FROM_GCR_IO_FINALIZED"
    assert (await called(oci, "PATCH", path, body(legacyRedirectionState=state)))["legacyRedirectionState"] == state
    other = await oci.call("PATCH", path, body(legacyRedirectionState="REDIRECTION_FROM_GCR_IO_DISABLED"))
    assert other.status == 400


async def test_the_policy_for_remote_repositories_is_kept(oci: RegistryClient) -> None:
    path = "/v1/projects/demo/locations/local/vpcscConfig"
    assert (await called(oci, "GET", path))["vpcscPolicy"] == "ALLOW"
    await called(oci, "PATCH", path, body(vpcscPolicy="DENY"))
    assert (await called(oci, "GET", path))["vpcscPolicy"] == "DENY"
    assert methods(oci) == ["UpdateVPCSCConfig"]
    assert (await oci.call("PATCH", path, body(vpcscPolicy="MAYBE"))).status == 400


# Deletions that take long.


async def test_a_deletion_that_takes_long_goes_on_and_its_operation_tells(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for text in ("one", "two"):
        await oci.push(small_image(text))
    apply = oci.parts.parts.state.apply

    async def slowly(step: Any) -> Any:
        await asyncio.sleep(0.05)
        return await apply(step)

    with monkeypatch.context() as slow:
        slow.setattr(repositories, "DELETING_SECONDS", 0.08)
        slow.setattr(oci.parts.parts.state, "apply", slowly)
        begun = await called(oci, "DELETE", REPOSITORY)
    assert begun["done"] is False
    operation = f"/v1/{begun['name']}"
    assert (await called(oci, "GET", operation))["done"] is False
    assert (await oci.call("GET", REPOSITORY)).status == 404
    await asyncio.wait_for(house(oci), 5)
    assert (await called(oci, "GET", operation))["done"] is True
    assert len(oci.parts.announced("image.deleted")) == 2


async def test_an_operation_that_was_finished_at_once_stays_finished(oci: RegistryClient) -> None:
    await oci.push(small_image(), "a")
    done = await called(oci, "DELETE", PACKAGE)
    assert (await called(oci, "GET", f"/v1/{done['name']}"))["done"] is True


@pytest.mark.parametrize("change", ["x", "done", "delete.web.life", "done.0.0", "delete..", "done.é.0"])
async def test_an_operation_that_nobody_was_told_of_is_not_found(oci: RegistryClient, change: str) -> None:
    path = f"/v1/projects/demo/locations/local/operations/{quote(change)}"
    assert (await oci.call("GET", path)).status == 404


@pytest.mark.parametrize(
    ("verb", "path"),
    [
        ("POST", f"{PACKAGE}/tags?tagId=x"),
        ("PATCH", f"{PACKAGE}/tags/a"),
        ("DELETE", f"{PACKAGE}/tags/a"),
        ("DELETE", PACKAGE),
        ("PATCH", PACKAGE),
        ("POST", f"{PACKAGE}/versions:batchDelete"),
        ("GET", f"{REPOSITORY}/files"),
        ("PATCH", "/v1/projects/demo/projectSettings"),
        ("PATCH", "/v1/projects/demo/locations/local/vpcscConfig"),
    ],
)
async def test_a_stranger_may_none_of_it(oci: RegistryClient, verb: str, path: str) -> None:
    await oci.push(small_image(), "a")
    assert (await oci.by("user:stranger@example.org").call(verb, path, b"{}")).status == 403
