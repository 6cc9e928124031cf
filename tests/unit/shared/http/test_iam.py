"""Policies of any service's resources: who is bound must exist; an account just made is waited for."""

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from shared.events.states import AccountState, RoleState
from shared.http.iam import HEARING_SECONDS, Guarded, Policies, iam_routes
from shared.identity.directory import Directory
from tests.support.parts import Client, MemoryParts, bearer, client_of_app, json_of, memory_parts

THING = "projects/demo/locations/local/repositories/web"
ADMIN = "user:ada@example.org"
CI = AccountState(project="demo", email="ci@demo.iam.entrepot", unique_id="7")
EVE = AccountState(project="demo", email="eve@demo.iam.entrepot", unique_id="8")


@dataclass
class House:
    """A service that owns things with policies, and has heard of one account."""

    memory: MemoryParts
    directory: Directory
    client: Client
    age: list[float] = field(default_factory=lambda: [0.0])

    async def bind(self, *members: str) -> tuple[int, Any]:
        policy = {"bindings": [{"role": "roles/reader", "members": list(members)}]}
        answer = await self.client.post(f"/v1/{THING}:setIamPolicy", json={"policy": policy}, headers=bearer(ADMIN))
        return answer.status, await json_of(answer)

    async def members(self) -> list[str]:
        answer = await json_of(await self.client.get(f"/v1/{THING}:getIamPolicy", headers=bearer(ADMIN)))
        return answer["bindings"][0]["members"]


async def there(request: web.Request) -> None:
    del request


@pytest.fixture
async def house() -> AsyncGenerator[House]:
    memory = memory_parts("registry", grants={THING: {ADMIN: ["t.things.setIamPolicy", "t.things.getIamPolicy"]}})
    memory.learn(CI, RoleState(project="", role="roles/reader", permissions=("t.things.get",)))
    age = [0.0]
    directory = Directory(memory.clock.now, lambda: age[0])
    for fact, generation in memory.directory.facts():
        directory.learn(fact, generation)
    parts = replace(memory.parts, directory=directory)
    policies = Policies(parts.state, parts.keys, parts.outbox, directory)
    guarded = Guarded(
        "/v1/projects/{project}/locations/{location}/repositories/{repository:[^/:]+}",
        "t.things",
        "example.v1.Things",
        there,
    )
    async with client_of_app(parts.face(iam_routes(policies, guarded))) as client:
        yield House(memory, directory, client, age)


async def passed(house: House, asked: asyncio.Task[tuple[int, Any]]) -> tuple[int, Any]:
    await asyncio.sleep(0.1)
    await house.memory.clock.advance(HEARING_SECONDS)
    return await asked


async def test_an_account_that_does_not_exist_cannot_be_bound(house: House) -> None:
    asked = asyncio.create_task(house.bind("serviceAccount:eve@demo.iam.entrepot"))
    status, body = await passed(house, asked)
    assert (status, body["error"]["status"]) == (400, "INVALID_ARGUMENT")
    assert body["error"]["message"] == "Service account eve@demo.iam.entrepot does not exist."
    assert not house.memory.audited()


async def test_an_account_that_is_heard_of_in_the_meantime_is_bound(house: House) -> None:
    asked = asyncio.create_task(house.bind("serviceAccount:eve@demo.iam.entrepot"))
    await asyncio.sleep(0.1)
    assert not asked.done()
    house.directory.learn(EVE)
    status, _ = await asked
    assert (status, await house.members()) == (200, ["serviceAccount:eve@demo.iam.entrepot"])


async def test_nobody_is_refused_on_a_view_that_lags_behind(house: House) -> None:
    house.age[0] = HEARING_SECONDS + 1
    asked = asyncio.create_task(house.bind("serviceAccount:eve@demo.iam.entrepot"))
    status, body = await passed(house, asked)
    assert (status, body["error"]["status"]) == (503, "UNAVAILABLE")
    assert (await house.bind(f"serviceAccount:{CI.email}"))[0] == 200


async def test_a_deleted_account_is_shown_as_google_shows_it_also_when_there_is_another_of_its_name(
    house: House,
) -> None:
    assert (await house.bind(f"serviceAccount:{CI.email}"))[0] == 200
    caller = f"serviceAccount:{CI.email}"
    gone = f"deleted:serviceAccount:{CI.email}?uid=7"
    house.directory.learn(CI.model_copy(update={"deleted": True}), house.directory.version)
    assert await house.members() == [gone]
    house.directory.learn(CI.model_copy(update={"unique_id": "9"}), house.directory.version)
    assert await house.members() == [gone]
    path = f"/v1/{THING}:testIamPermissions"
    asked = await house.client.post(path, json={"permissions": ["t.things.get"]}, headers=bearer(caller))
    assert await json_of(asked) == {}
