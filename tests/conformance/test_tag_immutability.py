"""Immutable tags: what is refused, in which words, and what stays allowed."""

import asyncio
from collections import Counter
from typing import Any

import orjson
import pytest

from shared.state import Step
from tests.support.images import digest_of
from tests.support.registry import INDEX, NAME, RegistryClient, artifact, index_of, small_image

MANIFESTS = f"/v2/{NAME}/manifests"
REPOSITORIES = "/v1/projects/demo/locations/local/repositories"
PACKAGE = f"{REPOSITORIES}/web/packages/app"
IMMUTABLE = {"dockerConfig": {"immutableTags": True}}
NO_OVERWRITE = {"labels": {"entrepot-tag-overwrite": "refused"}}
NO_DELETION = {"labels": {"entrepot-tag-deletion": "refused"}}
BY_CLEANUP = {"labels": {"entrepot-tag-deletion": "cleanup"}}


async def rule(oci: RegistryClient, settings: dict[str, Any]) -> None:
    """Set the rules of the repository, which is made where there is none."""
    answer = await oci.call("PATCH", f"{REPOSITORIES}/web", orjson.dumps(settings))
    if answer.status == 404:
        answer = await oci.call(
            "POST", f"{REPOSITORIES}?repositoryId=web", orjson.dumps({"format": "DOCKER", **settings})
        )
    assert answer.status == 200, answer


def kind(number: int) -> bytes:
    """One of many manifests that need no blob but the empty object."""
    return artifact(kind=f"application/vnd.test.{number}")


async def test_a_tag_is_not_overwritten_and_the_refusal_names_tag_content_and_rule(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    assert (await oci.manifest(kind(1), "v1")).status == 201
    refused = await oci.manifest(kind(2), "v1")
    assert (refused.status, refused.code) == (409, "DENIED")
    message = refused.json["errors"][0]["message"]
    for word in ("v1", NAME, digest_of(kind(1)), "dockerConfig.immutableTags"):
        assert word in message
    assert (await oci.call("HEAD", f"{MANIFESTS}/v1")).headers["Docker-Content-Digest"] == digest_of(kind(1))
    assert (await oci.call("HEAD", f"{MANIFESTS}/{digest_of(kind(2))}")).status == 404


async def test_the_same_content_once_more_is_a_success_that_refreshes_and_changes_nothing(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    await oci.parts.clock.advance(60.0)
    assert (await oci.manifest(kind(1), "v1")).status == 201
    first, second = oci.parts.announced("image.pushed")
    assert (first.data.get("unchanged", False), second.data["unchanged"]) == (False, True)
    assert second.data["previous_digest"] == digest_of(kind(1))
    version = (await oci.call("GET", f"{PACKAGE}/versions/{digest_of(kind(1))}")).json
    assert version["updateTime"] > version["createTime"]


async def test_new_tags_are_taken_and_several_at_once_all_or_none(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    refused = await oci.manifest(kind(2), f"{digest_of(kind(2))}?tag=v2&tag=v1")
    assert refused.status == 409
    assert (await oci.call("HEAD", f"{MANIFESTS}/v2")).status == 404
    assert (await oci.manifest(kind(2), f"{digest_of(kind(2))}?tag=v2&tag=v3")).status == 201


async def test_a_tag_is_not_moved_through_artifact_registrys_api(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    await oci.manifest(kind(2))
    version = PACKAGE.removeprefix("/v1/") + f"/versions/{digest_of(kind(2))}"
    moved = await oci.call("PATCH", f"{PACKAGE}/tags/v1", orjson.dumps({"version": version}))
    assert (moved.status, moved.json["error"]["status"]) == (400, "FAILED_PRECONDITION")
    assert "dockerConfig.immutableTags" in moved.json["error"]["message"]
    gone = await oci.call("DELETE", f"{PACKAGE}/tags/v1")
    assert (gone.status, gone.json["error"]["status"]) == (400, "FAILED_PRECONDITION")
    added = await oci.call("POST", f"{PACKAGE}/tags?tagId=v2", orjson.dumps({"version": version}))
    assert added.status == 200


@pytest.mark.parametrize("settings", [IMMUTABLE, NO_DELETION, BY_CLEANUP])
async def test_neither_the_tag_nor_what_it_points_at_is_deleted(oci: RegistryClient, settings: dict[str, Any]) -> None:
    await rule(oci, settings)
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    for reference in ("v1", digest_of(kind(1))):
        refused = await oci.call("DELETE", f"{MANIFESTS}/{reference}")
        assert (refused.status, refused.code) == (403, "DENIED")
        assert "immutable" in refused.json["errors"][0]["message"]
    forced = await oci.call("DELETE", f"{PACKAGE}/versions/{digest_of(kind(1))}?force=true")
    assert forced.status == 400
    assert (await oci.call("DELETE", PACKAGE)).status == 400
    assert (await oci.call("HEAD", f"{MANIFESTS}/v1")).status == 200
    assert oci.parts.announced("image.deleted") == oci.parts.announced("image.untagged") == []


async def test_what_has_no_tag_is_deleted_all_the_same(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    await oci.manifest(kind(1))
    assert (await oci.call("DELETE", f"{MANIFESTS}/{digest_of(kind(1))}")).status == 202


async def test_of_two_switches_each_refuses_its_own(oci: RegistryClient) -> None:
    await rule(oci, NO_OVERWRITE)
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    refused = await oci.manifest(kind(2), "v1")
    assert (refused.status, "entrepot-tag-overwrite=refused" in refused.json["errors"][0]["message"]) == (409, True)
    assert (await oci.call("DELETE", f"{MANIFESTS}/v1")).status == 202
    await rule(oci, NO_DELETION)
    await oci.manifest(kind(1), "v1")
    assert (await oci.manifest(kind(2), "v1")).status == 201
    refused = await oci.call("DELETE", f"{MANIFESTS}/v1")
    assert (refused.status, "entrepot-tag-deletion=refused" in refused.json["errors"][0]["message"]) == (403, True)


async def test_a_label_frees_what_immutable_tags_would_keep(oci: RegistryClient) -> None:
    await rule(oci, {**IMMUTABLE, "labels": {"entrepot-tag-deletion": "allowed"}})
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    assert (await oci.manifest(kind(2), "v1")).status == 409
    assert (await oci.call("DELETE", f"{MANIFESTS}/v1")).status == 202


async def test_tags_under_which_clients_keep_what_refers_to_a_digest_are_exempt(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    fallback = digest_of(kind(1)).replace(":", "-")
    for tag in (fallback, f"{fallback}.sig"):
        for number in (2, 3):
            await oci.manifest(kind(number))
            assert (await oci.manifest(index_of(kind(number)), tag, kind=INDEX)).status == 201
        assert (await oci.call("DELETE", f"{MANIFESTS}/{tag}")).status == 202


async def test_a_rule_holds_for_tags_that_were_there_and_ends_when_it_is_taken_back(oci: RegistryClient) -> None:
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    await rule(oci, IMMUTABLE)
    shown = (await oci.call("GET", f"{REPOSITORIES}/web")).json
    assert shown["dockerConfig"] == {"immutableTags": True}
    assert (await oci.manifest(kind(2), "v1")).status == 409
    answer = await oci.call(
        "PATCH",
        f"{REPOSITORIES}/web?updateMask=docker_config.immutable_tags",
        orjson.dumps({"dockerConfig": {"immutableTags": False}}),
    )
    assert (answer.status, "dockerConfig" in answer.json) == (200, False)
    assert (await oci.manifest(kind(2), "v1")).status == 201
    facts = [event.data.get("immutable_tags", False) for event in oci.parts.announced("state.repository")]
    assert facts == [False, True, False]


async def test_a_whole_repository_goes_with_its_immutable_tags(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.push(small_image(), "v1")
    assert (await oci.call("DELETE", f"{REPOSITORIES}/web")).status == 200
    assert len(oci.parts.announced("image.deleted")) == 1
    assert (await oci.push(small_image("other"), "v1")).status == 201


async def test_fifty_racing_pushers_of_one_tag_have_one_winner(oci: RegistryClient) -> None:
    await rule(oci, IMMUTABLE)
    await oci.blob(b"{}")
    answers = await asyncio.gather(*(oci.manifest(kind(number), "v1") for number in range(50)))
    assert Counter(answer.status for answer in answers) == {201: 1, 409: 49}
    [pushed] = oci.parts.announced("image.pushed")
    assert pushed.data["digest"] == (await oci.call("HEAD", f"{MANIFESTS}/v1")).headers["Docker-Content-Digest"]


@pytest.mark.parametrize("deed", ["overwrite", "untag", "delete"])
async def test_a_rule_that_was_acknowledged_is_not_broken_by_what_was_decided_before(
    oci: RegistryClient, monkeypatch: pytest.MonkeyPatch, deed: str
) -> None:
    """The change has read that all is allowed; before its step the rule is switched on at another replica."""
    await oci.blob(b"{}")
    await oci.manifest(kind(1), "v1")
    apply, held = oci.parts.parts.state.apply, []

    async def slow(step: Step) -> Any:
        if not held:
            held.append(step)
            await rule(oci, IMMUTABLE)
        return await apply(step)

    monkeypatch.setattr(oci.parts.parts.state, "apply", slow)
    if deed == "overwrite":
        answer = await oci.manifest(kind(2), "v1")
    else:
        answer = await oci.call("DELETE", f"{MANIFESTS}/{'v1' if deed == 'untag' else digest_of(kind(1))}")
    assert (answer.status, answer.code) == (409 if deed == "overwrite" else 403, "DENIED")
    assert (await oci.call("HEAD", f"{MANIFESTS}/v1")).headers["Docker-Content-Digest"] == digest_of(kind(1))
