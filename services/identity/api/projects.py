"""Projects, as cloudresourcemanager v1 and v3 have them; their policies are kept here too."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.identity.accounts import project_of
from services.identity.api.names import Names
from services.identity.projects import (
    Project,
    checked_labels,
    checked_name,
    checked_project_id,
    new_project_number,
    owned_by,
)
from services.identity.store import Change, Store
from shared.clock import Clock, Ids, rfc3339
from shared.events import Event
from shared.events.states import ProjectState
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from shared.http.etags import require_etag
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.masks import paths_of
from shared.http.operations import finished
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer
from shared.identity.perimeters import SYSTEM_PROJECT
from shared.state import Check, Write

V1: Final = "/v1/projects"
V3: Final = "/v3/projects"
_ONE: Final = "/{project:[^/:]+}"
_METHOD: Final = "google.cloud.resourcemanager.v3.Projects"
_TYPE: Final = "google.cloud.resourcemanager.v3.Project"
_MESSAGE_V1: Final = "google.cloudresourcemanager.v1.Project"


class _Parent(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    type: str = ""
    id: str = ""


class _Project(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    project_id: str = Field(default="", alias="projectId")
    name: str = ""
    display_name: str = Field(default="", alias="displayName")
    labels: dict[str, Any] | None = None
    parent: _Parent | str | None = None
    etag: str = ""

    def parent_name(self) -> str:
        """`organizations/1`, from either form; empty when it is not said."""
        if isinstance(self.parent, _Parent):
            return f"{self.parent.type}s/{self.parent.id}" if self.parent.id else ""
        return self.parent or ""


@dataclass(frozen=True)
class ProjectsFace:
    """`projects` of cloudresourcemanager."""

    store: Store
    policies: Policies
    names: Names
    clock: Clock
    ids: Ids
    organization: str
    """`organizations/1`."""

    def routes(self) -> list[Route]:
        """Verbs behind a colon come first."""
        return [*self._of_version(V1), *self._of_version(V3), *self._only_in_one()]

    def _of_version(self, path: str) -> list[Route]:
        one = self.names.project_resource
        guarded = Guarded(path + _ONE, "resourcemanager.projects", _METHOD, self.exists, one)
        permission = "resourcemanager.projects"
        return [
            *iam_routes(self.policies, guarded),
            _write("POST", f"{path}{_ONE}:undelete", self.undelete, f"{permission}.undelete", one, "UndeleteProject"),
            _write("POST", path, self.create, f"{permission}.create", self._parent, "CreateProject"),
            _write("DELETE", path + _ONE, self.delete, f"{permission}.delete", one, "DeleteProject"),
            Route("GET", path + _ONE, self.get, f"{permission}.get", one, f"{_METHOD}.GetProject"),
        ]

    def _only_in_one(self) -> list[Route]:
        one, permission = self.names.project_resource, "resourcemanager.projects"
        update = f"{permission}.update"
        return [
            Route("GET", f"{V3}:search", self.search, "", audit=Audit.NONE, open_because=_LISTS),
            Route("GET", V3, self.search, "", audit=Audit.NONE, open_because=_LISTS),
            Route("GET", V1, self.list, "", audit=Audit.NONE, open_because=_LISTS),
            Route("POST", f"{V1}{_ONE}:getAncestry", self.ancestry, f"{permission}.get", one, f"{_METHOD}.GetAncestry"),
            _write("PUT", V1 + _ONE, self.update, update, one, "UpdateProject"),
            _write("PATCH", V3 + _ONE, self.patch, update, one, "UpdateProject"),
            Route("GET", "/v1/operations/{name:.+}", self.operation, "", audit=Audit.NONE, open_because=_FINISHED),
            Route("GET", "/v3/operations/{name:.+}", self.operation, "", audit=Audit.NONE, open_because=_FINISHED),
        ]

    async def exists(self, request: web.Request) -> None:
        """Raises NotFound."""
        await self.named(request)

    async def named(self, request: web.Request) -> Project:
        """The project that the path names. Raises NotFound."""
        project, _ = await self.store.project(self.names.project(request))
        if project is None:
            raise NotFound(f"Project {request.match_info['project'][:60]} does not exist.")
        return project

    async def get(self, request: web.Request) -> web.Response:
        """One project, in the words of the version asked."""
        return json_answer(_told(request, await self.named(request)))

    async def list(self, request: web.Request) -> web.Response:
        """The projects that the caller may see, in v1's words."""
        return await self._listed(request, lambda project: project.v1())

    async def search(self, request: web.Request) -> web.Response:
        """The projects that the caller may see, in v3's words."""
        return await self._listed(request, lambda project: project.v3())

    async def _listed(self, request: web.Request, told: Callable[[Project], dict[str, Any]]) -> web.Response:
        page, call = page_of(request, default=500), call_of(request)
        holds = _filter(request.query.get("filter", request.query.get("query", "")))
        facts = sorted(self.names.directory.every(ProjectState), key=lambda fact: fact.project)
        found: list[Project] = []
        for fact in facts:
            project = Project.of(fact)
            seen = fact.project > page.after and holds(project)
            if seen and await call.may("resourcemanager.projects.get", f"projects/{fact.project}"):
                found.append(project)
        body: dict[str, Any] = {"projects": [told(project) for project in found[: page.size]]} if found else {}
        if len(found) > page.size:
            body["nextPageToken"] = next_token(found[page.size - 1].id)
        return json_answer(body)

    async def ancestry(self, request: web.Request) -> web.Response:
        """The project and what it lies in."""
        project = await self.named(request)
        ancestors = [{"resourceId": {"type": "project", "id": project.id}}]
        kind, _, number = project.parent.partition("/")
        if number:
            ancestors.append({"resourceId": {"type": kind.removesuffix("s"), "id": number}})
        return json_answer({"ancestor": ancestors})

    async def operation(self, request: web.Request) -> web.Response:
        """Operations of projects are finished when they are answered; who asks again gets the same answer again."""
        number = request.match_info["name"].removeprefix("cp.")
        name = self.names.project_id(number)
        seen = await call_of(request).may("resourcemanager.projects.get", f"projects/{name}")
        project, _ = await self.store.project(name) if seen else (None, None)
        if project is None:
            raise NotFound("There is no such operation.")
        return json_answer(_operation(request, project))

    async def create(self, request: web.Request) -> web.Response:
        """A new project; who made it owns it."""
        asked = await json_body(request, _Project)
        if asked.parent_name() not in {"", self.organization}:
            raise InvalidArgument(f"The parent of a project is {self.organization} here.")
        call, now = call_of(request), rfc3339(self.clock.now())
        project_id = checked_project_id(asked.project_id)
        if project_id == SYSTEM_PROJECT:
            raise InvalidArgument(f"{SYSTEM_PROJECT} is kept for Entrepot's own services: choose another projectId.")
        project = Project(
            id=project_id,
            number=new_project_number(self.ids),
            name=checked_name(asked.display_name or asked.name, project_id),
            labels=checked_labels(asked.labels),
            parent=self.organization,
            created=now,
            updated=now,
        )
        existing, found = await self.store.project(project_id)
        if existing is not None:
            raise AlreadyExists("Requested entity already exists: choose another projectId.")
        account = self.names.directory.account(call.caller.email)
        owner = owned_by(project_id, call.caller.member, account.unique_id if account else "")
        check, write = self.policies.first(owner)
        checks = (self.store.project_is(project_id, found), check)
        await self._keep(request, project, checks, (write,), (owner,), asked)
        return json_answer(_operation(request, project))

    async def update(self, request: web.Request) -> web.Response:
        """v1's update: name and labels, as they are given."""
        asked = await json_body(request, _Project)
        changes = {"name": checked_name(asked.name, ""), "labels": checked_labels(asked.labels)}
        kept = {name: value for name, value in changes.items() if name in asked.model_fields_set and value != ""}
        return json_answer((await self._changed(request, kept, asked)).v1())

    async def patch(self, request: web.Request) -> web.Response:
        """v3's update: what the mask names."""
        asked = await json_body(request, _Project)
        given = [
            name for name in ("displayName", "labels") if name in (asked.model_dump(by_alias=True, exclude_unset=True))
        ]
        paths = paths_of(request.query.get("updateMask", "")) or tuple(given)
        changes: dict[str, Any] = {}
        for path in paths:
            if path in {"displayName", "display_name"}:
                changes["name"] = checked_name(asked.display_name, self.names.project(request))
            elif path == "labels":
                changes["labels"] = checked_labels(asked.labels)
            else:
                raise InvalidArgument("Only displayName and labels of a project can be changed.")
        return json_answer(_operation(request, await self._changed(request, changes, asked)))

    async def delete(self, request: web.Request) -> web.Response:
        """Mark the project for deletion: nothing in it can be used until it is brought back."""
        if project_of(call_of(request).caller.email, self.names.domain) == self.names.project(request):
            raise FailedPrecondition("Your own account lies in this project: nobody could bring it back.")
        changes = {"state": "DELETE_REQUESTED", "delete_requested": rfc3339(self.clock.now())}
        project = await self._changed(request, changes, None, needs="ACTIVE")
        return json_answer(_operation(request, project) if request.path.startswith("/v3") else {})

    async def undelete(self, request: web.Request) -> web.Response:
        """Bring back a project that was marked for deletion."""
        changes = {"state": "ACTIVE", "delete_requested": ""}
        project = await self._changed(request, changes, None, needs="DELETE_REQUESTED")
        return json_answer(_operation(request, project) if request.path.startswith("/v3") else {})

    async def _changed(
        self, request: web.Request, changes: dict[str, Any], asked: _Project | None, *, needs: str = "ACTIVE"
    ) -> Project:
        name = self.names.project(request)

        async def attempt() -> Project:
            project, found = await self.store.project(name)
            if project is None:
                raise NotFound(f"Project {name[:60]} does not exist.")
            if project.state != needs:
                raise FailedPrecondition(f"Project {name} is not {needs}.")
            require_etag(asked.etag if asked else "", project.v3()["etag"])
            after = project.model_copy(update={**changes, "updated": rfc3339(self.clock.now())})
            await self._keep(request, after, (self.store.project_is(name, found),), (), (), asked)
            return after

        return await self.store.settled(attempt)

    async def _keep(  # noqa: PLR0913, PLR0917 — the parts of a change
        self,
        request: web.Request,
        project: Project,
        checks: tuple[Check, ...],
        writes: tuple[Write, ...],
        events: tuple[Event, ...],
        asked: _Project | None,
    ) -> None:
        call = call_of(request)
        activity = call.activity(
            project=project.id,
            resource=f"projects/{project.id}",
            request=asked.model_dump(by_alias=True, exclude_unset=True) if asked else {},
            response=project.v3(),
        )
        change = Change(
            project=project.id,
            request=f"{call.id}:project",
            checks=checks,
            writes=(self.store.keep_project(project), *writes),
            events=(project.fact(), *events, activity),
        )
        await self.store.apply(change, call.cause)

    def _parent(self, request: web.Request) -> str:
        """Who may create a project is decided by where it will lie: there is one place."""
        del request
        return self.organization


_LISTS: Final = "it lists what the caller may see, and nothing to others"
_FINISHED: Final = "it asks for the permission to see the project by itself"


def _write(verb: str, path: str, handler: Handler, permission: str, resource: Any, method: str) -> Route:  # noqa: PLR0913, PLR0917 — a route has these
    return Route(verb, path, handler, permission, resource, f"{_METHOD}.{method}", Audit.ADMIN_WRITE)


def _told(request: web.Request, project: Project) -> dict[str, Any]:
    return project.v3() if request.path.startswith("/v3") else project.v1()


def _operation(request: web.Request, project: Project) -> dict[str, Any]:
    v3 = request.path.startswith("/v3")
    return finished(f"operations/cp.{project.number}", _told(request, project), _TYPE if v3 else _MESSAGE_V1)


def _filter(text: str) -> Callable[[Project], bool]:
    """The part of the filter language that clients use: `id:a*`, `name=b`, `labels.c:d`, `lifecycleState:ACTIVE`."""
    tests = [_term(term) for term in text.replace(" AND ", " ").split() if term != "AND"]
    return lambda project: all(test(project) for test in tests)


def _term(term: str) -> Callable[[Project], bool]:
    name, sign, value = term.partition(":") if ":" in term else term.partition("=")
    value = value.strip("\"'").lower()
    if not sign:
        raise InvalidArgument(f"The filter is not understood at {term[:80]!r}.")

    def holds(project: Project) -> bool:
        found = _field(project, name.lower())
        if found is None:
            return False
        return found.lower().startswith(value[:-1]) if value.endswith("*") else found.lower() == value

    return holds


def _field(project: Project, name: str) -> str | None:
    if name.startswith("labels."):
        return project.labels.get(name.removeprefix("labels."))
    told = {"id": project.id, "projectid": project.id, "name": project.name, "displayname": project.name}
    told |= {"lifecyclestate": project.state, "state": project.state, "projectnumber": str(project.number)}
    parent, _, number = project.parent.partition("/")
    told |= {"parent": project.parent, "parent.type": parent.removesuffix("s"), "parent.id": number}
    if name not in told:
        raise InvalidArgument(f"The filter knows no field {name[:80]!r}.")
    return told[name]
