"""Referrers that clients list under a tag of the digest's own form, because they know no subjects or no referrers."""

from typing import Any

from tests.support.images import MANIFEST, descriptor, digest_of
from tests.support.registry import INDEX, NAME, RegistryClient, artifact, index_of, json_bytes, sha512_of

REFERRERS = f"/v2/{NAME}/referrers"


def kind(number: int, subject: bytes | None = None) -> bytes:
    return artifact(subject, kind=f"application/vnd.test.{number}")


def tag_of(subject: bytes) -> str:
    return digest_of(subject).replace(":", "-")


async def listed(oci: RegistryClient, subject: bytes, kind: str = "") -> list[Any]:
    query = f"?artifactType={kind}" if kind else ""
    answer = await oci.call("GET", f"{REFERRERS}/{digest_of(subject)}{query}")
    assert answer.status == 200
    return answer.json["manifests"]


async def keep(oci: RegistryClient, subject: bytes, *referrers: bytes) -> None:
    """What such a client does: the manifests, then the index under the tag."""
    await oci.blob(b"{}")
    for each in referrers:
        assert (await oci.manifest(each)).status == 201
    assert (await oci.manifest(index_of(*referrers), tag_of(subject), kind=INDEX)).status == 201


async def test_what_the_index_under_the_tag_lists_is_among_the_referrers(oci: RegistryClient) -> None:
    subject = kind(0)
    await keep(oci, subject, kind(1), kind(2))
    found = await listed(oci, subject)
    assert [each["digest"] for each in found] == sorted(map(digest_of, (kind(1), kind(2))))
    assert {each["artifactType"] for each in found} == {"application/vnd.test.1", "application/vnd.test.2"}
    assert found[0]["size"] == len(kind(1))


async def test_what_is_known_both_ways_is_listed_once(oci: RegistryClient) -> None:
    subject = kind(0)
    both, by_subject = kind(1, subject), kind(2, subject)
    await keep(oci, subject, both, kind(3))
    await oci.manifest(by_subject)
    found = [each["digest"] for each in await listed(oci, subject)]
    assert found == sorted(map(digest_of, (both, by_subject, kind(3))))


async def test_the_filter_is_applied_to_them_too(oci: RegistryClient) -> None:
    await keep(oci, kind(0), kind(1), kind(2))
    assert [each["digest"] for each in await listed(oci, kind(0), "application/vnd.test.2")] == [digest_of(kind(2))]


async def test_the_list_follows_the_tag_at_once(oci: RegistryClient) -> None:
    subject = kind(0)
    await keep(oci, subject, kind(1))
    await keep(oci, subject, kind(1), kind(2))
    assert len(await listed(oci, subject)) == 2
    assert (await oci.call("DELETE", f"/v2/{NAME}/manifests/{tag_of(subject)}")).status == 202
    assert await listed(oci, subject) == []


async def test_what_has_another_subject_is_not_taken_for_a_referrer(oci: RegistryClient) -> None:
    await keep(oci, kind(0), kind(1, kind(9)), kind(2))
    assert [each["digest"] for each in await listed(oci, kind(0))] == [digest_of(kind(2))]


async def test_a_tag_that_only_begins_like_that_lists_nothing(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.manifest(kind(1))
    await oci.manifest(index_of(kind(1)), f"{tag_of(kind(0))}.sig", kind=INDEX)
    await oci.manifest(kind(2), tag_of(kind(0)))  # no index
    assert await listed(oci, kind(0)) == []


async def test_both_come_in_pages_in_one_order(oci: RegistryClient) -> None:
    subject = kind(0)
    by_tag, by_subject = [kind(number) for number in range(1, 91)], [kind(number, subject) for number in range(60)]
    await keep(oci, subject, *by_tag)
    for each in by_subject:
        await oci.manifest(each)
    found: list[str] = []
    path = f"{REFERRERS}/{digest_of(subject)}"
    while path:
        answer = await oci.call("GET", path)
        found += [each["digest"] for each in answer.json["manifests"]]
        path = answer.headers.get("Link", "").partition(">")[0].removeprefix("<")
    assert found == sorted(map(digest_of, by_tag + by_subject))


async def test_a_digest_of_the_longer_algorithm_has_a_tag_of_the_same_length(oci: RegistryClient) -> None:
    subject = kind(0)
    await oci.blob(b"{}")
    await oci.manifest(kind(1))
    children = [descriptor(MANIFEST, kind(1))]
    index = json_bytes({"schemaVersion": 2, "mediaType": INDEX, "manifests": children})
    digest = sha512_of(subject)
    assert (await oci.manifest(index, digest.replace(":", "-")[: len("sha512-") + 64], kind=INDEX)).status == 201
    answer = await oci.call("GET", f"{REFERRERS}/{digest}")
    assert [each["digest"] for each in answer.json["manifests"]] == [digest_of(kind(1))]
