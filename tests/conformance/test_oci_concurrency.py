"""Many at once: racing pushes of the same thing all succeed, and what is said of them is in order."""

import asyncio

from tests.support.images import digest_of
from tests.support.registry import NAME, RegistryClient, artifact, small_image

MANIFESTS = f"/v2/{NAME}/manifests"


async def test_racing_pushes_of_the_same_image_all_succeed(oci: RegistryClient) -> None:
    image = small_image()
    await asyncio.gather(*(oci.push(image, "latest") for _ in range(12)))
    pushed = oci.parts.announced("image.pushed")
    assert [event.data.get("unchanged", False) for event in pushed] == [False] + [True] * 11


async def test_racing_pushes_to_one_tag_all_succeed_and_the_events_form_a_chain(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    contents = [artifact(annotations={"n": str(number)}) for number in range(16)]
    answers = await asyncio.gather(*(oci.manifest(content, "latest") for content in contents))
    assert {answer.status for answer in answers} == {201}
    pushed = oci.parts.announced("image.pushed")
    before = ""
    for event in pushed:
        assert event.data.get("previous_digest", "") == before
        before = event.data["digest"]
    assert [event.generation for event in pushed] == sorted(event.generation for event in pushed)
    head = await oci.call("HEAD", f"{MANIFESTS}/latest")
    assert head.headers["Docker-Content-Digest"] == before


async def test_a_deletion_and_pushes_that_race_leave_whole_things_only(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    content, digest = artifact(), digest_of(artifact())
    await oci.manifest(content, "a")
    pushes = (oci.manifest(content, tag) for tag in "bcdef")
    await asyncio.gather(oci.call("DELETE", f"{MANIFESTS}/{digest}"), *pushes)
    there = (await oci.call("HEAD", f"{MANIFESTS}/{digest}")).status == 200
    listed = await oci.call("GET", f"/v2/{NAME}/tags/list")
    tags = listed.json["tags"] if listed.status == 200 else []
    for tag in tags:
        assert there
        assert (await oci.call("GET", f"{MANIFESTS}/{tag}")).content == content


async def test_racing_first_pushes_make_one_repository(oci: RegistryClient) -> None:
    await asyncio.gather(*(oci.begin() for _ in range(10)))
    assert len(oci.parts.announced("repository.changed")) == 1
