"""Every route that may change something, called so that it does: its entry for the audit log comes in the same step.

The routes come from the services' own tables. One that no tour visits fails the test, and so does one that is not
declared as a change without standing in the table of those, so that nobody forgets either.
"""

import base64
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from aiohttp.test_utils import make_mocked_request

from services.attestor.app import build as build_attestor
from services.audit_log.app import build as build_audit_log
from services.builder.app import build as build_builder
from services.cleanup.app import build as build_cleanup
from services.identity.roles import PERMISSIONS
from shared.digest import Digest
from shared.events.images import RepositoryState
from shared.http.face import ROUTES
from shared.http.routes import Audit, Route
from shared.parts import Service
from tests.support.events import said
from tests.support.identity import identity, pair
from tests.support.images import MANIFEST
from tests.support.parts import Client, MemoryParts, bearer, client_of, memory_parts
from tests.support.registry import NAME, artifact, registry, small_image
from tests.support.scans import osv, scanner_at_work

ADA = "user:ada@example.org"
PLACE = re.compile(r"\{(\w+)(?::(?:[^{}]|\{[^{}]*\})*)?\}")
CHANGES = (Audit.ADMIN_WRITE, Audit.DATA_WRITE)
ASKS = {
    "registry": {
        "PATCH /v2/{name}/blobs/uploads/{upload}": "bytes that nobody sees before the upload's end, which is audited",
        "DELETE /v2/{name}/blobs/uploads/{upload}": "an upload that is given up was never there",
        "* /v2/{rest}": "nothing is served there",
    },
    "identity": {
        "POST /token": "audited by its own handler, with the account in the place of the caller",
        "POST /v1/token": "the same",
        "POST /oauth2/v4/token": "the same",
        "POST /tokeninfo": "it tells about a token",
        "POST /revoke": "it takes back a refresh token; its own handler audits that",
        "POST /v1/roles:queryGrantableRoles": "it lists",
        "POST /v1/permissions:queryTestablePermissions": "it lists",
        "POST /v1/organizations:search": "it lists",
        "POST /v3/organizations:search": "it lists",
        "POST /v1/projects/{project}:getAncestry": "it reads",
    },
    "builder": {},
    "scanner": {},
    "attestor": {
        "POST /admit": "a decision; the journal keeps it",
        "POST /validate": "it says whether a policy could be kept",
        "POST /v1/projects/{project}/attestors/{attestor}:validateAttestationOccurrence": "it says whether one is good",
    },
    "cleanup": {"POST /v1/projects/{project}/locations/{location}/repositories/{repository}:planCleanup": "a dry run"},
    "audit_log": {
        "POST /v2/entries:list": "it lists",
        "POST /v1/projects/{project}/auditLog:verify": "it reads and reckons",
    },
}
"""Routes with a verb that may change something, which change nothing that an audit log tells of, and why."""
IDLE = {
    "registry": {"PATCH /v1/projects/{project}/projectSettings": "the settings have one meaning here, and keep it"},
    "identity": {"POST /v1/projects/{project}/services/{service}:enable": "all of them are always enabled"},
}
"""Declared as changes, since Google's are, and never one here, and why."""
QUESTIONS = (":getIamPolicy", ":testIamPermissions")


@dataclass
class Tour:
    """A face, called by somebody who may do everything."""

    made: MemoryParts
    client: Client
    routes: tuple[Route, ...]
    headers: dict[str, str]
    seen: set[str] = field(default_factory=set[str])

    async def ask(self, verb: str, path: str, body: Any = None, **headers: str) -> tuple[Any, Any]:
        """One call; the answer's JSON and its headers."""
        content = body if body is None or isinstance(body, bytes) else orjson.dumps(body)
        written = {name.replace("_", "-"): value for name, value in headers.items()} | self.headers
        async with self.client.request(verb, path, data=content, headers=written) as answer:
            found = await answer.read()
            assert answer.status < 300, f"{verb} {path}: {answer.status} {found!r}"
            return (orjson.loads(found) if found[:1] in {b"{", b"["} else None), answer.headers

    async def change(self, verb: str, path: str, body: Any = None, **headers: str) -> tuple[Any, Any]:
        """One call that changes something: exactly one entry more, by its caller, with its route's permission."""
        before = {entry["insertId"] for entry in self.made.audited()}
        answer = await self.ask(verb, path, body, **headers)
        route = await self._route(verb, path)
        payloads = [entry["protoPayload"] for entry in self.made.audited() if entry["insertId"] not in before]
        asked = [[one["permission"] for one in payload["authorizationInfo"]] for payload in payloads]
        assert len(payloads) == 1, f"{verb} {path} left {len(payloads)} entries"
        assert route.permission in {"", *asked[0]}, f"{verb} {path}: {asked}, the route asks for {route.permission}"
        assert payloads[0]["authenticationInfo"]["principalEmail"]
        self.seen.add(f"{verb} {plain(route.path)}")
        return answer

    async def idle(self, verb: str, path: str, body: Any = None) -> None:
        """One call that finds nothing to change, and leaves no entry."""
        before = len(self.made.audited())
        await self.ask(verb, path, body)
        assert len(self.made.audited()) == before
        self.seen.add(f"{verb} {plain((await self._route(verb, path)).path)}")

    async def _route(self, verb: str, path: str) -> Route:
        """The declared route that this call takes."""
        found = await self.client.app.router.resolve(make_mocked_request(verb, path)) if self.client.app else None
        assert found is not None
        assert found.route.resource is not None
        (route,) = [
            one for one in self.routes if one.verb == verb and plain(one.path) == found.route.resource.canonical
        ]
        return route


def plain(path: str) -> str:
    """A route's path without what its places look like."""
    return PLACE.sub(r"{\1}", path)


def toured(made: MemoryParts, client: Client, headers: dict[str, str] | None = None) -> Tour:
    assert client.app is not None
    return Tour(made, client, client.app[ROUTES].routes, headers or bearer(ADA))


@asynccontextmanager
async def built(service: str, build: Callable[[Any], Service], folder: Path) -> AsyncGenerator[Tour]:
    made = memory_parts(service, environment={"ENTREPOT_DATA": str(folder)})
    made.grant("projects/demo", ADA, *PERMISSIONS)
    async with client_of(build(made.parts), made.parts) as client:
        yield toured(made, client)


# The tours.


@asynccontextmanager
async def at_the_registry(folder: Path) -> AsyncGenerator[Tour]:
    del folder
    image, other = small_image("one"), small_image("two")
    async with registry() as oci:
        oci.parts.grant("projects/demo", ADA, *PERMISSIONS)
        tour = toured(oci.parts, oci.client)
        await _repositories(tour)
        for one in (image, other):
            for content in one.blobs.values():
                await oci.blob(content)
        upload = await oci.begin()
        content = b"a blob of its own"
        digest = Digest.of(content)
        await tour.change("PUT", f"{upload}{'&' if '?' in upload else '?'}digest={digest}", content)
        for slash, repository in (("/", "first"), ("", "second")):
            mount = f"/v2/demo/{repository}/app/blobs/uploads{slash}?mount={digest}&from={NAME}"
            await tour.change("POST", f"{REPOSITORIES}?repositoryId={repository}", {"format": "DOCKER"})
            await tour.change("POST", mount)
        for tag, one in (("a", image), ("b", other)):
            await tour.change("PUT", f"/v2/{NAME}/manifests/{tag}", one.manifest, Content_Type=MANIFEST)
        await _google(tour, image.digest, digest)
        await _files(tour)
        await oci.push(image, "v1", "demo/web/brief")
        await oci.manifest(artifact(kind="application/vnd.loose"))
        await oci.blob(b"a loose end")
        await _deletions(tour)
        for one in (image, other):
            await oci.push(one, "c")
        await tour.change("DELETE", f"/v2/{NAME}/manifests/c")
        await tour.change("DELETE", f"/v2/{NAME}/manifests/{image.digest}")
        await tour.change("DELETE", f"/v2/{NAME}/blobs/{digest}")
        yield tour


REPOSITORIES = "/v1/projects/demo/locations/local/repositories"
WEB = f"{REPOSITORIES}/web"


async def _repositories(tour: Tour) -> None:
    await tour.change("POST", f"{REPOSITORIES}?repositoryId=web", {"format": "DOCKER"})
    await tour.change("POST", f"{REPOSITORIES}?repositoryId=brief", {"format": "DOCKER"})
    await tour.change("PATCH", f"{REPOSITORIES}/brief?updateMask=description", {"description": "changed"})
    await tour.change("POST", f"{REPOSITORIES}/brief:setIamPolicy", {"policy": {}})
    await tour.change("DELETE", f"{REPOSITORIES}/brief")
    settings = {"legacyRedirectionState": "REDIRECTION_FROM_GCR_IO_FINALIZED"}
    await tour.idle("PATCH", "/v1/projects/demo/projectSettings", settings)
    await tour.change("PATCH", "/v1/projects/demo/locations/local/vpcscConfig", {"vpcscPolicy": "DENY"})


async def _google(tour: Tour, digest: str, blob: str) -> None:
    await tour.change("POST", f"{WEB}/rules?ruleId=old", {"action": "DENY", "packageId": "none"})
    await tour.change("PATCH", f"{WEB}/rules/old?updateMask=action", {"action": "ALLOW"})
    await tour.change("DELETE", f"{WEB}/rules/old")
    package = f"{WEB}/packages/app"
    version = f"{package}/versions/{digest}"
    note = {"annotations": {"team": "web"}}
    await tour.change("PATCH", f"{package}?updateMask=annotations", note)
    await tour.change("PATCH", f"{version}?updateMask=annotations", note)
    await tour.change("POST", f"{package}/tags?tagId=stable", {"version": version.removeprefix("/v1/")})
    await tour.change("PATCH", f"{package}/tags/b?updateMask=version", {"version": version.removeprefix("/v1/")})
    await tour.change("DELETE", f"{package}/tags/stable")
    attached = {
        "target": version.removeprefix("/v1/"),
        "type": "application/vnd.test",
        "files": [f"{WEB.removeprefix('/v1/')}/files/{blob}"],
    }
    await tour.change("PATCH", f"{WEB}/files/{blob}?updateMask=annotations", note)
    await tour.change("POST", f"{WEB}/attachments?attachmentId=sbom", attached)
    await tour.change("DELETE", f"{WEB}/attachments/sbom")
    await tour.change("PUT", f"/v2/{NAME}/manifests/lone", artifact(), Content_Type=MANIFEST)


async def _files(tour: Tour) -> None:
    files = f"{WEB.replace('/v1', '/upload/v1', 1)}/files:upload"
    resumable = f"/resumable{files}"
    await tour.change("POST", f"{files}?uploadType=media", b"a file")
    await tour.change("POST", f"{resumable}?uploadType=media", b"another")
    for at, path in enumerate((files, resumable)):
        _, headers = await tour.ask("POST", f"{path}?uploadType=resumable", {})
        address = urlsplit(str(headers["Location"]))
        await tour.change("PUT", f"{address.path}?{address.query}", b"in pieces %d" % at)


async def _deletions(tour: Tour) -> None:
    lone, loose = (Digest.of(one) for one in (artifact(), artifact(kind="application/vnd.loose")))
    versions = f"{WEB}/packages/app/versions"
    names = [f"{versions.removeprefix('/v1/')}/{loose}"]
    await tour.change("DELETE", f"{versions}/{lone}?force=true")
    await tour.change("POST", f"{versions}:batchDelete", {"names": names})
    await tour.change("DELETE", f"{WEB}/packages/brief")
    await tour.change("DELETE", f"{WEB}/files/{Digest.of(b'a loose end')}")


@asynccontextmanager
async def at_the_cleanup(folder: Path) -> AsyncGenerator[Tour]:
    async with built("cleanup", build_cleanup, folder) as tour:
        heard = said(RepositoryState(project="demo", location="local", repository="web"), cause="c", generation=1)
        await tour.made.parts.bus.publisher.publish([heard])
        await tour.made.clock.advance(1)
        policies = {"old": {"action": "DELETE", "condition": {"olderThan": "30d"}}}
        await tour.change("POST", f"{WEB}:runCleanup", {"cleanupPolicies": policies})
        yield tour


@asynccontextmanager
async def at_the_audit_log(folder: Path) -> AsyncGenerator[Tour]:
    async with built("audit_log", build_audit_log, folder) as tour:
        sink = {"name": "s", "destination": "storage.googleapis.com/anywhere", "filter": "severity>=NOTICE"}
        await tour.change("POST", "/v2/projects/demo/sinks", sink)
        for verb in ("PUT", "PATCH"):
            await tour.change(verb, "/v2/projects/demo/sinks/s?updateMask=filter", {**sink, "filter": verb})
        await tour.change("DELETE", "/v2/projects/demo/sinks/s")
        yield tour


@asynccontextmanager
async def at_the_attestor(folder: Path) -> AsyncGenerator[Tour]:
    async with built("attestor", build_attestor, folder) as tour:
        place = "/v1/projects/demo/attestors"
        made, _ = await tour.change("POST", f"{place}?attestorId=one", {})
        await tour.change("PUT", f"{place}/one", {**made, "description": "changed"})
        await tour.change("POST", f"{place}/one:generateSigningKey", {})
        await tour.change("POST", f"{place}/one:setIamPolicy", {"policy": {}})
        policy = {
            "defaultAdmissionRule": {
                "evaluationMode": "ALWAYS_DENY",
                "enforcementMode": "ENFORCED_BLOCK_AND_AUDIT_LOG",
            }
        }
        await tour.change("PUT", "/v1/projects/demo/policy", policy)
        await tour.change("POST", "/v1/projects/demo/policy:setIamPolicy", {"policy": {}})
        await tour.change("DELETE", f"{place}/one")
        yield tour


@asynccontextmanager
async def at_the_scanner(folder: Path) -> AsyncGenerator[Tour]:
    del folder
    async with scanner_at_work() as scanner:
        scanner.memory.grant("projects/demo", ADA, *PERMISSIONS)
        tour = toured(scanner.memory, scanner.client)
        notes, occurrences = "/v1/projects/demo/notes", "/v1/projects/demo/occurrences"
        record = osv("PYSEC-1", "PyPI", "flask", {"introduced": "0"})
        await tour.change("POST", "/v1/projects/demo/advisories:import?source=test", [record])
        note: dict[str, Any] = {"build": {}}
        found: dict[str, Any] = {
            "noteName": "projects/demo/notes/n",
            "resourceUri": "registry/a@sha256:" + "a" * 64,
            "build": {},
        }
        await tour.change("POST", f"{notes}?noteId=n", note)
        await tour.change("POST", f"{notes}:batchCreate", {"notes": {"m": note}})
        await tour.change("PATCH", f"{notes}/n?updateMask=shortDescription", {"shortDescription": "ours"})
        await tour.change("POST", f"{notes}/n:setIamPolicy", {"policy": {}})
        made, _ = await tour.change("POST", occurrences, found)
        own = f"/v1/{made['name']}"
        await tour.change("POST", f"{occurrences}:batchCreate", {"occurrences": [found]})
        await tour.change("PATCH", f"{own}?updateMask=remediation", {"remediation": "wait"})
        await tour.change("POST", f"{own}:setIamPolicy", {"policy": {}})
        await tour.change("DELETE", own)
        await tour.change("DELETE", f"{notes}/m")
        yield tour


@asynccontextmanager
async def at_the_builder(folder: Path) -> AsyncGenerator[Tour]:
    async with built("builder", build_builder, folder) as tour:
        steps = {"steps": [{"name": "127.0.0.1:1/demo/web/none:1", "args": ["true"]}]}
        for place in ("/v1/projects/demo", "/v1/projects/demo/locations/local"):
            await tour.change("POST", f"{place}/sources", b"a tar archive")
            made, _ = await tour.change("POST", f"{place}/builds", steps)
            own = f"{place}/builds/{made['metadata']['build']['id']}"
            await tour.change("POST", f"{own}:cancel", {})
            await tour.change("POST", f"{own}:retry", {})
        yield tour


@asynccontextmanager
async def at_identity(folder: Path) -> AsyncGenerator[Tour]:
    async with identity(folder) as world:
        tour = toured(world.memory, world.client, {"Authorization": f"Bearer {await world.token()}"})
        await _accounts(tour)
        await _projects(tour)
        await _roles_and_groups(tour)
        await _perimeters(tour)
        await _denials(tour)
        await tour.idle("POST", "/v1/projects/demo/services/logging.googleapis.com:enable", {})
        yield tour


async def _accounts(tour: Tour) -> None:
    accounts = "/v1/projects/demo/serviceAccounts"
    made, _ = await tour.change("POST", accounts, {"accountId": "eve"})
    own = f"{accounts}/{made['email']}"
    await tour.change("PATCH", own, {"serviceAccount": {"displayName": "Eve"}, "updateMask": "displayName"})
    await tour.change("PUT", own, {"displayName": "Eva"})
    await tour.change("POST", f"{own}:setIamPolicy", {"policy": {}})
    key, _ = await tour.change("POST", f"{own}/keys", {})
    data = base64.b64encode(pair("uploaded").public.encode()).decode()
    await tour.change("POST", f"{own}/keys:upload", {"publicKeyData": data})
    for verb in ("disable", "enable"):
        await tour.change("POST", f"/v1/{key['name']}:{verb}", {})
        await tour.change("POST", f"{own}:{verb}", {})
    await tour.change("DELETE", f"/v1/{key['name']}")
    await tour.change("DELETE", own)


async def _projects(tour: Tour) -> None:
    for version in ("v1", "v3"):
        name = f"project-{version}"
        projects = f"/{version}/projects"
        await tour.change("POST", projects, {"projectId": name, "parent": {"type": "organization", "id": "1"}}
                          if version == "v1" else {"projectId": name, "parent": "organizations/1"})  # fmt: skip
        policy, _ = await tour.ask("POST", f"{projects}/{name}:getIamPolicy", {})
        await tour.change("POST", f"{projects}/{name}:setIamPolicy", {"policy": policy})
        policy, _ = await tour.ask("POST", f"/{version}/organizations/1:getIamPolicy", {})
        await tour.change("POST", f"/{version}/organizations/1:setIamPolicy", {"policy": policy})
        if version == "v1":
            await tour.change("PUT", f"{projects}/{name}", {"name": "changed"})
        else:
            await tour.change("PATCH", f"{projects}/{name}?updateMask=displayName", {"displayName": "changed"})
        await tour.change("DELETE", f"{projects}/{name}")
        await tour.change("POST", f"{projects}/{name}:undelete", {})


async def _roles_and_groups(tour: Tour) -> None:
    body = {"roleId": "looker", "role": {"title": "Looker", "includedPermissions": ["iam.serviceAccounts.list"]}}
    for roles in ("/v1/projects/demo/roles", "/v1/organizations/1/roles"):
        await tour.change("POST", roles, body)
        await tour.change("PATCH", f"{roles}/looker?updateMask=title", {"title": "Look"})
        await tour.change("DELETE", f"{roles}/looker")
    await tour.change("POST", "/v1/groups", {"email": "dev@example.org", "members": [ADA]})
    await tour.change("PATCH", "/v1/groups/dev@example.org", {"members": []})
    await tour.change("DELETE", "/v1/groups/dev@example.org")


async def _perimeters(tour: Tour) -> None:
    policy = "accessPolicies/1"
    level = {"name": f"{policy}/accessLevels/home", "title": "home"}
    conditions = {"conditions": [{"ipSubnetworks": ["192.0.2.0/24"]}]}
    await tour.change("POST", f"/v1/{policy}/accessLevels", {**level, "basic": conditions})
    await tour.change("PATCH", f"/v1/{policy}/accessLevels/home?updateMask=title", {"title": "house"})
    fence: dict[str, Any] = {"name": f"{policy}/servicePerimeters/p", "title": "p", "status": {}}
    await tour.change("POST", f"/v1/{policy}/servicePerimeters", fence)
    await tour.change("PATCH", f"/v1/{policy}/servicePerimeters/p?updateMask=title", {"title": "q"})
    await tour.change("DELETE", f"/v1/{policy}/servicePerimeters/p")
    await tour.change("DELETE", f"/v1/{policy}/accessLevels/home")


async def _denials(tour: Tour) -> None:
    place = "/v2/policies/cloudresourcemanager.googleapis.com%2Fprojects%2Fdemo/denypolicies"
    rule = {
        "deniedPrincipals": ["principal://iam.googleapis.com/projects/-/serviceAccounts/x@demo.iam.entrepot"],
        "deniedPermissions": ["iam.googleapis.com/serviceAccounts.list"],
    }
    denial = {"displayName": "none", "rules": [{"denyRule": rule}]}
    await tour.change("POST", f"{place}?policyId=none", denial)
    await tour.change("PUT", f"{place}/none", {**denial, "displayName": "changed"})
    await tour.change("DELETE", f"{place}/none")


TOURS: dict[str, Callable[[Path], AbstractAsyncContextManager[Tour]]] = {
    "registry": at_the_registry,
    "identity": at_identity,
    "builder": at_the_builder,
    "scanner": at_the_scanner,
    "attestor": at_the_attestor,
    "cleanup": at_the_cleanup,
    "audit_log": at_the_audit_log,
}


@pytest.mark.parametrize("service", TOURS)
async def test_every_change_leaves_its_entry(service: str, tmp_path: Path) -> None:
    async with TOURS[service](tmp_path) as tour:
        changing = {f"{route.verb} {plain(route.path)}" for route in tour.routes if route.audit in CHANGES}
        asking = {
            f"{route.verb} {plain(route.path)}"
            for route in tour.routes
            if route.audit not in CHANGES and route.verb not in {"GET", "HEAD"} and not route.path.endswith(QUESTIONS)
        }
        assert asking == set(ASKS[service])
        assert tour.seen == changing
        assert set(IDLE.get(service, {})) <= changing
