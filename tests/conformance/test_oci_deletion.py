"""Deletion: tags alone, digests with their tags, and what may not go yet."""

from tests.support.images import digest_of
from tests.support.registry import INDEX, NAME, RegistryClient, artifact, index_of, small_image

MANIFESTS = f"/v2/{NAME}/manifests"


async def test_deleting_a_tag_leaves_the_manifest_and_its_other_tags(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "one")
    await oci.push(image, "two")
    assert (await oci.call("DELETE", f"{MANIFESTS}/one")).status == 202
    assert (await oci.call("HEAD", f"{MANIFESTS}/one")).status == 404
    assert (await oci.call("HEAD", f"{MANIFESTS}/two")).status == 200
    assert (await oci.call("HEAD", f"{MANIFESTS}/{image.digest}")).status == 200
    assert (await oci.call("DELETE", f"{MANIFESTS}/one")).status == 404


async def test_deleting_a_digest_takes_its_tags_along(oci: RegistryClient) -> None:
    image, other = small_image("one"), small_image("two")
    await oci.push(image, "one")
    await oci.push(image, "two")
    await oci.push(other, "other")
    assert (await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")).status == 202
    for reference in ("one", "two", image.digest):
        assert (await oci.call("HEAD", f"{MANIFESTS}/{reference}")).status == 404
    assert (await oci.call("GET", f"/v2/{NAME}/tags/list")).json["tags"] == ["other"]
    again = await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")
    assert (again.status, again.code) == (404, "MANIFEST_UNKNOWN")


async def test_what_an_index_lists_goes_only_after_the_index(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image)
    index = index_of(image.manifest)
    await oci.manifest(index, "multi", kind=INDEX)
    refused = await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")
    assert (refused.status, refused.code) == (403, "DENIED")
    assert digest_of(index) in refused.json["errors"][0]["message"]
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(index)}")).status == 202
    assert (await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")).status == 202


async def test_a_referrer_outlives_its_subject_until_it_is_deleted_itself(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    await oci.blob(b"{}")
    referrer = artifact(image.manifest)
    await oci.manifest(referrer)
    assert (await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")).status == 202
    listed = (await oci.call("GET", f"/v2/{NAME}/referrers/{image.digest}")).json["manifests"]
    assert [each["digest"] for each in listed] == [digest_of(referrer)]
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(referrer)}")).status == 202
    assert (await oci.call("GET", f"/v2/{NAME}/referrers/{image.digest}")).json["manifests"] == []


async def test_an_image_whose_last_manifest_has_gone_is_unknown(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    await oci.call("DELETE", f"{MANIFESTS}/{image.digest}")
    assert (await oci.call("GET", f"/v2/{NAME}/tags/list")).status == 404
    await oci.push(image, "again")
    assert (await oci.call("GET", f"/v2/{NAME}/tags/list")).json["tags"] == ["again"]


async def test_a_manifest_with_very_many_tags_goes_with_all_of_them(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    digest = digest_of(artifact())
    for begin in range(0, 350, 50):
        tags = "&".join(f"tag=t{number:04}" for number in range(begin, begin + 50))
        assert (await oci.manifest(artifact(), f"{digest}?{tags}")).status == 201
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest}")).status == 202
    assert (await oci.call("HEAD", f"{MANIFESTS}/t0349")).status == 404
    deleted = oci.parts.announced("image.deleted")
    assert (len(deleted), len(deleted[0].data["tags"])) == (1, 300)
    assert len(oci.parts.announced("image.untagged")) == 50


async def test_an_unknown_digest_cannot_be_deleted(oci: RegistryClient) -> None:
    answer = await oci.call("DELETE", f"{MANIFESTS}/{digest_of(b'unknown')}")
    assert (answer.status, answer.code) == (404, "MANIFEST_UNKNOWN")
