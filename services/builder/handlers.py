"""What the builder does about events: it runs the builds that are asked for."""

from collections.abc import Sequence

import structlog

from services.builder.buildfile import BuildRequest
from services.builder.durations import seconds
from services.builder.record import EXPIRED, QUEUED, WORKING, Record
from services.builder.runner import Worker
from services.builder.store import Builds, BuildUnknown
from services.builder.workshop import Workshop
from shared.blobs import Blobs
from shared.bus import Heard, Later, Reject
from shared.clock import Clock, rfc3339
from shared.events import Event
from shared.events.builds import BuildFinished, BuildRequested, BuildStarted

log = structlog.get_logger()

MAX_ATTEMPTS = 3
"""A build whose worker died so often is not tried again: it may be what kills them."""


class Handlers:
    """The builder's handlers."""

    def __init__(self, builds: Builds, blobs: Blobs, clock: Clock, workshop: Workshop) -> None:
        """The parts come from `app.py`."""
        self._builds = builds
        self._blobs = blobs
        self._clock = clock
        self._workshop = workshop

    async def run_build(self, heard: Heard[BuildRequested]) -> None:
        """Run a build to its end. Heard again, it goes on with a new attempt, unless the build has ended."""
        worker = self._workshop.worker
        if worker is None:
            raise Later(self._workshop.refusal, 60)
        asked = heard.event
        try:
            record = await self._builds.get(asked.project, asked.build)
        except BuildUnknown:
            raise Reject(f"there is no build {asked.build}") from None
        if record.ended:
            return
        request = BuildRequest.model_validate_json(await self._blobs.content(asked.object))
        record = await self._begin(record, request, heard, worker)
        if record.status == WORKING:
            if record.worker != worker.name:
                raise Later("another worker has begun this build at the same moment", 60)
            await worker.run(record, request, heard.cause)

    async def _begin(
        self, record: Record, request: BuildRequest, heard: Heard[BuildRequested], worker: Worker
    ) -> Record:
        """Mark the build as working, or as ended where it waited too long or was tried too often."""
        attempt = record.attempt + 1

        def change(now: Record) -> tuple[Record, Sequence[Event]] | None:
            if now.ended or now.attempt != attempt - 1:
                return None
            if now.status == QUEUED and self._clock.now() - now.created_at > seconds(request.queue_ttl):
                return self._given_up(now, EXPIRED, f"it waited longer than {request.queue_ttl}")
            if attempt > MAX_ATTEMPTS:
                return self._given_up(now, "INTERNAL_ERROR", f"{MAX_ATTEMPTS} workers died running it")
            update = {"status": WORKING, "attempt": attempt, "worker": worker.name, "runtime": worker.sandbox.runtime}
            started = now.started or rfc3339(self._clock.now())
            said = BuildStarted(project=now.project, build=now.id, worker=worker.name, attempt=attempt)
            return now.model_copy(update={**update, "started": started}), [said]

        return await self._builds.change(record.project, record.id, change, heard.cause, f"begin/{attempt}")

    def _given_up(self, record: Record, status: str, reason: str) -> tuple[Record, Sequence[Event]]:
        log.warning("build given up", build=record.id, status=status, reason=reason)
        ended = {"status": status, "reason": reason, "finished": rfc3339(self._clock.now())}
        said = BuildFinished(
            project=record.project, location=record.location, build=record.id, status=status, reason=reason
        )
        return record.model_copy(update=ended), [said]
