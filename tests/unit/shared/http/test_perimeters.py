"""Perimeters at the one middleware: refused in Google's words, on record, by the caller's true address."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web

from shared.events.states import PerimeterState
from shared.http.call import call_of
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.identity.caller import ALL_USERS
from shared.identity.directory import Directory
from tests.support.parts import Client, MemoryParts, bearer, client_of_app, json_of, memory_parts

POLICY = "accessPolicies/1"
THING = "projects/demo/locations/local/repositories/web"
READ, WRITE = "artifactregistry.repositories.get", "artifactregistry.repositories.update"
ADA = "user:ada@example.org"
PERIMETER = f"{POLICY}/servicePerimeters/p"


def perimeter(network: str = "192.0.2.0/24", *, tried: bool = False) -> PerimeterState:
    level = {"name": f"{POLICY}/accessLevels/office", "basic": {"conditions": [{"ipSubnetworks": [network]}]}}
    config = {
        "resources": ["projects/1"],
        "accessLevels": [level["name"]],
        "restrictedServices": ["artifactregistry.googleapis.com"],
    }
    words: dict[str, Any] = {"spec": config, "useExplicitDryRunSpec": True} if tried else {"status": config}
    one = {"name": PERIMETER, **words}
    return PerimeterState(project="", policy=POLICY, parent="organizations/1", levels=(level,), perimeters=(one,))


@dataclass
class House:
    """A service behind one trusted gateway, which is this machine."""

    memory: MemoryParts
    directory: Directory
    client: Client
    age: list[float] = field(default_factory=lambda: [0.0])

    async def call(self, member: str = ADA, verb: str = "GET", ip: str = "") -> tuple[int, Any]:
        headers = bearer(member) if member else {}
        headers |= {"X-Forwarded-For": ip} if ip else {}
        answer = await self.client.request(verb, f"/v1/{THING}", headers=headers)
        return answer.status, await json_of(answer)

    def entries(self) -> list[dict[str, Any]]:
        return [event.entry for event in self.memory.journal.events]  # type: ignore[attr-defined]

    def fence(self, state: PerimeterState) -> None:
        self.directory.learn(state, self.directory.version)


async def answer(request: web.Request) -> web.Response:
    call = call_of(request)
    if request.method == "POST":
        call.changed_nothing()
    return json_answer({"may": await call.may(WRITE, THING)})


@pytest.fixture
async def house() -> AsyncGenerator[House]:
    memory = memory_parts("registry", environment={"ENTREPOT_TRUSTED_PROXIES": "127.0.0.0/8,::1/128"})
    memory.grant(THING, ADA, READ, WRITE)
    memory.grant(THING, ALL_USERS, READ)
    age = [0.0]
    directory = Directory(memory.clock.now, lambda: age[0])
    for fact, generation in memory.directory.facts():
        directory.learn(fact, generation)
    path = "/v1/projects/{project}/locations/{location}/repositories/{repository}"
    routes = [
        Route("GET", path, answer, READ, method="google.Get", audit=Audit.ADMIN_READ),
        Route("POST", path, answer, WRITE, method="google.Update", audit=Audit.ADMIN_WRITE),
    ]
    async with client_of_app(replace(memory.parts, directory=directory).face(routes)) as client:
        yield House(memory, directory, client, age)


async def test_a_call_from_outside_is_refused_in_googles_words_and_on_record(house: House) -> None:
    house.fence(perimeter())
    status, body = await house.call(ip="198.51.100.7")
    assert (status, body["error"]["status"]) == (403, "PERMISSION_DENIED")
    assert body["error"]["message"].startswith("Request is prohibited by organization's policy.")
    failure, info = body["error"]["details"]
    assert failure["violations"][0]["type"] == "VPC_SERVICE_CONTROLS"
    assert info["reason"] == "SECURITY_POLICY_VIOLATED"
    assert PERIMETER not in repr(body)
    (entry,) = house.entries()
    assert entry["logName"] == "projects/demo/logs/cloudaudit.googleapis.com%2Fpolicy"
    payload = entry["protoPayload"]
    assert (payload["requestMetadata"]["callerIp"], payload["status"]["code"]) == ("198.51.100.7", 7)
    metadata = payload["metadata"]
    assert metadata["@type"] == "type.googleapis.com/google.cloud.audit.VpcServiceControlAuditMetadata"
    assert metadata["securityPolicyInfo"] == {"servicePerimeterName": PERIMETER, "organizationId": "1"}
    assert metadata["vpcServiceControlsUniqueId"] == failure["violations"][0]["description"]
    assert "dryRun" not in metadata


async def test_the_address_counts_that_a_trusted_gateway_wrote_and_none_that_the_caller_made_up(house: House) -> None:
    house.fence(perimeter())
    assert (await house.call(ip="192.0.2.7"))[0] == 200
    assert (await house.call(ip="192.0.2.7, 198.51.100.7"))[0] == 403
    assert (await house.call(ip="198.51.100.7, 192.0.2.7"))[0] == 200
    assert (await house.call())[0] == 403


async def test_what_is_only_tried_is_on_record_and_goes_through(house: House) -> None:
    house.fence(perimeter(tried=True))
    status, body = await house.call(ip="198.51.100.7")
    assert (status, body) == (200, {"may": True})
    assert [entry["protoPayload"]["metadata"]["dryRun"] for entry in house.entries()] == [True]


async def test_who_has_no_role_learns_nothing_of_perimeters_and_who_shows_no_token_is_asked_for_one(
    house: House,
) -> None:
    house.fence(perimeter())
    status, body = await house.call("user:eve@example.org", "POST", ip="198.51.100.7")
    assert (status, "prohibited" in repr(body)) == (403, False)
    assert (await house.call("", ip="198.51.100.7"))[0] == 401
    assert (await house.call("", ip="192.0.2.7"))[1] == {"may": False}


async def test_an_old_view_keeps_its_fences_and_allows_no_change_even_from_inside(house: House) -> None:
    house.fence(perimeter())
    house.age[0] = 601.0
    assert (await house.call(ip="198.51.100.7"))[0] == 403
    assert (await house.call(ip="192.0.2.7"))[0] == 200
    assert (await house.call(verb="POST", ip="192.0.2.7"))[0] == 503


async def test_a_perimeter_counts_from_the_next_call_on_and_no_longer_when_it_is_gone(house: House) -> None:
    assert (await house.call(ip="198.51.100.7"))[0] == 200
    house.fence(perimeter())
    assert (await house.call(ip="198.51.100.7"))[0] == 403
    house.fence(perimeter("198.51.100.0/24"))
    assert (await house.call(ip="198.51.100.7"))[0] == 200
    house.fence(PerimeterState(project="", policy=POLICY, parent="organizations/1"))
    assert (await house.call(ip="203.0.113.1"))[0] == 200
