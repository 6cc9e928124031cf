"""Artifact Registry's API: rules for downloads, in Google's shapes."""

from typing import Any

import orjson
import pytest

from services.registry import rules
from tests.support.registry import BEN, WEB, RegistryClient, small_image

RULES = f"/v1/{WEB}/rules"
OLD = {"expression": "pkg.version.id < '2.0'", "title": "old"}


@pytest.fixture(autouse=True)
async def repository(oci: RegistryClient) -> None:
    made = await oci.call(
        "POST", "/v1/projects/demo/locations/local/repositories?repositoryId=web", orjson.dumps({"format": "DOCKER"})
    )
    assert made.status == 200


async def create(oci: RegistryClient, rule: str, **body: Any) -> Any:
    return await oci.call("POST", f"{RULES}?ruleId={rule}", orjson.dumps({"operation": "DOWNLOAD", **body}))


async def patch(oci: RegistryClient, rule: str, mask: str, **body: Any) -> Any:
    return await oci.call("PATCH", f"{RULES}/{rule}?updateMask={mask}", orjson.dumps(body))


async def test_a_rule_is_created_got_listed_changed_and_deleted(oci: RegistryClient) -> None:
    created = await create(oci, "old", action="DENY", condition=OLD, packageId="app")
    told = {"name": f"{WEB}/rules/old", "action": "DENY", "operation": "DOWNLOAD", "condition": OLD, "packageId": "app"}
    assert (created.status, created.json) == (200, told)
    assert (await oci.call("GET", f"{RULES}/old")).json == told
    assert (await oci.call("GET", RULES)).json == {"rules": [told]}
    changed = await patch(oci, "old", "action,condition.expression", action="ALLOW", condition={"expression": "true"})
    assert changed.json == told | {"action": "ALLOW", "condition": {"expression": "true", "title": "old"}}
    assert (await oci.call("GET", f"{RULES}/old")).json == changed.json
    assert (await patch(oci, "old", "condition,packageId")).json == {
        "name": f"{WEB}/rules/old",
        "action": "ALLOW",
        "operation": "DOWNLOAD",
    }
    deleted = await oci.call("DELETE", f"{RULES}/old")
    assert (deleted.status, deleted.json) == (200, {})
    assert (await oci.call("GET", f"{RULES}/old")).status == 404
    assert (await oci.call("GET", RULES)).json == {}


async def test_without_a_mask_the_fields_that_are_there_are_changed(oci: RegistryClient) -> None:
    await create(oci, "old", action="DENY", condition=OLD)
    read = (await oci.call("GET", f"{RULES}/old")).json
    changed = await oci.call("PATCH", f"{RULES}/old", orjson.dumps(read | {"action": "ALLOW"}))
    assert (changed.status, changed.json) == (200, read | {"action": "ALLOW"})


async def test_rules_come_in_pages(oci: RegistryClient) -> None:
    for package in ("c", "a", "b"):
        await create(oci, f"of-{package}", action="DENY", packageId=package)
    first = (await oci.call("GET", f"{RULES}?pageSize=2")).json
    assert [rule["packageId"] for rule in first["rules"]] == ["a", "b"]
    second = (await oci.call("GET", f"{RULES}?pageSize=2&pageToken={first['nextPageToken']}")).json
    assert ([rule["packageId"] for rule in second["rules"]], "nextPageToken" in second) == (["c"], False)


async def test_there_is_one_rule_for_all_and_one_for_each_package(oci: RegistryClient) -> None:
    assert (await create(oci, "all", action="DENY")).status == 200
    assert (await create(oci, "app", action="ALLOW", packageId="team%2Fapp")).json["packageId"] == "team/app"
    for rule, package, named in (("all", "web", "rule all"), ("more", "", "all"), ("more", "team/app", "app")):
        refused = await create(oci, rule, action="DENY", packageId=package)
        assert (refused.status, refused.json["error"]["status"]) == (409, "ALREADY_EXISTS")
        assert named in refused.json["error"]["message"]
    moved = await patch(oci, "app", "packageId", packageId="")
    assert (moved.status, moved.json["error"]["status"]) == (409, "ALREADY_EXISTS")


async def test_a_repository_has_so_many_rules_and_no_more(oci: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "MOST_RULES", 2)
    for number in range(2):
        assert (await create(oci, f"r{number}", action="DENY", packageId=f"p{number}")).status == 200
    refused = await create(oci, "r2", action="DENY", packageId="p2")
    assert (refused.status, refused.json["error"]["status"]) == (400, "FAILED_PRECONDITION")


async def test_all_rules_of_a_repository_go_into_one_event(oci: RegistryClient) -> None:
    """With the longest of everything else beside them."""
    labels = {f"{number:063d}".replace("0", "a", 1): "x" * 63 for number in range(64)}
    wide = orjson.dumps({"description": "x" * 1024, "labels": labels})
    assert (await oci.call("PATCH", f"/v1/{WEB}", wide)).status == 200
    answers = [
        await create(
            oci,
            f"{number:0256d}",
            action="DENY",
            packageId="p" * 250 + f"{number:03d}",
            condition={"expression": f"pkg.version.id == '{'v' * 900}'", "title": "t" * 256, "description": "d" * 256},
        )
        for number in range(20)
    ]
    assert [answer.status for answer in answers].count(200) > 10
    assert answers[-1].json["error"]["status"] == "FAILED_PRECONDITION"
    assert len(oci.parts.announced("state.repository")[-1].data["download_rules"]) > 10


@pytest.mark.parametrize(
    ("rule", "body", "told"),
    [
        ("r", {}, "action"),
        ("r", {"action": "ACTION_UNSPECIFIED"}, "action"),
        ("r", {"action": "MAYBE"}, "action"),
        ("r", {"action": "DENY", "operation": "UPLOAD"}, "operation"),
        ("r", {"action": "DENY", "packageId": "Not An Image"}, "packageId"),
        ("r", {"action": "DENY", "condition": {"title": "x"}}, "expression"),
        ("r", {"action": "DENY", "condition": {"expression": "pkg.version.id.matches('a')"}}, "condition.expression"),
        ("r", {"action": "DENY", "condition": {"expression": "x" * 1001}}, "expression"),
        ("r", {"action": "DENY", "colour": "red"}, "colour"),
        ("", {"action": "DENY"}, "ruleId"),
        ("a%2Fb", {"action": "DENY"}, "ruleId"),
        ("x" * 257, {"action": "DENY"}, "ruleId"),
    ],
)
async def test_what_is_no_rule_is_refused_with_the_field(
    oci: RegistryClient, rule: str, body: dict[str, Any], told: str
) -> None:
    refused = await oci.call("POST", f"{RULES}?ruleId={rule}", orjson.dumps(body))
    assert (refused.status, refused.json["error"]["status"]) == (400, "INVALID_ARGUMENT"), refused
    assert told in refused.json["error"]["message"]


async def test_a_patch_that_makes_no_rule_of_it_changes_nothing(oci: RegistryClient) -> None:
    created = await create(oci, "old", action="DENY", condition=OLD)
    for mask, body in (
        ("action", {}),
        ("condition.expression", {"condition": {"expression": "1 + 1"}}),
        ("name2", {}),
        ("operation", {"operation": "UPLOAD"}),
    ):
        assert (await patch(oci, "old", mask, **body)).status == 400
    assert (await oci.call("GET", f"{RULES}/old")).json == created.json


async def test_what_is_not_there_is_not_found(oci: RegistryClient) -> None:
    for verb in ("GET", "PATCH", "DELETE"):
        content = orjson.dumps({"action": "DENY"}) if verb == "PATCH" else None
        assert (await oci.call(verb, f"{RULES}/none", content)).status == 404
    nowhere = RULES.replace("/web/", "/none/")
    assert (await oci.call("GET", nowhere)).status == 404
    assert (await oci.call("POST", f"{nowhere}?ruleId=r", orjson.dumps({"action": "DENY"}))).status == 404


async def test_each_change_is_said_with_the_settings_and_is_on_record(oci: RegistryClient) -> None:
    await create(oci, "all", action="DENY")
    await patch(oci, "all", "action", action="ALLOW")
    await oci.call("DELETE", f"{RULES}/all")
    facts, news = oci.parts.announced("state.repository"), oci.parts.announced("repository.changed")
    told = [fact.data.get("download_rules", {}).get("all", {}).get("action") for fact in facts]
    assert told == [None, "DENY", "ALLOW", None]
    assert [event.data["change"] for event in news] == ["created", "updated", "updated", "updated"]
    entries = [entry["protoPayload"] for entry in oci.parts.audited()][1:]
    methods = [entry["methodName"].rpartition(".")[2] for entry in entries]
    assert methods == ["CreateRule", "UpdateRule", "DeleteRule"]
    assert {entry["resourceName"] for entry in entries} == {f"{WEB}/rules/all"}
    permissions = [entry["authorizationInfo"][0]["permission"] for entry in entries]
    assert permissions == [f"artifactregistry.rules.{verb}" for verb in ("create", "update", "delete")]


async def test_a_change_of_the_repository_leaves_its_rules_alone(oci: RegistryClient) -> None:
    await create(oci, "all", action="DENY")
    changed = await oci.call("PATCH", f"/v1/{WEB}?updateMask=description", orjson.dumps({"description": "x"}))
    assert (changed.status, "rules" in changed.json) == (200, False)
    assert len((await oci.call("GET", RULES)).json["rules"]) == 1


async def test_a_repository_made_anew_has_no_rules(oci: RegistryClient) -> None:
    await create(oci, "all", action="DENY")
    assert (await oci.call("DELETE", f"/v1/{WEB}")).status == 200
    image = small_image()
    await oci.push(image, "v1")
    assert (await oci.call("GET", RULES)).json == {}
    assert (await oci.call("GET", "/v2/demo/web/app/manifests/v1")).status == 200
    assert await oci.parts.parts.state.value(oci.parts.parts.keys.of("demo", "ruled", "web")) is None


async def test_rules_are_for_those_who_have_a_right_to_them(oci: RegistryClient) -> None:
    refused = await oci.by(BEN).call("GET", RULES)
    assert (refused.status, "artifactregistry.rules.list" in refused.json["error"]["message"]) == (403, True)
