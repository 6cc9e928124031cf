"""The builder's HTTP face: cloudbuild v1 builds, and two verbs of its own, to upload a source and to read a log."""

import base64
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import web

from services.builder.buildfile import BuildRequest, parse_request
from services.builder.errors import BuildfileInvalid, ImageUnavailable, SourceInvalid
from services.builder.graph import predecessors
from services.builder.log import read_so_far
from services.builder.record import CANCELLED, Record, StepRecord, as_build
from services.builder.references import parse_reference
from services.builder.sources import take_source
from services.builder.store import Builds, BuildUnknown
from services.builder.substitutions import substituted
from services.builder.workshop import Workshop
from shared.blobs import Blobs
from shared.clock import Clock, Ids, rfc3339
from shared.events import Event
from shared.events.builds import BuildCancelled, BuildRequested
from shared.http.bodies import json_body, streamed
from shared.http.call import call_of
from shared.http.errors import FailedPrecondition, InvalidArgument, NotFound
from shared.http.pages import next_token, page_of
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import json_answer

_METHOD = "google.devtools.cloudbuild.v1.CloudBuild."
_BUILD = "{build:[A-Za-z0-9-]+}"
_METADATA = "type.googleapis.com/google.devtools.cloudbuild.v1.BuildOperationMetadata"


@dataclass(frozen=True)
class Api:
    """The face's handlers."""

    builds: Builds
    blobs: Blobs
    clock: Clock
    ids: Ids
    location: str
    address: str
    """How clients reach this service."""
    source_bytes: int
    workshop: Workshop

    def routes(self) -> list[Route]:
        """Every route, with and without a location, as cloudbuild v1 has them."""
        return [
            route
            for parent in ("/v1/projects/{project}", "/v1/projects/{project}/locations/{location}")
            for route in self._under(parent)
        ]

    def _under(self, parent: str) -> list[Route]:
        one = f"{parent}/builds/{_BUILD}"
        create, get, update = (f"cloudbuild.builds.{verb}" for verb in ("create", "get", "update"))
        write, read = Audit.ADMIN_WRITE, Audit.ADMIN_READ
        table: list[tuple[str, str, Handler, str, str, Audit]] = [
            ("POST", f"{parent}/builds", self.create, create, "CreateBuild", write),
            ("GET", f"{parent}/builds", self.list_builds, "cloudbuild.builds.list", "ListBuilds", read),
            ("GET", one, self.get, get, "GetBuild", read),
            ("POST", f"{one}:cancel", self.cancel, update, "CancelBuild", write),
            ("POST", f"{one}:retry", self.retry, create, "RetryBuild", write),
            ("GET", f"{one}:log", self.read_log, get, "ReadLog", read),
            ("POST", f"{parent}/sources", self.upload_source, create, "UploadSource", write),
        ]
        return [
            Route(verb, path, handler, permission, method=_METHOD + method, audit=audit, resource=_project)
            for verb, path, handler, permission, method, audit in table
        ]

    async def create(self, request: web.Request) -> web.Response:
        """`builds.create`: takes a Build, answers an operation."""
        return await self._begin(request, await json_body(request))

    async def retry(self, request: web.Request) -> web.Response:
        """`builds.retry`: a new build from what the old one was asked for."""
        record = await self._record(request)
        asked = orjson.loads(await self.blobs.content(_asked_object(record.project, record.id)))
        return await self._begin(request, asked)

    async def get(self, request: web.Request) -> web.Response:
        """`builds.get`."""
        return json_answer(await self._build(await self._record(request)))

    async def list_builds(self, request: web.Request) -> web.Response:
        """`builds.list`, newest first; a filter `status="..."` or `tags="..."` alone is understood."""
        page = page_of(request, default=50)
        matches = _filter(request.query.get("filter", ""))
        before = float(page.after) if page.after else self.clock.now() + 60
        records = await self.builds.newest(request.match_info["project"], before, page.size + 1)
        token = next_token(str(records[page.size].created_at)) if len(records) > page.size else ""
        builds = [await self._build(record) for record in records[: page.size] if matches(record)]
        return json_answer({"builds": builds, **({"nextPageToken": token} if token else {})})

    async def cancel(self, request: web.Request) -> web.Response:
        """`builds.cancel`; whichever worker runs the build sees it within a second."""
        call = call_of(request)
        record = await self._record(request)

        def change(now: Record) -> tuple[Record, Sequence[Event]] | None:
            if now.ended:
                return None
            ended = {"status": CANCELLED, "reason": "cancelled by request", "finished": rfc3339(self.clock.now())}
            said = BuildCancelled(project=now.project, location=now.location, build=now.id, worker=now.worker)
            activity = call.activity(project=now.project, resource=now.name, location=now.location)
            return now.model_copy(update=ended), [said, activity]

        changed = await self.builds.change(record.project, record.id, change, call.cause, "cancel")
        call.changed_nothing()
        return json_answer(await self._build(changed))

    async def read_log(self, request: web.Request) -> web.StreamResponse:
        """The log as text, whole or as far as it is."""
        record = await self._record(request)
        answer = web.StreamResponse(
            headers={"Content-Type": "text/plain; charset=utf-8", "X-Build-Status": record.status}
        )
        await answer.prepare(request)
        async for piece in self._log_of(record):
            await answer.write(piece)
        await answer.write_eof()
        return answer

    async def upload_source(self, request: web.Request) -> web.Response:
        """Take a tar archive (plain, gzip or zstd) as a build's source; answers the `storageSource` to name it by."""
        self._require_workshop()
        call, project = call_of(request), request.match_info["project"]
        try:
            name = await take_source(self.blobs, self.ids, project, streamed(request), self.source_bytes)
        except SourceInvalid as invalid:
            raise InvalidArgument(str(invalid)) from None
        answer = {"storageSource": {"bucket": "entrepot", "object": name}}
        await self.builds.say(
            project, [call.activity(project=project, location=self.location, response=answer)], call.cause
        )
        return json_answer(answer)

    def _require_workshop(self) -> None:
        if self.workshop.refusal:
            raise FailedPrecondition(self.workshop.refusal)

    async def _begin(self, request: web.Request, asked: dict[str, Any]) -> web.Response:
        self._require_workshop()
        call, project = call_of(request), request.match_info["project"]
        build_id = _uuid(self.ids.secret(16))
        try:
            plan = self._checked(asked, project, build_id)
        except BuildfileInvalid as invalid:
            raise InvalidArgument(str(invalid)) from None
        plan_object = f"builder/requests/{project}/{build_id}.json"
        await self.blobs.put(plan_object, plan.model_dump_json(by_alias=True, exclude_defaults=True).encode())
        await self.blobs.put(_asked_object(project, build_id), orjson.dumps(asked))
        record = Record(
            id=build_id,
            project=project,
            location=self.location,
            object=plan_object,
            created=rfc3339(self.clock.now()),
            created_at=self.clock.now(),
            steps=tuple(StepRecord() for _ in plan.steps),
            tags=tuple(plan.tags),
            asked_by=call.caller.member,
        )
        job = BuildRequested(project=project, location=self.location, build=build_id, object=plan_object)
        activity = call.activity(project=project, resource=record.name, location=self.location)
        record = await self.builds.create(record, [job, activity], call.cause)
        return json_answer(_operation(record, await self._build(record)))

    def _checked(self, asked: dict[str, Any], project: str, build_id: str) -> BuildRequest:
        """The build as it will run; raises BuildfileInvalid before anything is written."""
        known = {"PROJECT_ID": project, "BUILD_ID": build_id, "LOCATION": self.location}
        output_only = (
            "id",
            "projectId",
            "status",
            "name",
            "createTime",
            "startTime",
            "finishTime",
            "logUrl",
            "results",
        )
        fields = {name: value for name, value in asked.items() if name not in output_only}
        plan = substituted(parse_request(fields), known)
        predecessors(plan.steps)
        for image in plan.all_images():
            parse_image(image)
        return plan

    async def _record(self, request: web.Request) -> Record:
        try:
            record = await self.builds.get(request.match_info["project"], request.match_info["build"])
        except BuildUnknown:
            raise NotFound("There is no such build.") from None
        if request.match_info.get("location", record.location) not in {record.location, "global", "-"}:
            raise NotFound("There is no such build.")
        return record

    async def _build(self, record: Record) -> dict[str, Any]:
        plan = BuildRequest.model_validate_json(await self.blobs.content(record.object))
        return as_build(record, plan, f"{self.address}/v1/{record.name}:log")

    def _log_of(self, record: Record) -> AsyncIterator[bytes]:
        if record.log:
            return self.blobs.read(record.log)
        return read_so_far(self.blobs, record.project, record.id)


def parse_image(image: str) -> None:
    """Check the name of an image to push; raises BuildfileInvalid."""
    try:
        reference = parse_reference(image)
    except ImageUnavailable as invalid:
        raise BuildfileInvalid(f"images: {invalid}") from None
    if reference.digest:
        raise BuildfileInvalid(f"images: {image} has a digest; what is pushed gets its digest from its content")


def _project(request: web.Request) -> str:
    return f"projects/{request.match_info['project']}"


def _asked_object(project: str, build: str) -> str:
    return f"builder/requests/{project}/{build}.asked.json"


def _operation(record: Record, build: dict[str, Any]) -> dict[str, Any]:
    token = base64.b64encode(record.id.encode()).decode()
    return {
        "name": f"operations/build/{record.project}/{token}",
        "metadata": {"@type": _METADATA, "build": build},
        "done": False,
    }


def _filter(text: str) -> Callable[[Record], bool]:
    name, _, value = text.strip().partition("=")
    value = value.strip().strip('"')
    match name.strip():
        case "":
            return lambda _record: True
        case "status":
            return lambda record: record.status == value
        case "tags":
            return lambda record: value in record.tags
        case _:
            raise InvalidArgument('Only the filters status="..." and tags="..." are understood here.')


def _uuid(raw: bytes) -> str:
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"
