"""Occurrences over HTTP: Container Analysis' `projects.occurrences`, the scanner's own and those that callers write."""

from typing import Any, cast

from aiohttp import web

from services.scanner.api.notes import ANALYSIS, GRAFEAS, MOST_AT_ONCE, objected
from services.scanner.catalog import Catalog
from services.scanner.filters import filter_of
from services.scanner.listing import Listing
from services.scanner.written.desk import Desk
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.masks import field_mask
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer

OCCURRENCES = "/v1/projects/{project}/occurrences"
_ONE = OCCURRENCES + "/{occurrence:[^/:]+}"
_OF = "containeranalysis.occurrences"


class OccurrencesApi:
    """Reads the request, asks catalog or desk, writes the answer."""

    def __init__(self, catalog: Catalog, listing: Listing, desk: Desk, policies: Policies) -> None:
        self._catalog = catalog
        self._listing = listing
        self._desk = desk
        self._policies = policies

    def routes(self) -> list[Route]:
        """All routes about occurrences."""
        write = Audit.ADMIN_WRITE
        return [
            *iam_routes(self._policies, Guarded(_ONE, _OF, ANALYSIS, self._exists)),
            Route("GET", OCCURRENCES, self.list, f"{_OF}.list", method=f"{GRAFEAS}.ListOccurrences"),
            Route("POST", OCCURRENCES, self.create, f"{_OF}.create", method=f"{GRAFEAS}.CreateOccurrence", audit=write),
            Route(
                "POST",
                f"{OCCURRENCES}:batchCreate",
                self.create_many,
                f"{_OF}.create",
                method=f"{GRAFEAS}.BatchCreateOccurrences",
                audit=write,
            ),
            Route(
                "GET",
                f"{OCCURRENCES}:vulnerabilitySummary",
                self.summary,
                f"{_OF}.list",
                method=f"{ANALYSIS}.GetVulnerabilityOccurrencesSummary",
            ),
            Route(
                "GET",
                f"{_ONE}/notes",
                self.note_of,
                "containeranalysis.notes.get",
                method=f"{GRAFEAS}.GetOccurrenceNote",
            ),
            Route("GET", _ONE, self.get, f"{_OF}.get", method=f"{GRAFEAS}.GetOccurrence"),
            Route("PATCH", _ONE, self.change, f"{_OF}.update", method=f"{GRAFEAS}.UpdateOccurrence", audit=write),
            Route("DELETE", _ONE, self.delete, f"{_OF}.delete", method=f"{GRAFEAS}.DeleteOccurrence", audit=write),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Occurrences of a project."""
        page, wanted = page_of(request), filter_of(request.query.get("filter", ""))
        found, after = await self._catalog.page(request.match_info["project"], wanted, page.size, page.after)
        return json_answer({"occurrences": found, "nextPageToken": next_token(after)})

    async def get(self, request: web.Request) -> web.Response:
        """One occurrence."""
        return json_answer(await self._occurrence(request))

    async def note_of(self, request: web.Request) -> web.Response:
        """The note that an occurrence hangs on, perhaps one of another project."""
        name = str((await self._occurrence(request))["noteName"])
        parts = name.split("/")
        found = await self._catalog.note(parts[1], parts[3]) if len(parts) == 4 else None
        if found is None:
            raise NotFound(f"{name} does not exist.")
        return json_answer(found)

    async def create(self, request: web.Request) -> web.Response:
        """Write an occurrence: its note must allow it."""
        body = await json_body(request, strict=True)
        (made,) = await self._desk.make_occurrences(call_of(request), request.match_info["project"], [body])
        return json_answer(made)

    async def create_many(self, request: web.Request) -> web.Response:
        """Write several occurrences, or none."""
        bodies = (await json_body(request, strict=True)).get("occurrences")
        if not isinstance(bodies, list) or not 0 < len(cast("list[Any]", bodies)) <= MOST_AT_ONCE:
            raise InvalidArgument(f"occurrences holds 1 to {MOST_AT_ONCE} of them.")
        wanted = [objected(body) for body in cast("list[Any]", bodies)]
        made = await self._desk.make_occurrences(call_of(request), request.match_info["project"], wanted)
        return json_answer({"occurrences": made})

    async def change(self, request: web.Request) -> web.Response:
        """Change the fields that updateMask names, or those that are sent."""
        project, own = request.match_info["project"], request.match_info["occurrence"]
        patch, mask = await json_body(request), field_mask(request)
        return json_answer(await self._desk.change_occurrence(call_of(request), project, own, patch, mask))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete an occurrence that somebody wrote."""
        project, own = request.match_info["project"], request.match_info["occurrence"]
        await self._desk.drop_occurrence(call_of(request), project, own)
        return json_answer({})

    async def summary(self, request: web.Request) -> web.Response:
        """How many findings each image has, by severity."""
        wanted = filter_of(request.query.get("filter", ""))
        return json_answer({"counts": await self._listing.summary(request.match_info["project"], wanted)})

    async def _occurrence(self, request: web.Request) -> dict[str, object]:
        project, name = request.match_info["project"], request.match_info["occurrence"]
        found = await self._catalog.occurrence(project, name)
        if found is None:
            raise NotFound(f"projects/{project}/occurrences/{name} does not exist.")
        return found

    async def _exists(self, request: web.Request) -> None:
        await self._occurrence(request)
