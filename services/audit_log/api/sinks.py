"""Sinks over HTTP: `projects.sinks` of Cloud Logging."""

from aiohttp import web

from services.audit_log.log import AuditLog
from services.audit_log.sinks import Sink
from services.audit_log.store import Store
from shared.clock import Clock, rfc3339
from shared.http.bodies import json_body
from shared.http.call import call_of
from shared.http.errors import AlreadyExists, InvalidArgument, NotFound
from shared.http.pages import listed
from shared.http.routes import Audit, Route
from shared.http.translation import json_answer
from shared.state import Change, Kept, Moved

SERVICE = "google.logging.v2.ConfigServiceV2"
MANY = "/v2/projects/{project}/sinks"
ONE = MANY + "/{sink:[^/:]+}"


class SinksApi:
    """Reads the request, asks the store, writes the answer."""

    def __init__(self, store: Store, log: AuditLog, clock: Clock) -> None:
        self._store = store
        self._log = log
        self._clock = clock

    def routes(self) -> list[Route]:
        """All routes about sinks."""
        write, read, may = Audit.ADMIN_WRITE, Audit.ADMIN_READ, "logging.sinks"
        return [
            Route("POST", MANY, self.create, f"{may}.create", None, f"{SERVICE}.CreateSink", write),
            Route("GET", MANY, self.list, f"{may}.list", None, f"{SERVICE}.ListSinks", read),
            Route("GET", ONE, self.get, f"{may}.get", None, f"{SERVICE}.GetSink", read),
            Route("PUT", ONE, self.update, f"{may}.update", None, f"{SERVICE}.UpdateSink", write),
            Route("PATCH", ONE, self.update, f"{may}.update", None, f"{SERVICE}.UpdateSink", write),
            Route("DELETE", ONE, self.delete, f"{may}.delete", None, f"{SERVICE}.DeleteSink", write),
        ]

    async def create(self, request: web.Request) -> web.Response:
        """Make a sink; it exports what comes from now on."""
        project, call = request.match_info["project"], call_of(request)
        now = rfc3339(self._clock.now())
        sink = _settled(await json_body(request, Sink), project, now, now)
        await self._log.follow()
        events = [call.activity(project=project, resource=sink.resource_name, request={"sink": sink.json_data()})]
        change = Change(f"{call.id}/sink", call.cause, events)
        try:
            await self._store.make(project, sink, self._log.head.sequence, change)
        except Moved as error:
            raise AlreadyExists(f"{sink.resource_name} exists already") from error
        return json_answer(sink.json_data())

    async def list(self, request: web.Request) -> web.Response:
        """Sinks of a project, by name."""
        found = await self._store.sinks(request.match_info["project"])
        return json_answer(listed(request, "sinks", found, lambda kept: kept.thing.json_data()))

    async def get(self, request: web.Request) -> web.Response:
        """One sink."""
        return json_answer((await self._kept(request)).thing.json_data())

    async def update(self, request: web.Request) -> web.Response:
        """Change a sink; with an updateMask only the fields it names."""
        project, call = request.match_info["project"], call_of(request)
        before = await self._kept(request)
        wanted = await json_body(request, Sink)
        mask = [path.strip() for path in request.query.get("updateMask", "").split(",") if path.strip()]
        if unknown := set(mask) - {"destination", "filter", "description", "disabled", "exclusions"}:
            raise InvalidArgument(f"updateMask names {min(unknown)!r}, which cannot be changed")
        if mask:
            wanted = before.thing.model_copy(update={name: getattr(wanted, name) for name in mask})
        after = _settled(wanted, project, before.thing.create_time, rfc3339(self._clock.now()))
        if after.name != before.thing.name:
            raise InvalidArgument("a sink's name cannot be changed")
        events = [call.activity(project=project, resource=after.resource_name, request={"sink": after.json_data()})]
        await self._store.replace(project, before, after, Change(f"{call.id}/sink", call.cause, events))
        return json_answer(after.json_data())

    async def delete(self, request: web.Request) -> web.Response:
        """Delete a sink; what it exported stays."""
        project, call = request.match_info["project"], call_of(request)
        before = await self._kept(request)
        events = [call.activity(project=project, resource=before.thing.resource_name)]
        await self._store.drop(project, before, Change(f"{call.id}/sink", call.cause, events))
        return json_answer({})

    async def _kept(self, request: web.Request) -> Kept[Sink]:
        project, sink = request.match_info["project"], request.match_info["sink"]
        found = await self._store.sink(project, sink)
        if found is None:
            raise NotFound(f"projects/{project}/sinks/{sink} does not exist")
        return found


def _settled(sink: Sink, project: str, created: str, updated: str) -> Sink:
    """Output-only fields are ours, whatever the caller sent."""
    name = f"projects/{project}/sinks/{sink.name}"
    settled = {"resource_name": name, "create_time": created, "update_time": updated, "writer_identity": ""}
    return sink.model_copy(update=settled)
