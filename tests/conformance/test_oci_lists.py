"""Lists: tags, referrers and the catalog, page by page."""

import pytest

from tests.support.images import MANIFEST, digest_of
from tests.support.registry import BEN, INDEX, NAME, RegistryClient, artifact, index_of, small_image

TAGS = f"/v2/{NAME}/tags/list"
REFERRERS = f"/v2/{NAME}/referrers"


@pytest.fixture
async def tagged(oci: RegistryClient) -> RegistryClient:
    await oci.blob(b"{}")
    for tag in ("b", "a", "C", "a1", "10", "9"):
        assert (await oci.manifest(artifact(), tag)).status == 201
    return oci


async def tags(oci: RegistryClient, query: str = "") -> list[str]:
    return (await oci.call("GET", f"{TAGS}{query}")).json["tags"]


async def test_tags_come_in_byte_order(tagged: RegistryClient) -> None:
    answer = await tagged.call("GET", TAGS)
    assert answer.json == {"name": NAME, "tags": ["10", "9", "C", "a", "a1", "b"]}
    assert "Link" not in answer.headers


async def test_a_page_has_n_tags_and_a_link_to_the_next(tagged: RegistryClient) -> None:
    answer = await tagged.call("GET", f"{TAGS}?n=4")
    assert answer.json["tags"] == ["10", "9", "C", "a"]
    assert answer.headers["Link"] == f'<{TAGS}?n=4&last=a>; rel="next"'
    following = await tagged.call("GET", answer.headers["Link"][1:].partition(">")[0])
    assert following.json["tags"] == ["a1", "b"]
    assert "Link" not in following.headers


async def test_a_page_that_ends_with_the_list_has_no_link(tagged: RegistryClient) -> None:
    assert "Link" not in (await tagged.call("GET", f"{TAGS}?n=6")).headers


async def test_last_need_not_exist_and_is_left_out(tagged: RegistryClient) -> None:
    assert await tags(tagged, "?last=a") == ["a1", "b"]
    assert await tags(tagged, "?last=a0") == ["a1", "b"]
    assert await tags(tagged, "?last=z") == []


async def test_no_tags_are_asked_for_and_none_come(tagged: RegistryClient) -> None:
    answer = await tagged.call("GET", f"{TAGS}?n=0")
    assert (answer.json["tags"], "Link" in answer.headers) == ([], False)


@pytest.mark.parametrize("n", ["-1", "x", "1.5", "99999999999"])
async def test_a_page_size_that_is_no_number_is_refused(tagged: RegistryClient, n: str) -> None:
    answer = await tagged.call("GET", f"{TAGS}?n={n}")
    assert (answer.status, answer.code) == (400, "PAGINATION_NUMBER_INVALID")


async def test_an_image_without_tags_has_an_empty_list_never_null(oci: RegistryClient) -> None:
    await oci.push(small_image())
    assert await tags(oci) == []


async def test_an_unknown_image_has_no_list(oci: RegistryClient) -> None:
    answer = await oci.call("GET", TAGS)
    assert (answer.status, answer.code) == (404, "NAME_UNKNOWN")


# Referrers.


async def attached(oci: RegistryClient, subject: bytes, kind: str, **more: object) -> str:
    content = artifact(subject, kind, **more)
    pushed = await oci.manifest(content)
    assert (pushed.status, pushed.headers["OCI-Subject"]) == (201, digest_of(subject))
    return digest_of(content)


async def test_referrers_are_listed_with_type_and_annotations(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "latest")
    await oci.blob(b"{}")
    digest = await attached(oci, image.manifest, "application/vnd.sbom", annotations={"by": "ada"})
    answer = await oci.call("GET", f"{REFERRERS}/{image.digest}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    body = answer.json
    assert (body["schemaVersion"], body["mediaType"]) == (2, INDEX)
    assert body["manifests"] == [
        {
            "mediaType": MANIFEST,
            "digest": digest,
            "size": len(artifact(image.manifest, "application/vnd.sbom", annotations={"by": "ada"})),
            "artifactType": "application/vnd.sbom",
            "annotations": {"by": "ada"},
        }
    ]


async def test_a_referrer_without_artifact_type_goes_by_its_config(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await attached(oci, b"subject", "")
    body = (await oci.call("GET", f"{REFERRERS}/{digest_of(b'subject')}")).json
    assert body["manifests"][0]["artifactType"] == "application/vnd.oci.empty.v1+json"


async def test_an_index_without_artifact_type_is_listed_without(oci: RegistryClient) -> None:
    content = index_of(subject={"mediaType": MANIFEST, "digest": digest_of(b"subject"), "size": 7})
    pushed = await oci.manifest(content, kind=INDEX)
    assert pushed.headers["OCI-Subject"] == digest_of(b"subject")
    body = (await oci.call("GET", f"{REFERRERS}/{digest_of(b'subject')}")).json
    assert "artifactType" not in body["manifests"][0]


async def test_a_filter_is_applied_and_said_so(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await attached(oci, b"subject", "application/vnd.one")
    wanted = await attached(oci, b"subject", "application/vnd.two")
    answer = await oci.call("GET", f"{REFERRERS}/{digest_of(b'subject')}?artifactType=application/vnd.two")
    assert answer.headers["OCI-Filters-Applied"] == "artifactType"
    assert [found["digest"] for found in answer.json["manifests"]] == [wanted]


async def test_many_referrers_come_in_pages(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    pushed = {await attached(oci, b"subject", "application/vnd.many", annotations={"n": str(n)}) for n in range(130)}
    answer = await oci.call("GET", f"{REFERRERS}/{digest_of(b'subject')}")
    found = [each["digest"] for each in answer.json["manifests"]]
    answer = await oci.call("GET", answer.headers["Link"][1:].partition(">")[0])
    found += [each["digest"] for each in answer.json["manifests"]]
    assert (len(found), set(found), "Link" in answer.headers) == (130, pushed, False)


async def test_what_nobody_refers_to_has_an_empty_list(oci: RegistryClient) -> None:
    answer = await oci.call("GET", f"{REFERRERS}/{digest_of(b'unknown')}")
    assert (answer.status, answer.json["manifests"]) == (200, [])


async def test_an_unknown_image_has_no_referrers_and_is_no_error_for_who_may_read(oci: RegistryClient) -> None:
    answer = await oci.call("GET", f"/v2/demo/none/app/referrers/{digest_of(b'unknown')}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, INDEX)
    assert answer.json["manifests"] == []


async def test_the_link_to_more_referrers_keeps_the_filter(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.registry.api.lists.REFERRERS", 2)
    await oci.blob(b"{}")
    wanted = {await attached(oci, b"subject", "application/vnd.wanted", annotations={"n": str(n)}) for n in range(7)}
    await attached(oci, b"subject", "application/vnd.other")
    path, pages = f"{REFERRERS}/{digest_of(b'subject')}?artifactType=application/vnd.wanted", 0
    found: list[str] = []
    while path:
        answer = await oci.call("GET", path)
        assert answer.headers["OCI-Filters-Applied"] == "artifactType"
        found += [each["digest"] for each in answer.json["manifests"]]
        path, pages = answer.headers.get("Link", "")[1:].partition(">")[0], pages + 1
    assert (len(found), set(found)) == (7, wanted)
    assert pages > 1


async def test_referrers_of_a_malformed_digest_are_the_clients_mistake(oci: RegistryClient) -> None:
    answer = await oci.call("GET", f"{REFERRERS}/sha256:x")
    assert (answer.status, answer.code) == (400, "DIGEST_INVALID")


async def test_large_annotations_are_listed_in_full(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await attached(oci, b"subject", "application/vnd.large", annotations={"text": "x" * 40_000})
    body = (await oci.call("GET", f"{REFERRERS}/{digest_of(b'subject')}")).json
    assert body["manifests"][0]["annotations"] == {"text": "x" * 40_000}


# The catalog.


async def test_the_catalog_comes_in_pages_of_what_the_caller_may_list(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    for name in ("demo/web/app", "demo/web/api/v2", "demo/secret/app", "demo/gcr.io/tool"):
        await oci.blob(b"{}", name)
        assert (await oci.manifest(artifact(), "a", name)).status == 201
    everything = ["demo/gcr.io/tool", "demo/secret/app", "demo/web/api/v2", "demo/web/app"]
    found: list[str] = []
    path = "/v2/_catalog?n=3"
    while path:
        answer = await oci.call("GET", path)
        found += answer.json["repositories"]
        path = answer.headers.get("Link", "")[1:].partition(">")[0]
    assert found == everything
    oci.parts.grant("projects/demo/locations/local/repositories/web", BEN, "artifactregistry.dockerimages.list")
    seen = (await oci.by(BEN).call("GET", "/v2/_catalog")).json["repositories"]
    assert seen == ["demo/web/api/v2", "demo/web/app"]


async def test_a_name_of_two_components_is_in_the_repository_gcr_io(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "a", "demo/tool")
    assert (await oci.call("GET", "/v2/demo/gcr.io/tool/manifests/a")).content == image.manifest
    assert (await oci.call("GET", "/v2/demo/tool/tags/list")).json == {"name": "demo/tool", "tags": ["a"]}
