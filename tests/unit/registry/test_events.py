"""What is said of each change, and that it is said in the change's own step."""

import asyncio
from typing import Any

import pytest

from shared.events.images import ImagePulled
from shared.state import Moved, StateUnavailable, Step
from tests.support.images import MANIFEST, digest_of
from tests.support.registry import ADA, INDEX, NAME, RegistryClient, artifact, index_of, small_image

MANIFESTS = f"/v2/{NAME}/manifests"


async def test_a_push_is_announced_with_everything_that_is_known_of_it(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    (pushed,) = oci.parts.announced("image.pushed")
    total = len(image.manifest) + sum(map(len, image.blobs.values()))
    uploaded = pushed.data.pop("uploaded")
    assert uploaded.startswith("2026-")
    assert pushed.data == {
        "project": "demo",
        "location": "local",
        "repository": "web",
        "image": "app",
        "digest": image.digest,
        "tag": "v1",
        "media_type": MANIFEST,
        "size": total,
        "platforms": ["linux/amd64"],
    }
    assert (pushed.actor, pushed.subject) == (ADA, "image.pushed.demo.local.web")


async def test_a_moved_tag_tells_what_it_pointed_at_before(oci: RegistryClient) -> None:
    first, second = small_image("one"), small_image("two")
    await oci.push(first, "latest")
    await oci.push(second, "latest")
    assert oci.parts.announced("image.pushed")[1].data["previous_digest"] == first.digest


async def test_the_same_push_again_is_unchanged(oci: RegistryClient) -> None:
    image = small_image()
    for reference in ("latest", "latest", "", ""):
        await oci.push(image, reference)
    pushed = oci.parts.announced("image.pushed")
    assert [event.data.get("unchanged", False) for event in pushed] == [False, True, True, True]
    assert len({event.data["uploaded"] for event in pushed}) == 1


async def test_a_referrer_tells_subject_and_type_and_an_index_its_platforms(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.manifest(artifact(b"subject", "application/vnd.sbom"))
    await oci.manifest(index_of(artifact(b"subject", "application/vnd.sbom")), kind=INDEX)
    referrer, index = oci.parts.announced("image.pushed")
    assert referrer.data["subject_digest"] == digest_of(b"subject")
    assert referrer.data["artifact_type"] == "application/vnd.sbom"
    assert index.data["platforms"] == ["linux/cpu0"]


async def test_several_tags_are_several_events_of_one_step(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.manifest(artifact(), f"{digest_of(artifact())}?tag=a&tag=b")
    pushed = oci.parts.announced("image.pushed")
    assert [event.data["tag"] for event in pushed] == ["a", "b"]
    assert pushed[0].generation == pushed[1].generation


async def test_untagging_and_deleting_are_announced(oci: RegistryClient) -> None:
    image = small_image()
    for tag in "abc":
        await oci.push(image, tag)
    await oci.call("DELETE", f"{MANIFESTS}/b")
    await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")
    (untagged,) = oci.parts.announced("image.untagged")
    assert (untagged.data["tag"], untagged.data["digest"]) == ("b", image.digest)
    (deleted,) = oci.parts.announced("image.deleted")
    assert (deleted.data["tags"], deleted.data["media_type"]) == (["a", "c"], MANIFEST)
    assert deleted.generation > untagged.generation


async def test_googles_own_notifications_are_said_beside(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await oci.call("DELETE", f"{MANIFESTS}/v1")
    await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")
    address = "local-docker.pkg.dev/demo/web/app"
    assert [event.data for event in oci.parts.announced("gcr")] == [
        {"action": "INSERT", "digest": f"{address}@{image.digest}", "tag": f"{address}:v1"},
        {"action": "DELETE", "tag": f"{address}:v1"},
        {"action": "DELETE", "digest": f"{address}@{image.digest}"},
    ]


async def test_every_change_is_audited_once_by_the_name_it_has_at_google(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1")
    await oci.call("DELETE", f"{MANIFESTS}/v1")
    await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")
    await oci.call("DELETE", f"/v2/{NAME}/blobs/{next(iter(image.blobs))}")
    methods = [entry["protoPayload"]["methodName"] for entry in oci.parts.audited()]
    assert methods == [
        "google.devtools.artifactregistry.v1.ArtifactRegistry.CreateRepository",
        "Docker-FinishUpload",
        "Docker-FinishUpload",
        "Docker-PutManifest",
        "Docker-DeleteTag",
        "Docker-DeleteManifest",
        "Docker-DeleteBlob",
    ]


async def test_a_push_that_is_refused_says_and_keeps_nothing(oci: RegistryClient) -> None:
    image = small_image()
    await oci.begin()
    before = len(oci.parts.announced())
    assert (await oci.manifest(image.manifest, "latest")).status == 404
    assert len(oci.parts.announced()) == before
    assert not [name for name in oci.parts.bucket.objects if name.startswith("manifests/")]


async def test_bytes_are_durable_before_anything_is_said(oci: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    image = small_image()
    for content in image.blobs.values():
        await oci.blob(content)
    seen: list[set[str]] = []
    apply = oci.parts.parts.state.apply

    async def watching(step: Step) -> object:
        seen.append(set(oci.parts.bucket.objects))
        return await apply(step)

    monkeypatch.setattr(oci.parts.parts.state, "apply", watching)
    await oci.manifest(image.manifest, "latest")
    manifest = next(name for name in oci.parts.bucket.objects if name.startswith("manifests/demo/"))
    assert [manifest in objects for objects in seen] == [True]


@pytest.mark.parametrize(("error", "status"), [(StateUnavailable("away"), 503), (Moved(), 503)])
async def test_a_state_that_fails_or_always_moves_is_a_retryable_answer(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch, error: Exception, status: int
) -> None:
    await oci.blob(b"{}")

    async def failing(step: Step) -> object:
        del step
        raise error

    monkeypatch.setattr(oci.parts.parts.state, "apply", failing)
    answer = await oci.manifest(artifact(), "latest")
    assert (answer.status, answer.code) == (status, "UNAVAILABLE")


async def test_pulls_are_counted_and_told_once_a_second_by_digest(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    for reference in ("latest", image.digest, "latest"):
        await oci.call("GET", f"{MANIFESTS}/{reference}")
    await oci.call("HEAD", f"{MANIFESTS}/latest")
    assert pulls_of(oci) == []
    await told(oci)
    (pulled,) = pulls_of(oci)
    assert (pulled.digest, pulled.count, pulled.image) == (image.digest, 3, "app")
    assert (pulled.looks, pulled.below, pulled.tags) == (1, 0, ("latest",))
    await told(oci)
    assert len(pulls_of(oci)) == 1


async def test_who_only_asks_for_a_manifest_is_counted_apart_and_pulls_nothing(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    await oci.call("HEAD", f"{MANIFESTS}/latest")
    await oci.call("GET", f"{MANIFESTS}/latest", If_None_Match=f'"{image.digest}"')
    await told(oci)
    (pulled,) = pulls_of(oci)
    assert (pulled.count, pulled.looks, pulled.last_pulled, pulled.tags) == (0, 2, "", ())


async def test_a_pull_by_digest_counts_for_the_indexes_that_list_it_and_names_their_tags(oci: RegistryClient) -> None:
    """As docker does it: HEAD of the tag, the index by digest, then the manifest for its own platform."""
    one, two = small_image("one"), small_image("two")
    inner = index_of(one.manifest, two.manifest)
    outer = index_of(inner)
    for image in (one, two):
        await oci.push(image)
    await oci.manifest(inner, kind=INDEX)
    await oci.manifest(outer, "latest", kind=INDEX)
    await oci.call("HEAD", f"{MANIFESTS}/latest")
    await oci.call("GET", f"{MANIFESTS}/{digest_of(outer)}")
    for _ in range(2):
        await oci.call("GET", f"{MANIFESTS}/{one.digest}")
    await told(oci)
    found = {event.digest: event for event in pulls_of(oci)}
    assert {digest: (event.count, event.below, event.looks) for digest, event in found.items()} == {
        digest_of(outer): (1, 2, 1),
        digest_of(inner): (0, 2, 0),
        one.digest: (2, 0, 0),
    }
    assert len({event.last_pulled for event in found.values()}) == 1
    assert (found[digest_of(outer)].tags, found[one.digest].tags) == (("latest",), ())


async def test_counting_pulls_asks_state_once_a_minute_and_writes_nothing(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = small_image()
    await oci.push(image, "latest")
    state, asked = oci.parts.parts.state, 0
    members = state.members

    async def counting(*arguments: Any, **options: Any) -> Any:
        nonlocal asked
        asked += 1
        return await members(*arguments, **options)

    async def refusing(step: Step) -> Any:
        raise AssertionError(step)

    monkeypatch.setattr(state, "members", counting)
    monkeypatch.setattr(state, "apply", refusing)
    for _ in range(30):
        await oci.call("GET", f"{MANIFESTS}/latest")
        await told(oci)
    assert (len(pulls_of(oci)), asked) == (30, 2)
    await oci.parts.clock.advance(60.0)
    await oci.call("GET", f"{MANIFESTS}/latest")
    await told(oci)
    assert asked == 4


async def test_pulls_are_told_also_while_the_state_store_is_away(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = small_image()
    await oci.push(image, "latest")
    await oci.call("GET", f"{MANIFESTS}/latest")

    async def away(key: str, **options: Any) -> Any:
        raise StateUnavailable(f"{key} {options}")

    monkeypatch.setattr(oci.parts.parts.state, "members", away)
    await told(oci)
    (pulled,) = pulls_of(oci)
    assert (pulled.count, pulled.tags) == (1, ())


def pulls_of(oci: RegistryClient) -> list[ImagePulled]:
    return [event for event in oci.parts.journal.events if isinstance(event, ImagePulled)]


async def told(oci: RegistryClient) -> None:
    """Let the loop that tells pulls run once."""
    loop = asyncio.create_task(oci.background[0]())
    await asyncio.sleep(0)
    await oci.parts.clock.advance(1.0)
    for _ in range(20):
        await asyncio.sleep(0)
    loop.cancel()
