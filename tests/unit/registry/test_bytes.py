"""Bytes: how many a repository holds, how many it may hold, and where they go when nothing holds them any more."""

import asyncio
from pathlib import Path
from typing import Any, cast

import orjson
import pytest

from services.registry.counting import Counting
from services.registry.housekeeping import Housekeeping
from services.registry.layout import ALL, MANIFESTS, Layout
from services.registry.ledger import Ledger
from services.registry.store import Store
from shared.events.states import ProjectState
from shared.names import blob_object, manifest_object
from shared.state import Keys
from tests.support.images import MANIFEST, descriptor
from tests.support.registry import NAME, WEB, RegistryClient, artifact, registry, small_image

OTHER = "demo/other/app"
DAY = 86_400.0


def layout() -> Layout:
    return Layout(Keys("registry"))


def house(oci: RegistryClient) -> Housekeeping:
    found = [loop.__self__ for loop in oci.background if isinstance(getattr(loop, "__self__", None), Housekeeping)]
    return found[0]


def objects(oci: RegistryClient) -> dict[str, Any]:
    return cast("Any", oci.parts.parts.blobs).bucket.objects


async def size_of(oci: RegistryClient, repository: str = "web") -> int:
    answer = await oci.call("GET", f"/v1/projects/demo/locations/local/repositories/{repository}")
    assert answer.status == 200, answer
    return int(answer.json["sizeBytes"])


async def counted_anew(oci: RegistryClient, project: str = "demo") -> dict[str, int]:
    """What the records say, whatever the counters do."""
    at, state = layout(), oci.parts.parts.state
    found: dict[str, int] = {}
    counting = Counting(Store(state, at), Ledger(at, oci.parts.parts.clock, DAY, 60.0), oci.parts.parts.ids)
    for repository in await state.members(at.repositories(project)):
        blobs = sum(map(int, (await state.record(at.blobs(project, repository))).values()))
        manifests = sum([version.facts.size async for version in counting.versions(project, repository)])
        found[repository] = blobs + manifests
    return found | {ALL: sum(found.values())}


async def counters(oci: RegistryClient, project: str = "demo") -> dict[str, int]:
    found = await oci.parts.parts.state.record(layout().sizes(project))
    return {repository: int(size) for repository, size in found.items()}


async def collect(oci: RegistryClient, later: float = 0.0) -> int:
    await oci.parts.clock.advance(later)
    return await house(oci).collect_once()


# Sizes.


async def test_a_repository_tells_how_many_bytes_it_holds(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    expected = len(image.manifest) + sum(map(len, image.blobs.values()))
    assert await size_of(oci) == expected
    listed = await oci.call("GET", "/v1/projects/demo/locations/local/repositories")
    assert [each["sizeBytes"] for each in listed.json["repositories"]] == [str(expected)]


async def test_what_is_pushed_twice_is_counted_once(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    before = await size_of(oci)
    await oci.push(image, "v2")
    assert await size_of(oci) == before


async def test_a_mount_counts_in_the_repository_that_mounts(oci: RegistryClient) -> None:
    content = b"x" * 1000
    digest = await oci.blob(content)
    mounted = await oci.call("POST", f"/v2/{OTHER}/blobs/uploads/?mount={digest}&from={NAME}")
    assert mounted.status == 201
    assert await counters(oci) == {"web": 1000, "other": 1000, ALL: 2000}


async def test_counters_are_what_the_records_say_after_all_kinds_of_changes(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    await oci.push(one, "v1")
    await oci.push(two, "v1")
    await oci.push(one, "v1", OTHER)
    await oci.manifest(artifact(subject=one.manifest))
    loose = await oci.blob(b"loose")
    await oci.call("DELETE", f"/v2/{NAME}/blobs/{loose}")
    await oci.call("DELETE", f"/v2/{NAME}/manifests/{two.digest}")
    assert await counters(oci) == await counted_anew(oci)
    await oci.call("DELETE", "/v1/projects/demo/locations/local/repositories/other")
    assert await counters(oci) == await counted_anew(oci)
    assert "other" not in await counters(oci)


async def test_repositories_older_than_the_counters_are_counted_once(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    right = await counters(oci)
    store = cast("Any", oci.parts.parts.state).store
    for key in (layout().sizes("demo"), layout().counted("demo"), layout().due_of("demo")):
        store.hashes.pop(key, None)
        store.indexes.pop(key, None)
    store.indexes.pop(layout().uses("demo", image.digest, MANIFESTS))
    await oci.blob(b"pushed before it is counted")
    await collect(oci)
    assert await counters(oci) == await counted_anew(oci)
    assert (await counters(oci))["web"] == right["web"] + len(b"pushed before it is counted")
    assert await oci.parts.parts.state.size(layout().uses("demo", image.digest, MANIFESTS)) == 1


# Quotas.


async def patch_label(oci: RegistryClient, value: str) -> int:
    body = orjson.dumps({"labels": {"entrepot-quota-bytes": value}})
    answer = await oci.call("PATCH", f"/v1/{WEB}?updateMask=labels", body)
    await oci.parts.clock.advance(11)
    return answer.status


async def test_what_is_announced_beyond_the_quota_is_refused_before_it_is_sent() -> None:
    async with registry(repository_quota_bytes="1000") as oci:
        await oci.blob(b"x" * 900)
        content = b"y" * 101
        digest = descriptor(MANIFEST, content)["digest"]
        answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest}", content)
        assert (answer.status, answer.code) == (403, "DENIED")
        assert "holds 900 of 1000 bytes, 101 more do not fit" in answer.json["errors"][0]["message"]
        assert blob_object("demo", digest) not in objects(oci)
        assert (await counters(oci))["web"] == 900


@pytest.mark.parametrize("announced", [True, False])
async def test_a_chunk_beyond_the_quota_is_refused_and_the_upload_is_over(*, announced: bool) -> None:
    async with registry(repository_quota_bytes="1000") as oci:
        address = await oci.begin()

        async def pieces() -> Any:
            for _ in range(3):
                yield b"z" * 400

        answer = await oci.call("PATCH", address, b"z" * 1200 if announced else pieces())
        assert (answer.status, answer.code) == (403, "DENIED")
        assert not cast("Any", oci.parts.parts.blobs).bucket.uploads
        assert (await counters(oci))["web"] == 0


async def test_a_full_repository_refuses_the_upload_at_its_beginning() -> None:
    async with registry(repository_quota_bytes="5") as oci:
        held = await oci.blob(b"12345")
        answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/")
        assert (answer.status, answer.code) == (403, "DENIED")
        again = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={held}", b"12345")
        assert again.status == 201


async def test_concurrent_uploads_do_not_exceed_the_quota_together() -> None:
    async with registry(repository_quota_bytes="1000") as oci:
        await oci.blob(b"first")
        contents = [bytes([number]) * 300 for number in range(8)]
        digests = [descriptor(MANIFEST, content)["digest"] for content in contents]
        answers = await asyncio.gather(
            *(
                oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest}", content)
                for digest, content in zip(digests, contents, strict=True)
            )
        )
        assert sorted(answer.status for answer in answers) == [201] * 3 + [403] * 5
        assert await counters(oci) == {"web": 905, ALL: 905} == await counted_anew(oci)


async def test_a_mount_and_a_manifest_keep_to_the_quota_too() -> None:
    async with registry(repository_quota_bytes="1000") as oci:
        digest = await oci.blob(b"x" * 600, OTHER)
        await oci.blob(b"y" * 600)
        mounted = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?mount={digest}&from={OTHER}")
        assert (mounted.status, mounted.code) == (403, "DENIED")
        await oci.blob(b"{}")
        pushed = await oci.manifest(artifact(annotations={"long": "a" * 400}))
        assert (pushed.status, pushed.code) == (403, "DENIED")
        assert await counters(oci) == await counted_anew(oci)


async def test_a_repositorys_label_says_more_than_the_default() -> None:
    async with registry(repository_quota_bytes="10") as oci:
        await oci.blob(b"12345")
        assert await patch_label(oci, "100") == 200
        await oci.blob(b"x" * 90)
        assert await patch_label(oci, "none") == 200
        await oci.blob(b"x" * 900)
        assert await patch_label(oci, "12x") == 400
        assert await oci.by("user:nobody@example.org").call("PATCH", f"/v1/{WEB}", b"{}")
        assert (await oci.call("GET", f"/v1/{WEB}")).json["labels"] == {"entrepot-quota-bytes": "none"}


async def test_a_projects_quota_is_for_all_its_repositories_together(oci: RegistryClient) -> None:
    await oci.blob(b"x" * 600)
    labels = {"entrepot-quota-bytes": "1000"}
    oci.parts.parts.directory.learn(ProjectState(project="demo", number=1, labels=labels), 9)
    digest = descriptor(MANIFEST, b"y" * 600)["digest"]
    answer = await oci.call("POST", f"/v2/{OTHER}/blobs/uploads/?digest={digest}", b"y" * 600)
    assert (answer.status, answer.code) == (403, "DENIED")
    assert "the project demo holds 600 of 1000 bytes" in answer.json["errors"][0]["message"]


async def test_who_is_over_the_quota_can_delete() -> None:
    async with registry(repository_quota_bytes="2000", collect_after_seconds="60") as oci:
        image = small_image()
        await oci.push(image, "v1")
        await patch_label(oci, "1")
        assert (await oci.call("DELETE", f"/v2/{NAME}/manifests/{image.digest}")).status == 202
        await collect(oci, 61)
        assert await size_of(oci) == 0


# Clearing.


async def test_what_nothing_refers_to_goes_after_its_rest(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await oci.call("DELETE", f"/v2/{NAME}/manifests/{image.digest}")
    names = [blob_object("demo", digest) for digest in image.blobs] + [manifest_object("demo", image.digest)]
    await collect(oci, 3000)
    assert all(name in objects(oci) for name in names)
    await collect(oci, 601)
    await collect(oci, 3601)
    assert not any(name in objects(oci) for name in names)
    assert await counters(oci) == {"web": 0, ALL: 0}
    assert not await oci.parts.parts.state.size(layout().due_of("demo"))


async def test_what_is_referred_to_stays(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    await oci.push(one, "v1")
    await oci.push(two, "v2")
    await oci.call("DELETE", f"/v2/{NAME}/manifests/{two.digest}")
    for _ in range(4):
        await collect(oci, DAY)
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/v1")).content == one.manifest
    for digest, content in one.blobs.items():
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content


async def test_a_blob_that_was_said_to_be_there_stays_for_a_day(oci: RegistryClient) -> None:
    digest = await oci.blob(b"layer")
    await oci.parts.clock.advance(DAY - 10)
    assert (await oci.call("HEAD", f"/v2/{NAME}/blobs/{digest}")).status == 200
    await collect(oci, 3600)
    assert (await oci.call("HEAD", f"/v2/{NAME}/blobs/{digest}")).status == 200
    await collect(oci, DAY + 1)
    assert (await oci.call("HEAD", f"/v2/{NAME}/blobs/{digest}")).status == 404


async def test_a_mounted_blob_keeps_its_bytes_when_the_first_owner_is_deleted(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await oci.push(image, "v1", OTHER)
    await oci.call("DELETE", f"/v1/{WEB}")
    for _ in range(4):
        await collect(oci, DAY)
    assert (await oci.call("GET", f"/v2/{OTHER}/manifests/v1")).content == image.manifest
    for digest, content in image.blobs.items():
        assert (await oci.call("GET", f"/v2/{OTHER}/blobs/{digest}")).content == content


async def test_the_bytes_of_a_deleted_repository_go(oci: RegistryClient) -> None:
    await oci.push(small_image(), "v1")
    await oci.blob(b"loose")
    await oci.call("DELETE", f"/v1/{WEB}")
    await collect(oci, DAY)
    assert not [name for name in objects(oci) if name.startswith(("blobs/", "manifests/"))]


async def test_bytes_that_a_crash_left_are_found_by_a_search(oci: RegistryClient) -> None:
    await oci.push(small_image(), "v1")
    before = set(objects(oci))
    lost = descriptor(MANIFEST, b"lost")["digest"]
    unknown = blob_object("unknown-to-state", lost)
    for name in (blob_object("demo", lost), manifest_object("demo", lost), unknown):
        await oci.parts.parts.blobs.put(name, b"lost")
    await collect(oci, 10)
    assert set(objects(oci)) > before
    await collect(oci, DAY + 1)
    await collect(oci, 1)
    assert set(objects(oci)) == before | {unknown}


async def test_a_dry_run_clears_nothing() -> None:
    async with registry(collect="dry-run") as oci:
        image = small_image()
        await oci.push(image, "v1")
        await oci.call("DELETE", f"/v2/{NAME}/manifests/{image.digest}")
        before = set(objects(oci))
        await collect(oci, DAY)
        assert set(objects(oci)) == before
        assert house(oci).searching.collecting.tally.would == len(image.blobs) + 1


async def test_what_is_pushed_again_after_it_was_cleared_is_there(oci: RegistryClient) -> None:
    image = small_image()
    for _ in range(3):
        await oci.push(image, "v1")
        assert (await oci.call("GET", f"/v2/{NAME}/manifests/v1")).content == image.manifest
        await oci.call("DELETE", f"/v2/{NAME}/manifests/{image.digest}")
        await collect(oci, 3601)
        await collect(oci, 3601)
        assert blob_object("demo", next(iter(image.blobs))) not in objects(oci)
    await oci.push(image, "v1")
    for digest, content in image.blobs.items():
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content


async def test_files_of_a_directory_go_too(tmp_path: Path) -> None:
    async with registry(tmp_path) as oci:
        image = small_image()
        await oci.push(image, "v1")
        kept = await oci.push(small_image("stays"), "v2")
        await oci.call("DELETE", f"/v2/{NAME}/manifests/{image.digest}")
        for _ in range(2):
            await collect(oci, 3601)
        left = [stat.name async for stat in oci.parts.parts.blobs.names("")]
        assert manifest_object("demo", kept.headers["Docker-Content-Digest"]) in left
        assert manifest_object("demo", image.digest) not in left
        assert not [name for name in left if any(digest[7:] in name for digest in image.blobs)]


async def test_an_audit_entry_tells_what_a_repository_forgot(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await oci.call("DELETE", f"/v2/{NAME}/manifests/{image.digest}")
    await collect(oci, 3601)
    (told,) = oci.parts.announced("audit.system")
    entry = told.data["entry"]["protoPayload"]
    assert entry["methodName"] == "entrepot.registry.v1.ForgetBlobs"
    assert entry["resourceName"] == WEB
    assert set(entry["request"]["digests"]) == set(image.blobs)
