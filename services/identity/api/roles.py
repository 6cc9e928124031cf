"""Predefined and custom roles, as iam v1 has them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.identity.api.names import Names
from services.identity.custom_roles import CustomRole, Stage, checked_permissions, checked_role_id
from services.identity.roles import PERMISSIONS, PREDEFINED, Role
from services.identity.store import ORGANIZATION, Change, Store
from shared.events.states import RoleState
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, InvalidArgument, NotFound
from shared.http.etags import require_etag
from shared.http.masks import paths_of
from shared.http.pages import after_of, next_token, page_of
from shared.http.routes import Audit, Handler, Resource, Route
from shared.http.translation import json_answer

_METHOD: Final = "google.iam.admin.v1"
_OPEN: Final = "what Google's roles mean is no secret"
_TESTABLE: Final = "/v1/permissions:queryTestablePermissions"
_PREDEFINED_ETAG: Final = "AA=="


class _Role(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    title: str = Field(default="", max_length=100)
    description: str = Field(default="", max_length=300)
    permissions: list[str] = Field(default=[], alias="includedPermissions")
    stage: Stage = "ALPHA"
    etag: str = ""


class _Create(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)

    role_id: str = Field(alias="roleId")
    role: _Role = _Role()


@dataclass(frozen=True)
class RolesFace:
    """`roles`, `projects.roles` and `organizations.roles` of iam v1."""

    store: Store
    names: Names
    organization: str

    def routes(self) -> list[Route]:
        """Predefined roles are open; custom ones belong to a project or to the organisation."""
        return [
            Route("POST", "/v1/roles:queryGrantableRoles", self.grantable, "", audit=Audit.NONE, open_because=_OPEN),
            Route("POST", _TESTABLE, self.testable, "", audit=Audit.NONE, open_because=_OPEN),
            Route("GET", "/v1/roles", self.list_predefined, "", audit=Audit.NONE, open_because=_OPEN),
            Route("GET", "/v1/roles/{role}", self.get_predefined, "", audit=Audit.NONE, open_because=_OPEN),
            *self._custom("/v1/projects/{project}/roles", self.names.project_resource),
            *self._custom("/v1/organizations/{organization}/roles", _organization),
        ]

    def _custom(self, path: str, resource: Resource) -> list[Route]:
        one = path + "/{role}"

        def route(verb: str, where: str, handler: Handler, permission: str, method: str) -> Route:
            kind = Audit.ADMIN_READ if verb == "GET" else Audit.ADMIN_WRITE
            return Route(verb, where, handler, f"iam.roles.{permission}", resource, f"{_METHOD}.{method}", kind)

        return [
            route("GET", path, self.list, "list", "ListRoles"),
            route("POST", path, self.create, "create", "CreateRole"),
            route("GET", one, self.get, "get", "GetRole"),
            route("PATCH", one, self.patch, "update", "UpdateRole"),
            route("DELETE", one, self.delete, "delete", "DeleteRole"),
        ]

    async def get_predefined(self, request: web.Request) -> web.Response:
        """One predefined role, with its permissions."""
        role = PREDEFINED.get(f"roles/{request.match_info['role']}")
        if role is None:
            raise NotFound(f"The role named roles/{request.match_info['role'][:100]} was not found.")
        return json_answer(_told(role, full=True))

    async def list_predefined(self, request: web.Request) -> web.Response:
        """All predefined roles, by name."""
        roles = sorted(PREDEFINED.values(), key=lambda role: role.name)
        return _page(request, roles, lambda role: role.name, _told)

    async def grantable(self, request: web.Request) -> web.Response:
        """Every predefined role can be given on every resource."""
        await json_body(request)
        roles = sorted(PREDEFINED.values(), key=lambda role: role.name)
        return json_answer({"roles": [_told(role, full=False) for role in roles]})

    async def testable(self, request: web.Request) -> web.Response:
        """Every permission there is can be put into a custom role."""
        asked = await json_body(request)
        after, size = after_of(str(asked.get("pageToken", ""))), 1000
        behind = [name for name in sorted(PERMISSIONS) if name > after]
        body: dict[str, Any] = {"permissions": [{"name": name, "stage": "GA"} for name in behind[:size]]}
        return json_answer(body | ({"nextPageToken": next_token(behind[size - 1])} if len(behind) > size else {}))

    async def list(self, request: web.Request) -> web.Response:
        """The custom roles of a project or of the organisation."""
        project, _ = self._place(request)
        roles = await self.store.roles(project)
        return _page(request, roles, lambda role: role.name, lambda role, full: role.v1(full=full))

    async def get(self, request: web.Request) -> web.Response:
        """One custom role."""
        project, place = self._place(request)
        role, _ = await self.store.role(project, f"{place}/roles/{request.match_info['role']}")
        if role is None:
            raise NotFound("There is no such role.")
        return json_answer(role.v1())

    async def create(self, request: web.Request) -> web.Response:
        """A new custom role."""
        asked = await json_body(request, _Create)
        project, place = self._place(request)
        if project and (await self.store.project(project))[0] is None:
            raise NotFound("There is no such project.")
        role = CustomRole(
            project=project,
            name=f"{place}/roles/{checked_role_id(asked.role_id)}",
            title=asked.role.title,
            description=asked.role.description,
            permissions=checked_permissions(asked.role.permissions),
            stage=asked.role.stage,
        )
        return json_answer((await self._changed(request, role.name, lambda _: role, fresh=True)).v1())

    async def patch(self, request: web.Request) -> web.Response:
        """Change what the mask names; without one, whatever is given."""
        asked = await json_body(request, _Role)
        given = asked.model_dump(by_alias=True, exclude_unset=True)
        paths = paths_of(request.query.get("updateMask", "")) or tuple(name for name in given if name != "etag")
        changes = {_FIELDS[path]: value for path, value in _changes(asked, paths).items()}

        def edit(role: CustomRole) -> CustomRole:
            require_etag(asked.etag, role.v1()["etag"])
            return role.model_copy(update=changes)

        return json_answer((await self._changed(request, self._name(request), edit)).v1())

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a custom role: bindings that give it give nothing any more."""
        role = await self._changed(request, self._name(request), lambda _: None)
        return json_answer(role.v1() | {"deleted": True})

    async def _changed(
        self,
        request: web.Request,
        name: str,
        edit: Callable[[CustomRole], CustomRole | None],
        *,
        fresh: bool = False,
    ) -> CustomRole:
        project, _ = self._place(request)
        call = call_of(request)

        async def attempt() -> CustomRole:
            role, found = await self.store.role(project, name)
            if role is None and not fresh:
                raise NotFound("There is no such role.")
            if role is not None and fresh:
                raise AlreadyExists(f"A role named {name} already exists.")
            after = edit(role or CustomRole(project=project, name=name))
            told = after or role or CustomRole(project=project, name=name)
            write = self.store.keep_role(after) if after else self.store.drop_role(told)
            fact = after.fact() if after else RoleState(project=project, role=name, deleted=True)
            activity = call.activity(project=project, resource=name, response=told.v1())
            checks = (self.store.role_is(project, name, found),)
            change = Change(project, f"{call.id}:role", checks, (write,), (fact, activity))
            await self.store.apply(change, call.cause)
            return told

        return await self.store.settled(attempt)

    def _name(self, request: web.Request) -> str:
        return f"{self._place(request)[1]}/roles/{request.match_info['role']}"

    def _place(self, request: web.Request) -> tuple[str, str]:
        """The project, and the resource that the roles belong to. Raises NotFound."""
        if "project" in request.match_info:
            project = self.names.project(request)
            return project, f"projects/{project}"
        if _organization(request) != self.organization:
            raise NotFound("There is no such organization.")
        return ORGANIZATION, self.organization


_FIELDS: Final = {
    "title": "title",
    "description": "description",
    "includedPermissions": "permissions",
    "stage": "stage",
}


def _changes(asked: _Role, paths: tuple[str, ...]) -> dict[str, Any]:
    unknown = [path for path in paths if path not in _FIELDS]
    if unknown:
        raise InvalidArgument("Only title, description, includedPermissions and stage of a role can be changed.")
    values: dict[str, Any] = {
        "title": asked.title,
        "description": asked.description,
        "includedPermissions": checked_permissions(asked.permissions),
        "stage": asked.stage,
    }
    return {path: values[path] for path in paths}


def _organization(request: web.Request) -> str:
    return f"organizations/{request.match_info['organization']}"


def _told(role: Role, full: bool) -> dict[str, Any]:  # noqa: FBT001 — a view of lists
    body: dict[str, Any] = {"name": role.name, "title": role.title, "stage": "GA", "etag": _PREDEFINED_ETAG}
    return body | ({"includedPermissions": list(role.permissions)} if full else {})


def _page(
    request: web.Request, roles: Any, name: Callable[[Any], str], told: Callable[[Any, bool], Any]
) -> web.Response:
    page, full = page_of(request, default=300), request.query.get("view") == "FULL"
    behind = [role for role in roles if name(role) > page.after]
    body: dict[str, Any] = {"roles": [told(role, full) for role in behind[: page.size]]} if behind else {}
    if len(behind) > page.size:
        body["nextPageToken"] = next_token(name(behind[page.size - 1]))
    return json_answer(body)
