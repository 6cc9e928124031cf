"""Occurrences and notes: what Google's Container Analysis v1 answers, for what is found here."""

from aiohttp import web

from services.scanner.filters import filter_of
from services.scanner.listing import Listing
from shared.http.errors import NotFound
from shared.http.pages import next_token, page_of
from shared.http.routes import Route
from shared.http.translation import json_answer

_GRAFEAS = "grafeas.v1.Grafeas"
_ANALYSIS = "google.devtools.containeranalysis.v1.ContainerAnalysis"
_OCCURRENCES = "/v1/projects/{project}/occurrences"
_NOTES = "/v1/projects/{project}/notes"


class OccurrencesApi:
    """Reads the request, asks the listing, writes the answer."""

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    def routes(self) -> list[Route]:
        """All routes about occurrences and notes."""
        of = "containeranalysis.occurrences"
        note = "containeranalysis.notes"
        one = _OCCURRENCES + "/{occurrence:[^/:]+}"
        return [
            Route("GET", _OCCURRENCES, self.list, f"{of}.list", method=f"{_GRAFEAS}.ListOccurrences"),
            Route(
                "GET",
                f"{_OCCURRENCES}:vulnerabilitySummary",
                self.summary,
                f"{of}.list",
                method=f"{_ANALYSIS}.GetVulnerabilityOccurrencesSummary",
            ),
            Route("GET", f"{one}/notes", self.note_of, f"{note}.get", method=f"{_GRAFEAS}.GetOccurrenceNote"),
            Route("GET", one, self.get, f"{of}.get", method=f"{_GRAFEAS}.GetOccurrence"),
            Route("GET", _NOTES, self.list_notes, f"{note}.list", method=f"{_GRAFEAS}.ListNotes"),
            Route("GET", _NOTES + "/{note:[^/:]+}", self.get_note, f"{note}.get", method=f"{_GRAFEAS}.GetNote"),
        ]

    async def list(self, request: web.Request) -> web.Response:
        """Occurrences of a project."""
        page, wanted = page_of(request), filter_of(request.query.get("filter", ""))
        found, after = await self._listing.page(request.match_info["project"], wanted, page.size, page.after)
        return json_answer({"occurrences": found, "nextPageToken": next_token(after)})

    async def get(self, request: web.Request) -> web.Response:
        """One occurrence."""
        return json_answer(await self._occurrence(request))

    async def note_of(self, request: web.Request) -> web.Response:
        """The note that an occurrence refers to."""
        name = str((await self._occurrence(request))["noteName"]).rpartition("/")[2]
        return await self._note(request.match_info["project"], name)

    async def summary(self, request: web.Request) -> web.Response:
        """How many findings each image has, by severity."""
        wanted = filter_of(request.query.get("filter", ""))
        return json_answer({"counts": await self._listing.summary(request.match_info["project"], wanted)})

    async def list_notes(self, request: web.Request) -> web.Response:
        """Notes of a project."""
        page = page_of(request)
        found, after = await self._listing.notes(request.match_info["project"], page.size, page.after)
        return json_answer({"notes": found, "nextPageToken": next_token(after)})

    async def get_note(self, request: web.Request) -> web.Response:
        """One note."""
        return await self._note(request.match_info["project"], request.match_info["note"])

    async def _occurrence(self, request: web.Request) -> dict[str, object]:
        project, name = request.match_info["project"], request.match_info["occurrence"]
        found = await self._listing.occurrence(project, name)
        if found is None:
            raise NotFound(f"projects/{project}/occurrences/{name} does not exist.")
        return found

    async def _note(self, project: str, name: str) -> web.Response:
        found = await self._listing.note(project, name)
        if found is None:
            raise NotFound(f"projects/{project}/notes/{name} does not exist.")
        return json_answer(found)
