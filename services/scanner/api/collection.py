"""What notes and occurrences have in common over HTTP: IAM, list, get, patch and delete."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from aiohttp import web

from services.scanner.filters import Filter, filter_of
from shared.http.bodies import json_body
from shared.http.call import Call, call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.masks import field_mask
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer

GRAFEAS = "grafeas.v1.Grafeas"
ANALYSIS = "google.devtools.containeranalysis.v1.ContainerAnalysis"
MOST_AT_ONCE = 100

Json = dict[str, Any]


Paging = Callable[[str, Filter, int, str], Awaitable[tuple[list[Json], str]]]
"""Of a project: up to so many that a filter takes, behind a place; and what the next page begins behind."""
Changing = Callable[[Call, str, str, Json, Sequence[str]], Awaitable[Json]]
"""By project and id, with a patch and the paths that it is about, where these are named."""


@dataclass(frozen=True)
class Collection:
    """All notes, or all occurrences: reads the request, asks catalog or desk, writes the answer."""

    plural: str
    policies: Policies
    page: Paging
    one: Callable[[str, str], Awaitable[Json | None]]
    change: Changing
    drop: Callable[[Call, str, str], Awaitable[None]]

    @property
    def path(self) -> str:
        """Of the collection."""
        return f"/v1/projects/{{project}}/{self.plural}"

    @property
    def path_of_one(self) -> str:
        """Of each of them."""
        return f"{self.path}/{{{self.plural.removesuffix('s')}:[^/:]+}}"

    @property
    def permission(self) -> str:
        """How permissions on them begin."""
        return f"containeranalysis.{self.plural}"

    def routes(self, create: Handler, create_many: Handler) -> list[Route]:
        """The routes that both have; they are made in ways of their own."""
        path, one, of, what = self.path, self.path_of_one, self.permission, self.plural.removesuffix("s").title()
        many, write = f"{path}:batchCreate", Audit.ADMIN_WRITE
        batch = f"{GRAFEAS}.BatchCreate{what}s"
        return [
            *iam_routes(self.policies, Guarded(one, of, ANALYSIS, self._exists)),
            Route("GET", path, self.list_page, f"{of}.list", method=f"{GRAFEAS}.List{what}s"),
            Route("POST", path, create, f"{of}.create", method=f"{GRAFEAS}.Create{what}", audit=write),
            Route("POST", many, create_many, f"{of}.create", method=batch, audit=write),
            Route("GET", one, self.get, f"{of}.get", method=f"{GRAFEAS}.Get{what}"),
            Route("PATCH", one, self.patch, f"{of}.update", method=f"{GRAFEAS}.Update{what}", audit=write),
            Route("DELETE", one, self.delete, f"{of}.delete", method=f"{GRAFEAS}.Delete{what}", audit=write),
        ]

    async def list_page(self, request: web.Request) -> web.Response:
        """A page of a project's."""
        page, wanted = page_of(request), filter_of(request.query.get("filter", ""))
        found, after = await self.page(request.match_info["project"], wanted, page.size, page.after)
        return json_answer({self.plural: found, "nextPageToken": next_token(after)})

    async def get(self, request: web.Request) -> web.Response:
        """One of them."""
        return json_answer(await self.found(request))

    async def patch(self, request: web.Request) -> web.Response:
        """Change the fields that updateMask names, or those that are sent."""
        patch, mask = await json_body(request), field_mask(request)
        return json_answer(await self.change(call_of(request), *self._names(request), patch, mask))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete one that somebody wrote."""
        await self.drop(call_of(request), *self._names(request))
        return json_answer({})

    async def found(self, request: web.Request) -> Json:
        """The one that a request names. Raises NotFound."""
        project, own = self._names(request)
        found = await self.one(project, own)
        if found is None:
            raise NotFound(f"projects/{project}/{self.plural}/{own} does not exist.")
        return found

    async def _exists(self, request: web.Request) -> None:
        await self.found(request)

    def _names(self, request: web.Request) -> tuple[str, str]:
        return request.match_info["project"], request.match_info[self.plural.removesuffix("s")]


def objected(body: object) -> Json:
    """One element of a batch; raises InvalidArgument for what is no object."""
    if not isinstance(body, dict):
        raise InvalidArgument("Each is an object.")
    return cast("Json", body)
