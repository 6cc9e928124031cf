"""Importing advisories, and which feeds there are: an interface of our own."""

from aiohttp import web

from services.scanner.advisories.importing import Imported, Importer
from services.scanner.advisories.knowledge import Knowledge
from services.scanner.advisories.reading import ImportRefused
from services.scanner.advisories.subscriptions import SOURCE, Visit
from services.scanner.store import FeedRecord, Store
from shared.clock import rfc3339
from shared.http.bodies import streamed
from shared.http.call import Call, call_of
from shared.http.errors import Aborted, InvalidArgument
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.state import Change, Kept, Moved


class AdvisoriesApi:
    """Reads the request, hands the body on, writes the answer."""

    def __init__(self, store: Store, knowledge: Knowledge, importer: Importer) -> None:
        self._store = store
        self._knowledge = knowledge
        self._importer = importer

    def routes(self) -> list[Route]:
        """All routes about feeds."""
        return [
            Route(
                "POST",
                "/v1/projects/{project}/advisories:import",
                self.take_in,
                "containeranalysis.notes.create",
                method="entrepot.scanner.v1.ImportAdvisories",
                audit=Audit.ADMIN_WRITE,
                body=0,
                seconds=0,
            ),
            Route(
                "GET",
                "/v1/projects/{project}/advisoryFeeds",
                self.list_feeds,
                "containeranalysis.notes.list",
                method="entrepot.scanner.v1.ListAdvisoryFeeds",
            ),
        ]

    async def take_in(self, request: web.Request) -> web.Response:
        """Replace the advisories of one source by those in the body."""
        project, source = request.match_info["project"], request.query.get("source", "")
        if not SOURCE.fullmatch(source):
            raise InvalidArgument("source has 1 to 63 small letters, digits, dots, dashes and underscores.")
        before = await self._store.feed(project, source)
        try:
            imported = await self._importer.take(streamed(request), project, before.thing if before else None)
        except ImportRefused as error:
            raise InvalidArgument(f"The advisories cannot be imported: {error}.") from error
        answer = await self._adopt(call_of(request), project, source, imported, before)
        return json_answer(answer)

    async def list_feeds(self, request: web.Request) -> web.Response:
        """The feeds of a project."""
        project = request.match_info["project"]
        feeds = [
            {
                "source": source,
                "feed": feed.feed,
                "records": feed.records,
                "importTime": feed.imported,
                **_visited(await self._store.visit(project, source)),
            }
            for source, feed in (await self._store.feeds(project)).items()
        ]
        snapshot = await self._knowledge.snapshot(project)
        return json_answer({"advisoryFeeds": feeds, "snapshot": snapshot.id})

    async def _adopt(
        self, call: Call, project: str, source: str, imported: Imported, before: Kept[FeedRecord] | None
    ) -> dict[str, object]:
        tally = imported.tally
        answer: dict[str, object] = {
            "source": source,
            "feed": imported.record.feed,
            "records": tally.records,
            "withdrawn": tally.withdrawn,
            "unusable": tally.unusable,
            "unmatched": tally.empty,
            "changed": len(imported.changed),
            "ecosystems": tally.ecosystems,
            "complaints": tally.complaints,
        }
        events = [call.activity(project=project, request={"source": source}, response=answer)]
        change = Change(f"{call.id}:import", call.cause, [*events, *imported.news(project, source)])
        try:
            await self._store.put_feed(project, source, imported.record, before, change)
        except Moved as error:
            raise Aborted("Somebody else imported this source meanwhile.") from error
        return answer


def _visited(visit: Visit | None) -> dict[str, object]:
    """What is said of a feed that is fetched by itself."""
    if visit is None:
        return {}
    failure = {"failures": visit.failures, "failure": visit.reason} if visit.failures else {}
    return {"address": visit.address, "checkTime": visit.checked, "nextCheckTime": rfc3339(visit.due), **failure}
