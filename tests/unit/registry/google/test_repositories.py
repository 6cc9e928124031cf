"""Artifact Registry's API: repositories and what is in them, in Google's shapes."""

from typing import Any

import orjson
import pytest

from shared.events.states import PolicyState
from tests.support.images import MANIFEST
from tests.support.registry import BEN, INDEX, NAME, WEB, RegistryClient, artifact, index_of, registry, small_image

REPOSITORIES = "/v1/projects/demo/locations/local/repositories"


async def create(oci: RegistryClient, repository: str = "web", **body: Any) -> Any:
    given = orjson.dumps({"format": "DOCKER", **body})
    return await oci.call("POST", f"{REPOSITORIES}?repositoryId={repository}", given)


async def test_a_repository_is_created_got_listed_changed_and_deleted(oci: RegistryClient) -> None:
    created = await create(oci, description="Web", labels={"team": "web"})
    assert (created.status, created.json["done"]) == (200, True)
    assert created.json["response"]["@type"].endswith("v1.Repository")
    got = (await oci.call("GET", f"{REPOSITORIES}/web")).json
    assert (got["name"], got["format"], got["mode"]) == (WEB, "DOCKER", "STANDARD_REPOSITORY")
    assert (got["description"], got["labels"]) == ("Web", {"team": "web"})
    assert (await oci.call("GET", REPOSITORIES)).json["repositories"] == [got]
    body = orjson.dumps({"description": "New", "labels": {"never": "taken"}})
    patched = await oci.call("PATCH", f"{REPOSITORIES}/web?updateMask=description", body)
    assert (patched.json["description"], patched.json["labels"]) == ("New", {"team": "web"})
    deleted = await oci.call("DELETE", f"{REPOSITORIES}/web")
    assert (deleted.status, deleted.json["done"]) == (200, True)
    assert (await oci.call("GET", f"{REPOSITORIES}/web")).status == 404
    assert (await oci.call("GET", REPOSITORIES)).json == {}


async def test_each_change_is_a_fact_and_news_of_one_generation(oci: RegistryClient) -> None:
    await create(oci, description="Web")
    await oci.call("PATCH", f"{REPOSITORIES}/web", orjson.dumps({"cleanupPolicyDryRun": True}))
    await oci.call("DELETE", f"{REPOSITORIES}/web")
    facts, news = oci.parts.announced("state.repository"), oci.parts.announced("repository.changed")
    assert [event.data["change"] for event in news] == ["created", "updated", "deleted"]
    assert [event.generation for event in facts] == [event.generation for event in news]
    assert [event.data.get("deleted", False) for event in facts] == [False, False, True]
    assert facts[1].data["cleanup_policy_dry_run"] is True
    methods = [entry["protoPayload"]["methodName"].rpartition(".")[2] for entry in oci.parts.audited()]
    assert methods == ["CreateRepository", "UpdateRepository", "DeleteRepository"]


async def test_a_whole_repository_is_sent_back_as_it_was_read_but_for_what_is_to_change(oci: RegistryClient) -> None:
    """As gcloud deletes cleanup policies: no mask, and an empty map for none that are left."""
    policies = {name: {"action": "DELETE", "condition": {"olderThan": "3600s"}} for name in ("one", "two")}
    await create(oci, description="Web", cleanupPolicies=policies)
    read = (await oci.call("GET", f"{REPOSITORIES}/web")).json
    del read["cleanupPolicies"]["one"]
    changed = await oci.call("PATCH", f"{REPOSITORIES}/web", orjson.dumps(read))
    assert (changed.status, list(changed.json["cleanupPolicies"])) == (200, ["two"])
    changed = await oci.call("PATCH", f"{REPOSITORIES}/web", orjson.dumps({**read, "cleanupPolicies": {}}))
    assert (changed.status, "cleanupPolicies" in changed.json) == (200, False)
    assert changed.json["description"] == "Web"
    masked = await oci.call("PATCH", f"{REPOSITORIES}/web?updateMask=createTime", orjson.dumps(read))
    assert masked.status == 400


async def test_deleting_a_repository_announces_everything_in_it(oci: RegistryClient) -> None:
    one, two = small_image("one"), small_image("two")
    await oci.push(one, "a")
    await oci.push(two, "b", "demo/web/other")
    await oci.manifest(index_of(one.manifest), "multi", kind=INDEX)
    before = oci.parts.announced("image.pushed")[-1].generation
    assert (await oci.call("DELETE", f"{REPOSITORIES}/web")).status == 200
    assert len(oci.parts.announced("image.deleted")) == 3
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/a")).status == 404
    for digest in one.blobs:
        assert (await oci.call("HEAD", f"/v2/{NAME}/blobs/{digest}")).status == 404
    await oci.push(one, "again")
    assert oci.parts.announced("image.pushed")[-1].generation > before


async def test_a_deletion_that_broke_off_is_finished_by_any_replica(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    await oci.push(small_image(), "a")
    apply, steps = oci.parts.parts.state.apply, 0

    async def dying(step: Any) -> Any:
        nonlocal steps
        steps += 1
        if steps == 2:
            raise ConnectionError
        return await apply(step)

    monkeypatch.setattr(oci.parts.parts.state, "apply", dying)
    assert (await oci.call("DELETE", f"{REPOSITORIES}/web")).status == 500
    monkeypatch.setattr(oci.parts.parts.state, "apply", apply)
    assert (await oci.call("GET", f"{REPOSITORIES}/web")).status == 404
    assert (await oci.call("POST", f"/v2/{NAME}/blobs/uploads/")).status == 403
    house = oci.background[2].__self__
    await house.finish_deletions_once()
    assert len(oci.parts.announced("image.deleted")) == 1
    await oci.push(small_image(), "b")


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({"format": "NPM"}, 501),
        ({"mode": "REMOTE_REPOSITORY"}, 501),
        ({"kmsKeyName": "projects/x/keys/y"}, 501),
        ({"labels": {"entrepot-tag-overwite": "refused"}}, 400),
        ({"labels": {"entrepot-tag-overwrite": "yes"}}, 400),
        ({"labels": {"entrepot-tag-deletion": "never"}}, 400),
        ({"labels": {"Upper": "x"}}, 400),
        ({"unknownField": 1}, 400),
        ({"cleanupPolicies": {"a": {"action": "PERHAPS"}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "DELETE", "condition": {"olderThan": "30 days"}}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "DELETE"}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "DELETE", "mostRecentVersions": {"keepCount": 3}}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "KEEP", "mostRecentVersions": {"keepCount": 0}}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "KEEP", "mostRecentVersions": {"keepCount": 3}, "condition": {}}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "KEEP", "condition": {}, "id": "b"}}}, 400),
        ({"cleanupPolicies": {"a": {"action": "KEEP", "condition": {"bornIn": "May"}}}}, 400),
        ({"cleanupPolicies": {f"p{n}": {"action": "KEEP", "condition": {}} for n in range(11)}}, 400),
    ],
)
async def test_what_cannot_be_kept_to_is_refused(oci: RegistryClient, body: dict[str, Any], status: int) -> None:
    answer = await create(oci, **body)
    assert (answer.status, "error" in answer.json) == (status, True)
    assert oci.parts.announced() == []


async def test_cleanup_policies_are_kept_in_googles_own_spelling(oci: RegistryClient) -> None:
    policies = {
        "old": {"id": "old", "action": "Delete", "condition": {"tagState": "any", "olderThan": "2592000.0s"}},
        "keep": {"id": "keep", "action": "Keep", "mostRecentVersions": {"keepCount": 3}},
    }
    await create(oci, cleanupPolicies=policies)
    kept = (await oci.call("GET", f"{REPOSITORIES}/web")).json["cleanupPolicies"]
    assert kept["old"] == {"id": "old", "action": "DELETE", "condition": {"tagState": "ANY", "olderThan": "2592000s"}}
    assert oci.parts.announced("state.repository")[0].data["cleanup_policies"] == kept


@pytest.mark.parametrize("name", ["Web", "", "web_1", "1web", "x" * 64])
async def test_a_repository_id_that_breaks_the_grammar_is_refused(oci: RegistryClient, name: str) -> None:
    assert (await create(oci, name)).status == 400


async def test_a_second_repository_of_that_name_is_refused(oci: RegistryClient) -> None:
    await create(oci)
    assert (await create(oci)).status == 409


async def test_lists_come_in_pages(oci: RegistryClient) -> None:
    for name in ("c", "a", "b"):
        await create(oci, name)
    first = (await oci.call("GET", f"{REPOSITORIES}?pageSize=2")).json
    assert [each["name"][-1] for each in first["repositories"]] == ["a", "b"]
    second = (await oci.call("GET", f"{REPOSITORIES}?pageSize=2&pageToken={first['nextPageToken']}")).json
    assert [each["name"][-1] for each in second["repositories"]] == ["c"]
    assert "nextPageToken" not in second


async def test_docker_images_are_listed_with_their_tags_across_images(oci: RegistryClient) -> None:
    image = small_image()
    for name in ("demo/web/app", "demo/web/team/tool", "demo/web/zoo"):
        await oci.push(image, "v1", name)
    await oci.push(image, "v2")
    found: list[dict[str, Any]] = []
    token = ""
    while True:
        page = (await oci.call("GET", f"{REPOSITORIES}/web/dockerImages?pageSize=1&pageToken={token}")).json
        found += page["dockerImages"]
        token = page.get("nextPageToken", "")
        if not token:
            break
    assert [each["uri"] for each in found] == [
        f"local-docker.pkg.dev/demo/web/{name}@{image.digest}" for name in ("app", "team/tool", "zoo")
    ]
    assert found[0]["tags"] == ["v1", "v2"]
    assert found[0]["mediaType"] == MANIFEST
    total = len(image.manifest) + sum(map(len, image.blobs.values()))
    assert found[0]["imageSizeBytes"] == str(total)
    assert found[1]["name"] == f"{WEB}/dockerImages/team%2Ftool@{image.digest}"
    for spelling in ("team%2Ftool", "team%252Ftool", "team/tool"):
        one = await oci.call("GET", f"{REPOSITORIES}/web/dockerImages/{spelling}@{image.digest}")
        assert one.json == found[1]


async def test_packages_versions_and_tags_are_listed(oci: RegistryClient) -> None:
    image = small_image()
    await oci.push(image, "v1", "demo/web/team/tool")
    packages = (await oci.call("GET", f"{REPOSITORIES}/web/packages")).json["packages"]
    assert [each["name"] for each in packages] == [f"{WEB}/packages/team%2Ftool"]
    assert packages[0]["createTime"] == packages[0]["updateTime"]
    package = f"{REPOSITORIES}/web/packages/team%252Ftool"
    (version,) = (await oci.call("GET", f"{package}/versions?view=FULL")).json["versions"]
    assert version["name"] == f"{WEB}/packages/team%2Ftool/versions/{image.digest}"
    assert [each["name"].rpartition("/")[2] for each in version["relatedTags"]] == ["v1"]
    (tag,) = (await oci.call("GET", f"{package}/tags")).json["tags"]
    assert tag == {"name": f"{WEB}/packages/team%2Ftool/tags/v1", "version": version["name"]}
    assert (await oci.call("GET", f"{package}/tags/v1")).json == tag
    assert (await oci.call("GET", f"{package}/versions/{image.digest}")).status == 200
    assert (await oci.call("GET", f"{package}/versions/nothing")).status == 404
    assert (await oci.call("GET", f"{REPOSITORIES}/web/packages/none")).status == 404


async def test_another_location_is_not_served_here(oci: RegistryClient) -> None:
    assert (await oci.call("GET", "/v1/projects/demo/locations/mars/repositories")).status == 404
    locations = (await oci.call("GET", "/v1/projects/demo/locations")).json["locations"]
    assert [each["locationId"] for each in locations] == ["local"]


async def test_the_policy_of_a_repository_is_set_and_felt_and_goes_with_it(oci: RegistryClient) -> None:
    await create(oci)
    role = f"roles/test.{len(oci.parts.granted)}"
    policy = {"policy": {"bindings": [{"role": role, "members": [BEN]}]}}
    answer = await oci.call("POST", f"{REPOSITORIES}/web:setIamPolicy", orjson.dumps(policy))
    assert answer.status == 200
    assert (await oci.by(BEN).call("GET", f"{REPOSITORIES}/web")).status == 200
    asked = orjson.dumps({"permissions": ["artifactregistry.repositories.get", "artifactregistry.nothing.get"]})
    tested = await oci.by(BEN).call("POST", f"{REPOSITORIES}/web:testIamPermissions", asked)
    assert tested.json == {"permissions": ["artifactregistry.repositories.get"]}
    await oci.call("DELETE", f"{REPOSITORIES}/web")
    states = [event for event in oci.parts.announced(PolicyState.topic) if event.data["full_name"] == WEB]
    assert [event.data.get("deleted", False) for event in states] == [False, True]
    assert states[1].generation > states[0].generation


async def test_who_may_not_is_refused_in_googles_words(oci: RegistryClient) -> None:
    answer = await oci.by(BEN).call("GET", f"{REPOSITORIES}/web")
    assert (answer.status, answer.json["error"]["status"]) == (403, "PERMISSION_DENIED")
    anonymous = await oci.by("").call("GET", f"{REPOSITORIES}/web")
    assert (anonymous.status, anonymous.json["error"]["status"]) == (401, "UNAUTHENTICATED")


async def test_expired_uploads_are_cleared(oci: RegistryClient) -> None:
    begun = await oci.begin()
    await oci.call("PATCH", begun, b"bytes")
    uploads = oci.background[1].__self__.uploads
    assert await uploads.forget_expired() == 0
    await oci.parts.clock.advance(86_401)
    assert await uploads.forget_expired() == 1
    assert oci.parts.bucket.uploads == {}


async def test_without_creation_on_push_a_repository_is_made_first() -> None:
    async with registry(create_on_push="false") as oci:
        refused = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/")
        assert (refused.status, refused.code) == (404, "NAME_UNKNOWN")
        await create(oci)
        await oci.blob(b"{}")
        assert (await oci.manifest(artifact(), "a")).status == 201
