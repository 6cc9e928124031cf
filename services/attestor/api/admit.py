"""The webhook: kube-apiserver asks whether an object may be made, and is answered in time."""

import asyncio
import re

from aiohttp import web

from services.attestor.admission import Outcome, Request, Review, answer
from services.attestor.admitting import Admitting, Cluster, decided
from shared.http.bodies import json_body
from shared.http.call import Call, call_of
from shared.http.errors import InvalidArgument
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer
from shared.journal import Journal
from shared.names import PROJECT

MOST_BYTES = 8 * 1024 * 1024
"""Objects have at most 3 MiB in etcd; an update carries two of them."""
PERMISSION = "binaryauthorization.policy.evaluatePolicy"
_SECONDS = re.compile(r"(\d{1,6}(?:\.\d{1,6})?)(ms|s|m)?")
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, None: 1.0}
_SHARE = 0.8
"""Of the time that kube-apiserver waits; the rest is for the way there and back."""


class AdmitApi:
    """`POST /admit` for a mutating webhook, `POST /validate` for a validating one behind it.

    Query: `project` (whose policy), `cluster` (`location.id`, for cluster rules), `timeout` (added by kube-apiserver).
    """

    def __init__(self, admitting: Admitting, journal: Journal, project: str, seconds: float) -> None:
        self._admitting = admitting
        self._journal = journal
        self._project = project
        self._seconds = seconds

    def routes(self) -> list[Route]:
        """The two webhooks."""
        return [
            self._route("/admit", self.admit, "entrepot.attestor.v1.Admit"),
            self._route("/validate", self.validate, "entrepot.attestor.v1.Validate"),
        ]

    def _route(self, path: str, handler: Handler, method: str) -> Route:
        return Route(
            "POST", path, handler, PERMISSION, self._resource, method=method, audit=Audit.NONE, body=MOST_BYTES
        )

    async def admit(self, request: web.Request) -> web.Response:
        """Decide, and pin tags to digests."""
        return await self._answered(request, pins=True)

    async def validate(self, request: web.Request) -> web.Response:
        """Decide about the object as it will be stored."""
        return await self._answered(request, pins=False)

    async def _answered(self, request: web.Request, *, pins: bool) -> web.Response:
        call = call_of(request)
        asked = (await json_body(request, Review, MOST_BYTES, strict=True)).request
        project = self._project_of(request)
        if not PROJECT.fullmatch(project):
            raise InvalidArgument("project is not a project's id")
        cluster = Cluster(project, request.query.get("cluster", "")[:200], pins)
        try:
            async with asyncio.timeout(seconds_of(request.query.get("timeout", ""), self._seconds)):
                outcome = await self._decided(call, asked, cluster)
        except TimeoutError:
            outcome = Outcome(allowed=False, reasons=("not decided in time; try again",), code=504)
        return json_answer(answer(asked.uid, outcome))

    async def _decided(self, call: Call, asked: Request, cluster: Cluster) -> Outcome:
        """The outcome, written down before anybody acts on it; a dry run leaves no trace."""

        async def may(project: str) -> bool:
            return await call.may(PERMISSION, f"projects/{project}")

        outcome = await self._admitting.outcome(asked, cluster, may)
        if outcome.images and not asked.dry_run:
            await self._journal.keep([decided(asked, cluster, outcome)], call.cause)
        return outcome

    def _project_of(self, request: web.Request) -> str:
        return request.query.get("project", "") or self._project

    def _resource(self, request: web.Request) -> str:
        return f"projects/{self._project_of(request).replace('/', '%2F')}"


def seconds_of(timeout: str, most: float) -> float:
    """How long to take, from `10s`, `500ms` or `10`; never longer than `most`."""
    found = _SECONDS.fullmatch(timeout)
    if found is None:
        return most
    return max(0.01, min(most, float(found[1]) * _UNITS[found[2]] * _SHARE))
