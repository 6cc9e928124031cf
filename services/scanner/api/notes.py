"""Notes over HTTP: Container Analysis' `projects.notes`, which occurrences hang on."""

from typing import Any, cast

from aiohttp import web

from services.scanner.api.collection import GRAFEAS, MOST_AT_ONCE, Collection, objected
from services.scanner.catalog import Catalog
from services.scanner.filters import filter_of
from services.scanner.written.desk import Desk
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import InvalidArgument
from shared.http.iam import Policies
from shared.http.pages import next_token, page_of
from shared.http.routes import Route
from shared.http.translation import json_answer


class NotesApi:
    """Reads the request, asks catalog or desk, writes the answer."""

    def __init__(self, catalog: Catalog, desk: Desk, policies: Policies) -> None:
        self._catalog = catalog
        self._desk = desk
        self._all = Collection("notes", policies, catalog.notes, catalog.note, desk.change_note, desk.drop_note)

    def routes(self) -> list[Route]:
        """All routes about notes."""
        hanging, permission = f"{self._all.path_of_one}/occurrences", f"{self._all.permission}.listOccurrences"
        return [
            *self._all.routes(self.create, self.create_many),
            Route("GET", hanging, self.occurrences, permission, method=f"{GRAFEAS}.ListNoteOccurrences"),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Make a note."""
        own = request.query.get("noteId", request.query.get("note_id", ""))
        body = await json_body(request)
        (made,) = await self._desk.make_notes(call_of(request), request.match_info["project"], {own: body})
        return json_answer(made)

    async def create_many(self, request: web.Request) -> web.Response:
        """Make several notes, by id, or none."""
        bodies = (await json_body(request)).get("notes")
        if not isinstance(bodies, dict) or not 0 < len(cast("dict[str, Any]", bodies)) <= MOST_AT_ONCE:
            raise InvalidArgument(f"notes holds 1 to {MOST_AT_ONCE} notes by their ids.")
        wanted = {own: objected(body) for own, body in cast("dict[str, Any]", bodies).items()}
        made = await self._desk.make_notes(call_of(request), request.match_info["project"], wanted)
        return json_answer({"notes": made})

    async def occurrences(self, request: web.Request) -> web.Response:
        """The occurrences that hang on a note, of whatever project they are."""
        page, wanted = page_of(request), filter_of(request.query.get("filter", ""))
        project, note = request.match_info["project"], request.match_info["note"]
        found, after = await self._catalog.page_of_note(project, note, wanted, page.size, page.after)
        return json_answer({"occurrences": found, "nextPageToken": next_token(after)})
