"""Every route of every service, called by everybody: what each may follows from the roles that identity has.

Nothing here lists routes but the table of open ones: the rows come from the services' own route tables, the columns
from identity's predefined roles, and what is expected from the permissions of these.
"""

import importlib
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from yarl import URL

from services.identity.roles import PERMISSIONS, PREDEFINED
from shared.events.audit import AuditDenied
from shared.events.states import Binding, PolicyState, ProjectState
from shared.http.face import ROUTES
from shared.http.health import PATHS
from shared.http.routes import Audit, Route
from shared.identity.directory import reads
from shared.parts import Service
from tests.support.mint import Mint, minted
from tests.support.parts import Client, MemoryParts, client_of
from tests.support.suite import SERVICES

OWN_PERMISSIONS = "it tells callers their own permissions"
OPEN = {
    "registry": {
        "it asks for a token, whatever it allows": 4,
        "it shows what the caller may list": 1,
        "the address itself is signed and authorises this upload for its own life": 4,
        "nothing is served there": 1,
        OWN_PERMISSIONS: 1,
    },
    "identity": {
        "this is where callers prove who they are": 4,
        "public keys are public": 3,
        "it tells about the token that is shown to it, and nothing else": 5,
        "who has a token may give it back": 1,
        "what Google's roles mean is no secret": 4,
        "it lists what the caller may see, and nothing to others": 7,
        "it asks for the permission to see the project by itself": 2,
        OWN_PERMISSIONS: 5,
    },
    "builder": {},
    "scanner": {OWN_PERMISSIONS: 2},
    "attestor": {OWN_PERMISSIONS: 2, "it is the same for everybody and says nothing about anybody": 1},
    "cleanup": {},
    "audit_log": {
        "the body says which projects are read; each is asked for in the handler": 1,
        "a length and two hashes, for anybody to keep; they say nothing of what is inside": 1,
    },
}
"""How many routes are open for which reason: one more must be added here by somebody who has thought about it."""

SAMPLES = {
    "project": "demo",
    "location": "local",
    "repository": "web",
    "name": "demo/web/app",
    "reference": "v1",
    "digest": "sha256:" + "0" * 64,
    "account": "ci@demo.iam.entrepot",
    "organization": "1",
    "policy": "1",
    "point": "cloudresourcemanager.googleapis.com%252Fprojects%252Fdemo",
}
PLACES = ("projects/demo", "organizations/1")
"""Where each role is given in turn: on the project, and above it."""
_PLACE = re.compile(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}")


@dataclass(frozen=True)
class Face:
    """One service, and who calls it."""

    name: str
    client: Client
    made: MemoryParts
    mint: Mint
    routes: tuple[Route, ...]

    async def call(
        self, route: Route, headers: Mapping[str, str]
    ) -> tuple[int, list[tuple[str, str]], Mapping[str, str]]:
        """The status, the permissions that were denied with their resources, and the headers."""
        self.made.journal.events.clear()
        path = _PLACE.sub(lambda found: SAMPLES.get(found[1], "sample"), route.path)
        path += "?project=demo" if route.path in {"/admit", "/validate"} else ""
        verb = "GET" if route.verb == "*" else route.verb
        given: dict[str, Any] = {} if verb in {"GET", "HEAD", "DELETE"} else {"json": {}}
        async with self.client.request(
            verb, URL(path, encoded=True), headers=headers, allow_redirects=False, **given
        ) as answer:
            await answer.read()
            return answer.status, list(self._denied()), answer.headers

    def _denied(self) -> Iterator[tuple[str, str]]:
        for event in self.made.journal.events:
            if isinstance(event, AuditDenied):
                for asked in event.entry["protoPayload"]["authorizationInfo"]:
                    yield asked["permission"], asked["resource"]

    def give(self, place: str, *roles: str) -> None:
        """Let the tried account have these roles there, and nobody anything else anywhere."""
        for name in (*PLACES, "projects/other"):
            project = name.removeprefix("projects/") if name.startswith("projects/") else ""
            bindings = tuple(Binding(role=role, members=(TRIED,)) for role in roles) if name == place else ()
            self.made.learn(PolicyState(project=project, full_name=name, bindings=bindings))

    @property
    def guarded(self) -> list[Route]:
        """Routes that ask for a permission; what destroys most comes last."""
        order = {"GET": 0, "HEAD": 0, "POST": 1, "PUT": 2, "PATCH": 2, "DELETE": 3}
        return sorted((each for each in self.routes if each.permission), key=lambda each: order[each.verb])

    @property
    def open(self) -> list[Route]:
        return [each for each in self.routes if not each.permission]


TRIED = "serviceAccount:tried@demo.iam.entrepot"


@asynccontextmanager
async def face(name: str, folder: Path) -> AsyncGenerator[Face]:
    made, mint = minted(name, {"ENTREPOT_DATA": str(folder)})
    service: Service = importlib.import_module(f"services.{name}.app").build(made.parts)
    made.learn(
        *(
            ProjectState(project=each, number=1 + at, parent="organizations/1")
            for at, each in enumerate(("demo", "other"))
        )
    )
    made.learn(*(role.fact() for role in PREDEFINED.values()))
    mint.account("tried")
    async with client_of(service) as client:
        yield Face(name, client, made, mint, service.app[ROUTES].routes)


def is_within(resource: str, place: str) -> bool:
    """Whether a policy at the place counts for the resource: here everything lies in the organisation."""
    return place.startswith("organizations/") or resource == place or resource.startswith(f"{place}/")


def roles_of(routes: tuple[Route, ...]) -> list[str]:
    """The predefined roles that hold anything that these routes ask for."""
    asked = {route.permission for route in routes}
    return [name for name, role in PREDEFINED.items() if asked & set(role.permissions)]


@pytest.mark.parametrize("service", SERVICES)
async def test_everything_that_is_served_is_in_the_matrix_and_what_is_open_is_known(
    service: str, tmp_path: Path
) -> None:
    async with face(service, tmp_path) as found:
        served = {(each.method, each.resource.canonical) for each in found.client.app.router.routes() if each.resource}
        health = {(verb, path) for path in PATHS for verb in ("GET", "HEAD")}
        declared = {(each.verb, _PLACE.sub(r"{\1}", each.path)) for each in found.routes}
        assert {(verb, _PLACE.sub(r"{\1}", path)) for verb, path in served} - health - declared <= {
            ("HEAD", path) for verb, path in declared if verb == "GET"
        }
        reasons = [each.open_because for each in found.open]
        assert {reason: reasons.count(reason) for reason in reasons} == OPEN[service]
        assert [each.permission for each in found.guarded if each.permission not in PERMISSIONS] == []


@pytest.mark.parametrize("service", SERVICES)
async def test_nobody_and_who_shows_a_bad_token_is_asked_for_a_good_one(service: str, tmp_path: Path) -> None:
    async with face(service, tmp_path) as found:
        found.give("organizations/1", "roles/owner")
        for route in found.guarded:
            for headers in ({}, {"Authorization": "Bearer nonsense"}, {"Authorization": "Basic YTpi"}):
                status, _, answered = await found.call(route, headers)
                assert status == 401, f"{route.verb} {route.path}"
                assert "WWW-Authenticate" in answered


@pytest.mark.parametrize("service", SERVICES)
async def test_an_account_that_is_disabled_gone_or_another_one_of_the_same_name_is_nobody(
    service: str, tmp_path: Path
) -> None:
    async with face(service, tmp_path) as found:
        found.give("organizations/1", "roles/owner")
        headers = found.mint.headers(TRIED)
        gone: list[dict[str, Any]] = [{"disabled": True}, {"deleted": True}, {"unique_id": "another"}, {"keys": {}}]
        for changes in gone:
            found.mint.account("tried", **changes)
            for route in found.guarded:
                assert (await found.call(route, headers))[0] == 401, f"{route.verb} {route.path} {changes}"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_limited_token_of_a_mighty_account_reaches_no_further_than_it_says(
    service: str, tmp_path: Path
) -> None:
    elsewhere = {"type": "repository", "name": "demo/elsewhere/app", "actions": ["pull", "push", "delete"]}
    here = {"type": "repository", "name": "demo/web/app", "actions": ["pull"]}
    async with face(service, tmp_path) as found:
        found.give("organizations/1", "roles/owner", "roles/accesscontextmanager.policyAdmin")
        for access in ([], [elsewhere], [here]):
            headers = found.mint.headers(TRIED, access=access)
            for route in found.guarded:
                status, _, _ = await found.call(route, headers)
                reads = route.permission in PREDEFINED["roles/artifactregistry.reader"].permissions
                if (
                    access == [here]
                    and reads
                    and "{repository" in route.path + route.path.replace("{name", "{repository")
                ):
                    continue
                assert status == 401, f"{route.verb} {route.path} {access}"


@pytest.mark.parametrize("service", SERVICES)
async def test_a_stranger_and_the_owner_of_another_project_are_denied_everywhere(service: str, tmp_path: Path) -> None:
    async with face(service, tmp_path) as found:
        for place, roles in (("projects/other", ("roles/owner",)), ("projects/other", ())):
            found.give(place, *roles)
            for route in found.guarded:
                status, denied, _ = await found.call(route, found.mint.headers(TRIED))
                assert status == 403, f"{route.verb} {route.path}"
                assert [permission for permission, _ in denied] == [route.permission]
                assert not denied[0][1].startswith("projects/other")


@pytest.mark.parametrize("service", SERVICES)
async def test_what_is_open_breaks_for_nobody_and_gives_nobody_what_is_guarded(service: str, tmp_path: Path) -> None:
    async with face(service, tmp_path) as found:
        for roles in ((), ("roles/owner",)):
            found.give("projects/other", *roles)
            for headers in ({}, found.mint.headers(TRIED), found.mint.headers(TRIED, access=[])):
                for route in found.open:
                    status, denied, _ = await found.call(route, headers)
                    keyless = status == 503 and "prove who they are" in route.open_because  # no token key is made here
                    assert status < 500 or keyless, f"{route.verb} {route.path}: {status}"
                    assert not any(resource.startswith("projects/other") and roles for _, resource in denied)


@pytest.mark.parametrize("service", SERVICES)
async def test_what_changes_something_asks_for_more_than_leave_to_read(service: str, tmp_path: Path) -> None:
    async with face(service, tmp_path) as found:
        writes = [each for each in found.guarded if each.audit in {Audit.ADMIN_WRITE, Audit.DATA_WRITE}]
        assert [f"{each.verb} {each.path}" for each in writes if reads(each.permission)] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("service", SERVICES)
async def test_each_role_is_let_in_where_it_holds_the_permission_and_nowhere_else(service: str, tmp_path: Path) -> None:
    async with face(service, tmp_path) as found:
        await each_role(found)


async def each_role(found: Face) -> None:
    headers = found.mint.headers(TRIED)
    found.give("projects/other")
    resources = {id(route): (await found.call(route, headers))[1][0][1] for route in found.guarded}
    reached: set[str] = set()
    for name in roles_of(found.routes):
        held = set(PREDEFINED[name].permissions)
        for place in PLACES:
            for route in found.guarded:
                found.give(place, name)
                found.made.learn(ProjectState(project="demo", number=1, parent="organizations/1"))
                found.mint.account("tried")
                status, denied, _ = await found.call(route, headers)
                where = f"{name} on {place}: {route.verb} {route.path}: {status} {denied}"
                assert status != 401, where
                assert status < 500, where
                for permission, resource in denied:
                    assert permission not in held or not is_within(resource, place), where
                if route.permission in held and is_within(resources[id(route)], place):
                    assert status != 403 or denied, where
                    assert (route.permission, resources[id(route)]) not in denied, where
                    reached.add(route.permission)
                else:
                    assert status == 403, where
                    assert denied == [(route.permission, resources[id(route)])], where
    assert reached == {route.permission for route in found.guarded}
