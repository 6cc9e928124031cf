"""Projects, accounts, keys, roles, groups and deny policies through the face, with what is said about each change."""

import asyncio
import base64
import json
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from tests.support.identity import ADMIN, World, file_for, identity, pair

ACCOUNTS = "/v1/projects/demo/serviceAccounts"
EVE = "eve@demo.iam.entrepot"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with identity(tmp_path) as found:
        yield found


# Projects.


async def test_who_makes_a_project_owns_it_and_both_is_said_in_one_step(world: World) -> None:
    status, operation = await world.call("POST", "/v3/projects", {"projectId": "acme", "displayName": "Acme"})
    assert status == 200
    assert operation["done"]
    assert operation["response"]["state"] == "ACTIVE"
    said = [envelope for envelope in world.memory.announced() if envelope.partitionkey == "acme"]
    assert [envelope.type for envelope in said] == ["state.project", "state.policy", "audit.activity"]
    assert {envelope.generation for envelope in said} == {1}
    policy = (await world.call("POST", "/v1/projects/acme:getIamPolicy", {}))[1]
    assert policy["bindings"] == [{"role": "roles/owner", "members": [f"serviceAccount:{ADMIN}"]}]


@pytest.mark.parametrize("name", ["", "A", "1a", "a-", "x" * 31, "a_b", "../x", None, 7])
async def test_a_project_needs_a_proper_id(world: World, name: object) -> None:
    assert (await world.call("POST", "/v1/projects", {"projectId": name}))[0] == 400


async def test_a_project_is_made_once_and_only_by_who_may(world: World) -> None:
    assert (await world.call("POST", "/v1/projects", {"projectId": "demo"}))[0] == 409
    ci = await world.account("ci", "roles/owner")
    assert (await world.call("POST", "/v1/projects", {"projectId": "other"}, await world.token(ci)))[0] == 403
    assert (await world.call("POST", "/v1/projects", {"projectId": "other"}, ""))[0] == 401


async def test_a_project_answers_in_the_words_of_each_version_and_by_its_number(world: World) -> None:
    _, first = await world.call("GET", "/v1/projects/demo")
    _, third = await world.call("GET", "/v3/projects/demo")
    assert first["lifecycleState"] == third["state"] == "ACTIVE"
    assert third["name"] == f"projects/{first['projectNumber']}"
    assert (await world.call("GET", f"/v3/{third['name']}"))[1] == third


@pytest.mark.parametrize("name", ["%C2%B2", "%D9%A3", "1" * 5000])
async def test_what_only_looks_like_a_number_names_no_project(world: World, name: str) -> None:
    assert (await world.call("GET", f"/v3/projects/{name}"))[0] == 403
    assert (await world.call("GET", f"/v1/projects/{name}/serviceAccounts"))[0] == 403


async def test_lists_show_what_the_caller_may_see(world: World) -> None:
    await world.call("POST", "/v1/projects", {"projectId": "acme", "labels": {"team": "a"}})
    ci = await world.account("ci", "roles/viewer", project="acme")
    seen = (await world.call("GET", "/v1/projects", token=await world.token(ci)))[1]["projects"]
    assert [project["projectId"] for project in seen] == ["acme"]
    assert (await world.call("GET", "/v3/projects:search", token=""))[1] == {}
    for query in ("id:ac*", "labels.team=a", "lifecycleState:ACTIVE AND projectId=acme"):
        answer = (await world.call("GET", f"/v1/projects?filter={query}"))[1]["projects"]
        assert [project["projectId"] for project in answer] == ["acme"]
    assert (await world.call("GET", "/v1/projects?filter=shoe:size"))[0] == 400


async def test_pages_of_projects_follow_each_other(world: World) -> None:
    await world.call("POST", "/v1/projects", {"projectId": "acme"})
    _, page = await world.call("GET", "/v1/projects?pageSize=1")
    _, rest = await world.call("GET", f"/v1/projects?pageSize=1&pageToken={page['nextPageToken']}")
    assert [page["projects"][0]["projectId"], rest["projects"][0]["projectId"]] == ["acme", "demo"]
    assert "nextPageToken" not in rest


async def test_a_project_is_changed_by_mask_and_etag(world: World) -> None:
    _, before = await world.call("GET", "/v3/projects/demo")
    body = {"displayName": "Demo", "labels": {"a": "b"}, "etag": before["etag"]}
    assert (await world.call("PATCH", "/v3/projects/demo?updateMask=displayName", body))[0] == 200
    _, after = await world.call("GET", "/v3/projects/demo")
    assert (after["displayName"], after.get("labels")) == ("Demo", None)
    assert (await world.call("PATCH", "/v3/projects/demo", body))[0] == 409
    assert (await world.call("PATCH", "/v3/projects/demo?updateMask=projectId", {}))[0] == 400


async def test_accounts_of_a_project_that_is_being_deleted_can_do_nothing_until_it_comes_back(world: World) -> None:
    await world.call("POST", "/v1/projects", {"projectId": "acme"})
    boss, ci = await world.account("boss", project="acme"), await world.account("ci", "roles/viewer")
    await world.bind("/v1/organizations/1", "roles/owner", f"serviceAccount:{boss['client_email']}")
    theirs, token = await world.token(boss), await world.token(ci)
    assert (await world.call("DELETE", "/v1/projects/demo", token=theirs))[0] == 200
    assert (await world.exchange(world.assertion(ci)))[0] == 400
    assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 401
    assert (await world.call("GET", ACCOUNTS, token=theirs))[0] == 403
    assert (await world.call("DELETE", "/v1/projects/demo", token=theirs))[0] == 400
    assert (await world.call("POST", "/v3/projects/demo:undelete", {}, theirs))[1]["response"]["state"] == "ACTIVE"
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 200


async def test_nobody_deletes_the_project_that_they_live_in(world: World) -> None:
    assert (await world.call("DELETE", "/v1/projects/demo"))[0] == 400


# Accounts and keys.


async def test_an_account_is_made_found_changed_disabled_and_deleted_with_an_entry_for_each(world: World) -> None:
    _, account = await world.call("POST", ACCOUNTS, {"accountId": "eve", "serviceAccount": {"displayName": "Eve"}})
    one = f"{ACCOUNTS}/{EVE}"
    assert account["email"] == EVE
    assert (await world.call("GET", f"/v1/projects/-/serviceAccounts/{account['uniqueId']}"))[1] == account
    patch = {"serviceAccount": {"description": "robot", "displayName": "no"}, "updateMask": "description"}
    _, changed = await world.call("PATCH", one, patch)
    assert (changed["description"], changed["displayName"]) == ("robot", "Eve")
    stale = {"serviceAccount": {"description": "x", "etag": account["etag"]}}
    assert (await world.call("PATCH", one, stale))[0] == 409
    assert (await world.call("POST", f"{one}:disable", {}))[1] == {}
    fact = world.memory.directory.account(EVE)
    assert fact is not None
    assert fact.disabled
    assert (await world.call("DELETE", one))[1] == {}
    assert world.memory.directory.account(EVE) is None
    assert (await world.call("GET", one))[0] == 404
    entries = [entry["protoPayload"] for entry in world.memory.audited()]
    methods = [entry["methodName"].rpartition(".")[2] for entry in entries if entry["resourceName"].endswith(EVE)]
    assert methods == ["CreateServiceAccount", "PatchServiceAccount", "DisableServiceAccount", "DeleteServiceAccount"]


@pytest.mark.parametrize("name", ["", "A", "a b", "x" * 31, "a@b", "-a", None])
async def test_an_account_needs_a_proper_id(world: World, name: object) -> None:
    assert (await world.call("POST", ACCOUNTS, {"accountId": name}))[0] == 400


async def test_the_same_account_is_not_made_twice_nor_in_a_project_that_is_not_there(world: World) -> None:
    assert (await world.call("POST", ACCOUNTS, {"accountId": "admin"}))[0] == 409
    assert (await world.call("POST", "/v1/projects/nowhere/serviceAccounts", {"accountId": "a"}))[0] == 403


async def test_a_key_file_is_answered_once_and_kept_nowhere(world: World) -> None:
    await world.call("POST", ACCOUNTS, {"accountId": "eve"})
    _, made = await world.call("POST", f"{ACCOUNTS}/{EVE}/keys", {"privateKeyType": "TYPE_GOOGLE_CREDENTIALS_FILE"})
    file = json.loads(base64.b64decode(made["privateKeyData"]))
    assert file["client_email"] == EVE
    assert file["token_uri"].endswith("/token")
    assert file["private_key"].startswith("-----BEGIN PRIVATE KEY-----")
    secret = file["private_key"].splitlines()[3]
    assert secret not in repr(world.memory.store)
    assert made["privateKeyData"][:60] not in repr(world.memory.store)
    _, listed = await world.call("GET", f"{ACCOUNTS}/{EVE}/keys")
    assert [key["name"] for key in listed["keys"]] == [made["name"]]
    assert "privateKeyData" not in listed["keys"][0]
    _, raw = await world.call("GET", f"/v1/{made['name']}?publicKeyType=TYPE_RAW_PUBLIC_KEY")
    assert base64.b64decode(raw["publicKeyData"]).startswith(b"-----BEGIN PUBLIC KEY-----")


async def test_an_uploaded_public_key_logs_in_and_nonsense_is_refused(world: World) -> None:
    await world.call("POST", ACCOUNTS, {"accountId": "eve"})
    data = base64.b64encode(pair("uploaded").public.encode()).decode()
    status, key = await world.call("POST", f"{ACCOUNTS}/{EVE}/keys:upload", {"publicKeyData": data})
    assert (status, key["keyOrigin"]) == (200, "USER_PROVIDED")
    file = file_for(EVE, key["name"].rpartition("/")[2], "uploaded")
    assert (await world.exchange(world.assertion(file)))[0] == 200
    for wrong in ("%", base64.b64encode(b"x").decode()):
        assert (await world.call("POST", f"{ACCOUNTS}/{EVE}/keys:upload", {"publicKeyData": wrong}))[0] == 400


async def test_a_key_file_signs_bearer_tokens_itself_until_its_key_is_disabled(world: World) -> None:
    ci = await world.account("ci", "roles/viewer")
    token = world.assertion(ci, aud="https://cloudresourcemanager.googleapis.com/")
    assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 200
    email, key = ci["client_email"], ci["private_key_id"]
    assert (await world.call("POST", f"{ACCOUNTS}/{email}/keys/{key}:disable", {}))[0] == 200
    assert (await world.call("GET", "/v1/projects/demo", token=token))[0] == 401
    assert (await world.call("GET", "/v1/projects/demo", token=world.assertion(ci)))[0] == 401, "for the token endpoint"


async def test_ten_keys_are_enough(world: World) -> None:
    data = base64.b64encode(pair("uploaded").public.encode()).decode()
    await world.call("POST", ACCOUNTS, {"accountId": "eve"})
    answers = [
        (await world.call("POST", f"{ACCOUNTS}/{EVE}/keys:upload", {"publicKeyData": data}))[0] for _ in range(11)
    ]
    assert answers == [200] * 10 + [400]


async def test_changes_at_the_same_time_are_all_made(world: World) -> None:
    data = base64.b64encode(pair("uploaded").public.encode()).decode()
    await world.call("POST", ACCOUNTS, {"accountId": "eve"})
    token = await world.token()
    path = f"{ACCOUNTS}/{EVE}/keys:upload"
    answers = await asyncio.gather(*(world.call("POST", path, {"publicKeyData": data}, token) for _ in range(4)))
    assert [status for status, _ in answers] == [200] * 4
    assert len((await world.call("GET", f"{ACCOUNTS}/{EVE}/keys"))[1]["keys"]) == 4


# Policies.


async def test_a_policy_is_changed_with_its_etag_and_refused_with_an_old_one(world: World) -> None:
    ci = await world.account("ci")
    token = await world.token(ci)
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 403
    _, policy = await world.call("POST", "/v1/projects/demo:getIamPolicy", {})
    member = f"serviceAccount:{ci['client_email']}"
    changed = {**policy, "bindings": [*policy["bindings"], {"role": "roles/viewer", "members": [member]}]}
    assert (await world.call("POST", "/v1/projects/demo:setIamPolicy", {"policy": changed}))[0] == 200
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 200
    assert (await world.call("POST", "/v1/projects/demo:setIamPolicy", {"policy": changed}))[0] == 409


async def test_test_iam_permissions_tells_what_the_caller_may(world: World) -> None:
    ci = await world.account("ci", "roles/viewer")
    asked = {"permissions": ["resourcemanager.projects.get", "resourcemanager.projects.delete"]}
    path = "/v1/projects/demo:testIamPermissions"
    assert (await world.call("POST", path, asked, await world.token(ci)))[1]["permissions"] == [
        "resourcemanager.projects.get"
    ]
    assert (await world.call("POST", path, asked, ""))[1] == {}
    assert (await world.call("POST", "/v1/projects/nowhere:testIamPermissions", asked))[1] == {}
    assert (await world.call("POST", path, {"permissions": ["resourcemanager.*"]}))[0] == 400


async def test_an_accounts_own_policy_lets_others_at_it(world: World) -> None:
    ci, eve = await world.account("ci"), await world.account("eve")
    path = f"{ACCOUNTS}/{eve['client_email']}"
    await world.bind(path, "roles/iam.serviceAccountAdmin", f"serviceAccount:{ci['client_email']}")
    token = await world.token(ci)
    assert (await world.call("GET", path, token=token))[0] == 200
    assert (await world.call("GET", f"{ACCOUNTS}/{ADMIN}", token=token))[0] == 403


async def test_the_organisation_has_a_policy_that_counts_in_all_projects(world: World) -> None:
    ci = await world.account("ci")
    await world.bind("/v1/organizations/1", "roles/viewer", f"serviceAccount:{ci['client_email']}")
    assert (await world.call("GET", "/v1/projects/demo", token=await world.token(ci)))[0] == 200
    assert (await world.call("GET", "/v1/organizations/2"))[0] in {403, 404}
    assert (await world.call("POST", "/v1/organizations:search", {}))[1]["organizations"][0][
        "name"
    ] == "organizations/1"


# Roles and groups.


async def test_a_custom_role_gives_what_it_holds_until_it_is_deleted(world: World) -> None:
    body = {"roleId": "looker", "role": {"title": "Looker", "includedPermissions": ["iam.serviceAccounts.list"]}}
    status, role = await world.call("POST", "/v1/projects/demo/roles", body)
    assert (status, role["name"]) == (200, "projects/demo/roles/looker")
    ci = await world.account("ci", role["name"])
    token = await world.token(ci)
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 200
    path = "/v1/projects/demo/roles/looker"
    assert (await world.call("PATCH", f"{path}?updateMask=stage", {"stage": "DISABLED"}))[0] == 200
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 403
    assert (await world.call("PATCH", path, {"stage": "GA"}))[1]["includedPermissions"] == ["iam.serviceAccounts.list"]
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 200
    assert (await world.call("DELETE", path))[1]["deleted"]
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 403
    assert (await world.call("GET", path))[0] == 404


async def test_a_custom_role_holds_only_permissions_that_exist(world: World) -> None:
    body = {"roleId": "odd", "role": {"includedPermissions": ["shoes.size.get"]}}
    assert (await world.call("POST", "/v1/projects/demo/roles", body))[0] == 400
    assert (await world.call("POST", "/v1/organizations/2/roles", body))[0] in {403, 404}


async def test_predefined_roles_can_be_read_by_anybody(world: World) -> None:
    _, role = await world.call("GET", "/v1/roles/artifactregistry.reader", token="")
    assert "artifactregistry.repositories.downloadArtifacts" in role["includedPermissions"]
    assert len((await world.call("GET", "/v1/roles", token=""))[1]["roles"]) > 50
    assert (await world.call("GET", "/v1/roles/nothing", token=""))[0] == 404
    _, testable = await world.call("POST", "/v1/permissions:queryTestablePermissions", {})
    assert {"name": "iam.roles.get", "stage": "GA"} in testable["permissions"]


async def test_a_group_gives_its_members_what_it_was_given(world: World) -> None:
    ci = await world.account("ci")
    token = await world.token(ci)
    member = f"serviceAccount:{ci['client_email']}"
    inner = {"email": "Dev@example.org", "members": [member]}
    outer = {"email": "all@example.org", "members": ["group:dev@example.org"]}
    assert (await world.call("POST", "/v1/groups", inner))[1]["email"] == "dev@example.org"
    assert (await world.call("POST", "/v1/groups", outer))[0] == 200
    assert (await world.call("POST", "/v1/groups", outer))[0] == 409
    await world.bind("/v1/projects/demo", "roles/viewer", "group:all@example.org")
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 200
    assert (await world.call("PATCH", "/v1/groups/dev@example.org", {"members": []}))[1]["members"] == []
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 403
    assert (await world.call("DELETE", "/v1/groups/all@example.org"))[1] == {}
    assert [group["email"] for group in (await world.call("GET", "/v1/groups"))[1]["groups"]] == ["dev@example.org"]
    for wrong in ({"email": "x"}, {"email": "a@b.org", "members": ["allUsers"]}, {"email": "a@b.org", "shoes": 1}):
        assert (await world.call("POST", "/v1/groups", wrong))[0] == 400
    assert (await world.call("POST", "/v1/groups", outer, token))[0] == 403


# Deny policies.


async def test_a_deny_policy_beats_what_roles_give_until_it_is_deleted(world: World) -> None:
    ci = await world.account("ci", "roles/owner")
    token = await world.token(ci)
    path = "/v2/policies/cloudresourcemanager.googleapis.com%2Fprojects%2Fdemo/denypolicies"
    rule = {
        "deniedPrincipals": [f"principal://iam.googleapis.com/projects/-/serviceAccounts/{ci['client_email']}"],
        "deniedPermissions": ["iam.googleapis.com/serviceAccounts.list"],
    }
    body = {"displayName": "no lists", "rules": [{"denyRule": rule}]}
    status, operation = await world.call("POST", f"{path}?policyId=no-lists", body)
    assert (status, operation["done"]) == (200, True)
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 403
    assert (await world.call("GET", ACCOUNTS))[0] == 200
    assert (await world.call("POST", f"{path}?policyId=no-lists", body))[0] == 409
    _, policy = await world.call("POST", "/v1/projects/demo:getIamPolicy", {})
    assert (await world.call("POST", "/v1/projects/demo:setIamPolicy", {"policy": policy}))[0] == 200
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 403, "setting the policy takes no deny rule away"
    assert (await world.call("GET", path))[1]["policies"][0]["rules"] == [{"denyRule": rule}]
    assert (await world.call("DELETE", f"{path}/no-lists?etag=AAAA"))[0] == 409
    assert (await world.call("DELETE", f"{path}/no-lists"))[0] == 200
    assert (await world.call("GET", ACCOUNTS, token=token))[0] == 200
    assert (await world.call("GET", f"{path}/no-lists"))[0] == 404


@pytest.mark.parametrize(
    "rule",
    [
        {"deniedPrincipals": ["allUsers"], "deniedPermissions": ["iam.googleapis.com/roles.list"]},
        {"deniedPrincipals": ["principalSet://goog/public:all"], "deniedPermissions": ["iam.roles.list"]},
        {"deniedPrincipals": [], "deniedPermissions": ["iam.googleapis.com/roles.list"]},
        {
            "deniedPrincipals": ["principalSet://goog/public:all"],
            "deniedPermissions": ["iam.googleapis.com/roles.list"],
            "denialCondition": {"expression": "true"},
        },
    ],
)
async def test_a_deny_rule_that_could_not_be_kept_exactly_is_refused(world: World, rule: dict[str, object]) -> None:
    path = "/v2/policies/cloudresourcemanager.googleapis.com%2Fprojects%2Fdemo/denypolicies?policyId=odd"
    assert (await world.call("POST", path, {"rules": [{"denyRule": rule}]}))[0] == 400


async def test_all_apis_are_enabled(world: World) -> None:
    _, answer = await world.call("GET", "/v1/projects/demo/services/artifactregistry.googleapis.com")
    assert answer["state"] == "ENABLED"
    assert (await world.call("POST", "/v1/projects/demo/services/cloudbuild.googleapis.com:enable", {}))[1]["done"]
    assert (await world.call("GET", "/v1/projects/demo/services/shoes.googleapis.com"))[0] == 404
