"""Access levels and service perimeters by Access Context Manager's API, and that they are felt."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest

from tests.support.identity import World, identity

POLICY = "accessPolicies/1"
LEVELS, PERIMETERS = f"/v1/{POLICY}/accessLevels", f"/v1/{POLICY}/servicePerimeters"
IAM = "iam.googleapis.com"


@pytest.fixture
async def world(tmp_path: Path) -> AsyncGenerator[World]:
    async with identity(tmp_path) as found:
        yield found


def level(*networks: str, name: str = "office") -> dict[str, Any]:
    return {
        "name": f"{POLICY}/accessLevels/{name}",
        "title": name,
        "basic": {"conditions": [{"ipSubnetworks": list(networks or ("192.0.2.0/24",))}]},
    }


async def number(world: World, project: str = "demo") -> str:
    return f"projects/{(await world.call('GET', f'/v1/projects/{project}'))[1]['projectNumber']}"


async def fence(world: World, name: str = "p", **changes: Any) -> dict[str, Any]:
    config = {
        "resources": [await number(world)],
        "accessLevels": [f"{POLICY}/accessLevels/office"],
        "restrictedServices": [IAM],
    }
    return {"name": f"{POLICY}/servicePerimeters/{name}", "title": name, "status": config | changes}


async def test_there_is_one_access_policy(world: World) -> None:
    _, listed = await world.call("GET", "/v1/accessPolicies?parent=organizations/1")
    (policy,) = listed["accessPolicies"]
    assert (policy["name"], policy["parent"]) == (POLICY, "organizations/1")
    assert (await world.call("GET", f"/v1/{POLICY}"))[1] == policy
    assert (await world.call("GET", "/v1/accessPolicies/2"))[0] == 404
    assert (await world.call("GET", "/v1/accessPolicies?parent=organizations/2"))[1] == {}


async def test_a_perimeter_is_made_felt_changed_and_deleted_with_an_entry_for_each(world: World) -> None:
    accounts = "/v1/projects/demo/serviceAccounts"
    assert (await world.call("POST", LEVELS, level()))[1]["done"]
    status, operation = await world.call("POST", PERIMETERS, await fence(world))
    assert (status, operation["response"]["title"]) == (200, "p")
    assert (await world.call("GET", f"/v1/{operation['name']}"))[1]["done"]
    status, body = await world.call("GET", accounts)
    assert (status, body["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert (await world.call("GET", "/v1/projects/demo"))[0] == 200, "another API"
    patched = await world.call("PATCH", f"{LEVELS}/office?updateMask=basic", level("127.0.0.0/8", "::1/128"))
    assert patched[0] == 200
    assert (await world.call("GET", accounts))[0] == 200
    assert (await world.call("DELETE", f"{LEVELS}/office"))[0] == 400, "a perimeter names it"
    change = {"status": {"accessLevels": []}}
    assert (await world.call("PATCH", f"{PERIMETERS}/p?updateMask=status.accessLevels", change))[0] == 200
    assert (await world.call("GET", accounts))[0] == 403
    assert (await world.call("DELETE", f"{PERIMETERS}/p"))[0] == 200
    assert (await world.call("GET", accounts))[0] == 200
    assert (await world.call("GET", PERIMETERS))[1] == {}
    entries = [entry["protoPayload"] for entry in world.memory.audited()]
    methods = [entry["methodName"].rpartition(".")[2] for entry in entries if POLICY in entry["resourceName"]]
    assert methods == [
        "CreateAccessLevel",
        "CreateServicePerimeter",
        "UpdateAccessLevel",
        "UpdateServicePerimeter",
        "DeleteServicePerimeter",
    ]


async def test_what_is_kept_is_answered_as_it_was_written(world: World) -> None:
    await world.call("POST", LEVELS, level())
    wanted = await fence(world)
    rule = {
        "ingressFrom": {"identityType": "ANY_SERVICE_ACCOUNT", "sources": [{"accessLevel": "*"}]},
        "ingressTo": {
            "resources": ["*"],
            "operations": [{"serviceName": IAM, "methodSelectors": [{"method": "*"}]}],
        },
    }
    wanted["status"]["ingressPolicies"] = [rule]
    assert (await world.call("POST", PERIMETERS, wanted))[0] == 200
    assert (await world.call("GET", f"{PERIMETERS}/p"))[1] == wanted
    assert (await world.call("GET", LEVELS))[1] == {"accessLevels": [level()]}
    assert (await world.call("POST", PERIMETERS, wanted))[0] == 409
    assert (await world.call("GET", "/v1/projects/demo/serviceAccounts"))[0] == 200, "the rule lets accounts in"


@pytest.mark.parametrize(
    "body",
    [
        level("192.0.2.7/24"),
        level("office"),
        level(name="1st"),
        level() | {"name": "office"},
        level() | {"basic": {"conditions": []}},
        level() | {"basic": {"conditions": [{}]}},
        level() | {"basic": {"conditions": [{"regions": ["CH"]}]}},
        level() | {"basic": {"conditions": [{"members": ["group:a@example.org"]}]}},
        level() | {"custom": {"expr": {"expression": "true"}}},
        {"name": f"{POLICY}/accessLevels/empty"},
    ],
)
async def test_a_level_that_could_not_be_kept_to_is_refused(world: World, body: dict[str, Any]) -> None:
    assert (await world.call("POST", LEVELS, body))[0] == 400
    assert (await world.call("GET", LEVELS))[1] == {}


@pytest.mark.parametrize(
    "changes",
    [
        {"resources": ["projects/1"]},
        {"resources": ["projects/demo"]},
        {"accessLevels": [f"{POLICY}/accessLevels/home"]},
        {"restrictedServices": ["storage.googleapis.com"]},
        {"egressPolicies": [{}]},
        {"vpcAccessibleServices": {"enableRestriction": True}},
        {"ingressPolicies": [{"ingressFrom": {}, "ingressTo": {}}]},
    ],
)
async def test_a_perimeter_that_could_not_be_kept_to_is_refused(world: World, changes: dict[str, Any]) -> None:
    await world.call("POST", LEVELS, level())
    assert (await world.call("POST", PERIMETERS, await fence(world, **changes)))[0] == 400
    bridge = await fence(world) | {"perimeterType": "PERIMETER_TYPE_BRIDGE"}
    assert (await world.call("POST", PERIMETERS, bridge))[0] == 400
    assert (await world.call("GET", PERIMETERS))[1] == {}


async def test_a_project_is_in_one_perimeter_and_a_dry_run_is_said_to_be_one(world: World) -> None:
    await world.call("POST", LEVELS, level("127.0.0.0/8", "::1/128"))
    assert (await world.call("POST", PERIMETERS, await fence(world)))[0] == 200
    assert (await world.call("POST", PERIMETERS, await fence(world, "q")))[0] == 400
    tried = await fence(world, "q")
    tried["spec"] = tried.pop("status")
    assert (await world.call("POST", PERIMETERS, tried))[0] == 400
    assert (await world.call("POST", PERIMETERS, tried | {"useExplicitDryRunSpec": True}))[0] == 200


async def test_only_who_may_changes_perimeters_and_no_perimeter_keeps_them_from_it(world: World) -> None:
    ci = await world.account("ci", "roles/owner")
    assert (await world.call("POST", LEVELS, level(), await world.token(ci)))[0] == 403
    await world.call("POST", LEVELS, level())
    services = [IAM, "accesscontextmanager.googleapis.com", "cloudresourcemanager.googleapis.com"]
    assert (await world.call("POST", PERIMETERS, await fence_before(world, services)))[0] == 200
    assert (await world.call("GET", "/v1/projects/demo"))[0] == 403
    assert (await world.call("DELETE", f"{PERIMETERS}/p"))[0] == 200
    assert (await world.call("GET", "/v1/projects/demo"))[0] == 200


async def fence_before(world: World, services: list[str]) -> dict[str, Any]:
    return await fence(world, restrictedServices=services)


async def test_nobody_makes_the_project_whose_accounts_are_inside_of_all_perimeters(world: World) -> None:
    status, _ = await world.call("POST", "/v1/projects", {"projectId": "entrepot-system"})
    assert status == 400
