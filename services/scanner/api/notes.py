"""Notes over HTTP: Container Analysis' `projects.notes`, which occurrences hang on."""

from typing import Any, cast

from aiohttp import web

from services.scanner.catalog import Catalog
from services.scanner.filters import filter_of
from services.scanner.written.desk import Desk
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import InvalidArgument, NotFound
from shared.http.iam import Guarded, Policies, iam_routes
from shared.http.masks import field_mask
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer

GRAFEAS = "grafeas.v1.Grafeas"
ANALYSIS = "google.devtools.containeranalysis.v1.ContainerAnalysis"
NOTES = "/v1/projects/{project}/notes"
MOST_AT_ONCE = 100
_ONE = NOTES + "/{note:[^/:]+}"
_OF = "containeranalysis.notes"


class NotesApi:
    """Reads the request, asks catalog or desk, writes the answer."""

    def __init__(self, catalog: Catalog, desk: Desk, policies: Policies) -> None:
        self._catalog = catalog
        self._desk = desk
        self._policies = policies

    def routes(self) -> list[Route]:
        """All routes about notes."""
        write = Audit.ADMIN_WRITE
        return [
            *iam_routes(self._policies, Guarded(_ONE, _OF, ANALYSIS, self._exists)),
            Route("GET", NOTES, self.list, f"{_OF}.list", method=f"{GRAFEAS}.ListNotes"),
            Route("POST", NOTES, self.create, f"{_OF}.create", method=f"{GRAFEAS}.CreateNote", audit=write),
            Route(
                "POST",
                f"{NOTES}:batchCreate",
                self.create_many,
                f"{_OF}.create",
                method=f"{GRAFEAS}.BatchCreateNotes",
                audit=write,
            ),
            Route(
                "GET",
                f"{_ONE}/occurrences",
                self.occurrences,
                f"{_OF}.listOccurrences",
                method=f"{GRAFEAS}.ListNoteOccurrences",
            ),
            Route("GET", _ONE, self.get, f"{_OF}.get", method=f"{GRAFEAS}.GetNote"),
            Route("PATCH", _ONE, self.change, f"{_OF}.update", method=f"{GRAFEAS}.UpdateNote", audit=write),
            Route("DELETE", _ONE, self.delete, f"{_OF}.delete", method=f"{GRAFEAS}.DeleteNote", audit=write),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Notes of a project."""
        page, wanted = page_of(request), filter_of(request.query.get("filter", ""))
        found, after = await self._catalog.notes(request.match_info["project"], wanted, page.size, page.after)
        return json_answer({"notes": found, "nextPageToken": next_token(after)})

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

    async def get(self, request: web.Request) -> web.Response:
        """One note."""
        return json_answer(await self._note(request))

    async def occurrences(self, request: web.Request) -> web.Response:
        """The occurrences that hang on a note, of whatever project they are."""
        page, wanted = page_of(request), filter_of(request.query.get("filter", ""))
        project, note = request.match_info["project"], request.match_info["note"]
        found, after = await self._catalog.page_of_note(project, note, wanted, page.size, page.after)
        return json_answer({"occurrences": found, "nextPageToken": next_token(after)})

    async def change(self, request: web.Request) -> web.Response:
        """Change the fields that updateMask names, or those that are sent."""
        project, note = request.match_info["project"], request.match_info["note"]
        patch, mask = await json_body(request), field_mask(request)
        return json_answer(await self._desk.change_note(call_of(request), project, note, patch, mask))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a note."""
        project, note = request.match_info["project"], request.match_info["note"]
        await self._desk.drop_note(call_of(request), project, note)
        return json_answer({})

    async def _note(self, request: web.Request) -> dict[str, Any]:
        project, own = request.match_info["project"], request.match_info["note"]
        found = await self._catalog.note(project, own)
        if found is None:
            raise NotFound(f"projects/{project}/notes/{own} does not exist.")
        return found

    async def _exists(self, request: web.Request) -> None:
        await self._note(request)


def objected(body: object) -> dict[str, Any]:
    """One element of a batch; raises InvalidArgument for what is no object."""
    if not isinstance(body, dict):
        raise InvalidArgument("Each is an object.")
    return cast("dict[str, Any]", body)
