"""Occurrences over HTTP: Container Analysis' `projects.occurrences`, the scanner's own and those that callers write."""

from typing import Any, cast

from aiohttp import web

from services.scanner.api.collection import ANALYSIS, GRAFEAS, MOST_AT_ONCE, Collection, objected
from services.scanner.catalog import Catalog
from services.scanner.filters import filter_of
from services.scanner.listing import Listing
from services.scanner.written.desk import Desk
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.iam import Policies
from shared.http.routes import Route
from shared.http.translation import json_answer


class OccurrencesApi:
    """Reads the request, asks catalog or desk, writes the answer."""

    def __init__(self, catalog: Catalog, listing: Listing, desk: Desk, policies: Policies) -> None:
        self._catalog = catalog
        self._listing = listing
        self._desk = desk
        change, drop = desk.change_occurrence, desk.drop_occurrence
        self._all = Collection("occurrences", policies, catalog.page, catalog.occurrence, change, drop)

    def routes(self) -> list[Route]:
        """All routes about occurrences."""
        counts, note = f"{self._all.path}:vulnerabilitySummary", f"{self._all.path_of_one}/notes"
        listing, reading = f"{self._all.permission}.list", "containeranalysis.notes.get"
        return [
            *self._all.routes(self.create, self.create_many),
            Route("GET", counts, self.summary, listing, method=f"{ANALYSIS}.GetVulnerabilityOccurrencesSummary"),
            Route("GET", note, self.note_of, reading, method=f"{GRAFEAS}.GetOccurrenceNote"),
        ]

    async def note_of(self, request: web.Request) -> web.Response:
        """The note that an occurrence hangs on, perhaps one of another project."""
        name = str((await self._all.found(request))["noteName"])
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

    async def summary(self, request: web.Request) -> web.Response:
        """How many findings each image has, by severity."""
        wanted = filter_of(request.query.get("filter", ""))
        return json_answer({"counts": await self._listing.summary(request.match_info["project"], wanted)})
