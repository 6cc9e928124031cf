"""What the one middleware does for every call."""

from collections.abc import AsyncGenerator
from typing import Any

import pytest
from aiohttp import web

from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import NotFound
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.names import partition_of
from shared.process import Service
from shared.state.step import Put, Step
from tests.support.parts import Client, MemoryParts, bearer, client_of, json_of, memory_parts

ADA, EVE = "user:ada@example.org", "user:eve@example.org"
THINGS = "/v1/projects/{project}/locations/{location}/things"


class Things:
    """A small face of the usual kind."""

    def __init__(self, made: MemoryParts) -> None:
        self._parts = made.parts

    async def get(self, request: web.Request) -> web.Response:
        name = request.match_info["thing"]
        if name == "missing":
            raise NotFound("There is no such thing.")
        if name == "broken":
            raise RuntimeError("the password is hunter2")
        return json_answer({"name": name})

    async def create(self, request: web.Request) -> web.Response:
        call, body = call_of(request), await json_body(request)
        project = request.match_info["project"]
        events = [call.activity(project=project, request=body, response={"name": "new"})]
        key = self._parts.keys.of(project, "thing", "new")
        step = Step(
            partition=partition_of(project),
            request=f"{call.id}:1",
            writes=(Put(key, "here"),),
            drafts=self._parts.outbox.drafts(events, call.cause),
        )
        await self._parts.state.apply(step)
        return json_answer({"name": "new"})

    async def create_in_secret(self, request: web.Request) -> web.Response:
        await json_body(request)
        return json_answer({})

    async def open(self, request: web.Request) -> web.Response:
        return json_answer({"caller": call_of(request).caller.member})

    def routes(self) -> list[Route]:
        return [
            Route("GET", THINGS + "/{thing}", self.get, "things.get", method="t.Get", audit=Audit.DATA_READ),
            Route("POST", THINGS, self.create, "things.create", method="t.Create", audit=Audit.ADMIN_WRITE),
            Route(
                "POST", THINGS + ":hide", self.create_in_secret, "things.create", method="t.H", audit=Audit.DATA_WRITE
            ),
            Route("GET", "/open", self.open, "", open_because="a test of open routes", audit=Audit.NONE),
        ]


@pytest.fixture
def made() -> MemoryParts:
    grants = {"projects/demo": {ADA: ["things.get", "things.create"]}}
    return memory_parts("cleanup", grants=grants)


@pytest.fixture
async def client(made: MemoryParts) -> AsyncGenerator[Client]:
    async with client_of(Service(made.parts.face(Things(made).routes()))) as client:
        yield client


async def test_who_has_the_permission_is_served(client: Client) -> None:
    answer = await client.get("/v1/projects/demo/locations/local/things/a", headers=bearer(ADA))
    assert (answer.status, await json_of(answer)) == (200, {"name": "a"})


async def test_who_has_it_not_is_refused_with_the_permissions_name(client: Client) -> None:
    answer = await client.get("/v1/projects/demo/locations/local/things/a", headers=bearer(EVE))
    body: dict[str, Any] = await json_of(answer)
    assert answer.status == 403
    assert body["error"]["details"][0]["metadata"] == {
        "permission": "things.get",
        "resource": "projects/demo/locations/local/things/a",
    }


async def test_a_change_puts_its_entry_into_the_step(client: Client, made: MemoryParts) -> None:
    answer = await client.post(
        "/v1/projects/demo/locations/local/things", json={"password": "hunter2"}, headers=bearer(ADA)
    )
    assert answer.status == 200
    (entry,) = made.audited()
    assert entry["protoPayload"]["methodName"] == "t.Create"
    assert "hunter2" not in str(entry)


async def test_a_change_without_an_entry_is_a_defect_that_tests_see(client: Client) -> None:
    answer = await client.post("/v1/projects/demo/locations/local/things:hide", json={}, headers=bearer(ADA))
    assert answer.status == 500
