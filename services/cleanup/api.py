"""Cleanup over HTTP: what would go and why, run now, and what was run. Policies are set at the registry's face."""

from typing import Any

from aiohttp import web
from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from services.cleanup.jobs import version_json
from services.cleanup.repositories import Repositories, fingerprint_of, policies_of
from services.cleanup.runs import Run
from services.cleanup.store import Place, Store
from services.cleanup.sweep import Sweeper, Wish
from shared.cleanup_policies import CleanupPolicy, Policies
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import FailedPrecondition, NotFound
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer

SERVICE = "entrepot.cleanup.v1"
REPOSITORY = "/v1/projects/{project}/locations/{location}/repositories/{repository:[^/:]+}"
MOST_SHOWN = 1000


class _PlanAsked(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)

    cleanup_policies: Policies | None = None
    """To try; absent: those of the repository."""


class _RunAsked(_PlanAsked):
    dry_run: bool | None = None
    """Absent: as the repository's own switch says."""


class CleanupApi:
    """Reads the request, asks the sweeper, writes the answer."""

    def __init__(self, sweeper: Sweeper, store: Store, repositories: Repositories) -> None:
        self._sweeper = sweeper
        self._store = store
        self._repositories = repositories

    def routes(self) -> list[Route]:
        """All routes."""
        read, delete = "artifactregistry.versions.list", "artifactregistry.versions.delete"
        reads, writes = Audit.ADMIN_READ, Audit.ADMIN_WRITE
        runs = f"{REPOSITORY}/cleanupRuns"
        one = f"{runs}/{{run:[^/:]+}}"
        place = _resource
        return [
            Route("POST", f"{REPOSITORY}:planCleanup", self.plan, read, place, f"{SERVICE}.PlanCleanup", reads),
            Route("POST", f"{REPOSITORY}:runCleanup", self.run, delete, place, f"{SERVICE}.RunCleanup", writes),
            Route("GET", runs, self.runs, read, place, f"{SERVICE}.ListCleanupRuns", reads),
            Route("GET", one, self.get, read, place, f"{SERVICE}.GetCleanupRun", reads),
        ]

    async def plan(self, request: web.Request) -> web.Response:
        """What would go now and why; nothing is written down."""
        place = _place(request)
        asked = await json_body(request, _PlanAsked)
        found = await self._sweeper.plan(place, self._policies(place, asked))
        body: dict[str, Any] = {
            "versionsSeen": found.seen,
            "deleteCount": len(found.doomed),
            "keepCount": len(found.spared),
            "sizeBytes": str(found.size),
            "delete": [version_json(version, reason) for version, reason in found.doomed[:MOST_SHOWN]],
            "keep": [version_json(version, reason) for version, reason in found.spared[:MOST_SHOWN]],
        }
        return json_answer(body)

    async def run(self, request: web.Request) -> web.Response:
        """Run now."""
        place, call = _place(request), call_of(request)
        asked = await json_body(request, _RunAsked)
        policies = self._policies(place, asked)
        dry_run = self._is_dry(place) if asked.dry_run is None else asked.dry_run
        shown = {"dryRun": dry_run, "cleanupPolicies": {name: policy.json_data() for name, policy in policies.items()}}
        entry = call.activity(project=place.project, resource=place.resource, request=shown, location=place.location)
        wish = Wish(call.id, dry_run, policies, call.cause, (entry,), fingerprint=self._fingerprint(place, asked))
        run = await self._sweeper.run(place, wish)
        return json_answer(run.json_data())

    async def runs(self, request: web.Request) -> web.Response:
        """The last runs, newest first."""
        page = page_of(request)
        found = [run for run in await self._store.runs(_place(request)) if not page.after or run.id < page.after]
        body: dict[str, Any] = {"cleanupRuns": [run.json_data() for run in found[: page.size]]}
        if len(found) > page.size:
            body["nextPageToken"] = next_token(found[page.size - 1].id)
        return json_answer(body)

    async def get(self, request: web.Request) -> web.Response:
        """One run."""
        found: Run | None = await self._store.run(_place(request), request.match_info["run"])
        if found is None:
            raise NotFound("there is no such run")
        return json_answer(found.json_data())

    def _is_dry(self, place: Place) -> bool:
        fact = self._repositories.get(place)
        return fact is not None and fact.cleanup_policy_dry_run

    def _fingerprint(self, place: Place, asked: _PlanAsked) -> str:
        fact = self._repositories.get(place)
        return fingerprint_of(fact) if fact is not None and asked.cleanup_policies is None else ""

    def _policies(self, place: Place, asked: _PlanAsked) -> dict[str, CleanupPolicy]:
        fact = self._repositories.get(place)
        if fact is None:
            raise NotFound(f"{place.resource} does not exist")
        if asked.cleanup_policies is not None:
            return asked.cleanup_policies
        found = dict(policies_of(fact))
        if not found:
            raise FailedPrecondition(f"{place.resource} has no cleanup policies, and the request gives none")
        return found


def _place(request: web.Request) -> Place:
    names = request.match_info
    return Place(names["project"], names["location"], names["repository"])


def _resource(request: web.Request) -> str:
    return _place(request).resource
