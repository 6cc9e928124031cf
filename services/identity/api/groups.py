"""Groups: a small face of our own. `/v1/groups`, and one group by its address."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field

from services.identity.groups import Group, checked_group, checked_members
from services.identity.store import ORGANIZATION, Change, Store
from shared.events.states import GroupState
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, InvalidArgument, NotFound
from shared.http.etags import require_etag
from shared.http.masks import field_mask
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer

_PATH: Final = "/v1/groups"
_ONE: Final = _PATH + "/{group}"


class _Group(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = ""
    email: str = ""
    display_name: str = Field(default="", alias="displayName", max_length=100)
    members: list[str] = []
    etag: str = ""


@dataclass(frozen=True)
class GroupsFace:
    """Groups of the organisation."""

    store: Store
    organization: str

    def routes(self) -> list[Route]:
        """Five verbs, each with its permission on the organisation."""

        def route(verb: str, path: str, handler: Handler, permission: str, method: str) -> Route:
            kind = Audit.ADMIN_READ if verb == "GET" else Audit.ADMIN_WRITE
            method = f"entrepot.identity.v1.Groups.{method}"
            return Route(verb, path, handler, f"cloudidentity.groups.{permission}", self._place, method, kind)

        return [
            route("GET", _PATH, self.list, "list", "ListGroups"),
            route("POST", _PATH, self.create, "create", "CreateGroup"),
            route("GET", _ONE, self.get, "get", "GetGroup"),
            route("PATCH", _ONE, self.patch, "update", "UpdateGroup"),
            route("DELETE", _ONE, self.delete, "delete", "DeleteGroup"),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """All groups, by address."""
        page = page_of(request)
        behind = [group for group in await self.store.groups() if group.email > page.after]
        body: dict[str, Any] = {"groups": [group.v1() for group in behind[: page.size]]} if behind else {}
        if len(behind) > page.size:
            body["nextPageToken"] = next_token(behind[page.size - 1].email)
        return json_answer(body)

    async def get(self, request: web.Request) -> web.Response:
        """One group."""
        group, _ = await self.store.group(_named(request))
        if group is None:
            raise NotFound("There is no such group.")
        return json_answer(group.v1())

    async def create(self, request: web.Request) -> web.Response:
        """A new group."""
        asked = await json_body(request, _Group)
        email = checked_group(asked.email)
        group = Group(email=email, display_name=asked.display_name, members=checked_members(asked.members))
        return json_answer((await self._changed(request, email, lambda _: group, fresh=True)).v1())

    async def patch(self, request: web.Request) -> web.Response:
        """Change name and members, whichever the mask names or the body has."""
        asked = await json_body(request, _Group)
        given = asked.model_dump(by_alias=True, exclude_unset=True)
        paths = field_mask(request) or tuple(name for name in given if name in {"displayName", "members"})
        values = {
            "displayName": ("display_name", asked.display_name),
            "members": ("members", checked_members(asked.members)),
        }
        if any(path not in values for path in paths):
            raise InvalidArgument("Only displayName and members of a group can be changed.")
        changes = dict(values[path] for path in paths)

        def edit(group: Group) -> Group:
            require_etag(asked.etag, group.v1()["etag"])
            return group.model_copy(update=changes)

        return json_answer((await self._changed(request, _named(request), edit)).v1())

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a group: bindings that name it count for nobody any more."""
        await self._changed(request, _named(request), lambda _: None)
        return json_answer({})

    async def _changed(
        self, request: web.Request, email: str, edit: Callable[[Group], Group | None], *, fresh: bool = False
    ) -> Group:
        call = call_of(request)

        async def attempt() -> Group:
            group, found = await self.store.group(email)
            if group is None and not fresh:
                raise NotFound("There is no such group.")
            if group is not None and fresh:
                raise AlreadyExists(f"The group {email} exists already.")
            after = edit(group or Group(email=email))
            told = after or group or Group(email=email)
            write = self.store.keep_group(after) if after else self.store.drop_group(email)
            fact = after.fact() if after else GroupState(project="", email=email, deleted=True)
            activity = call.activity(project="", resource=f"groups/{email}", response=told.v1())
            checks = (self.store.group_is(email, found),)
            change = Change(ORGANIZATION, f"{call.id}:group", checks, (write,), (fact, activity))
            await self.store.apply(change, call.cause)
            return told

        return await self.store.settled(attempt)

    def _place(self, request: web.Request) -> str:
        del request
        return self.organization


def _named(request: web.Request) -> str:
    return request.match_info["group"].lower()
