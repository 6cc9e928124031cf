"""Runs a whole build: source, steps in their order, images, provenance; and writes down each change as it happens."""

import asyncio
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import structlog
from yarl import URL

from services.builder.account import BuildAccount
from services.builder.buildah import Buildah
from services.builder.buildfile import BuildRequest, BuildStep
from services.builder.durations import seconds
from services.builder.errors import (
    BuildfileInvalid,
    ImageUnavailable,
    LayerRefused,
    NoRuntime,
    PushFailed,
    SourceInvalid,
)
from services.builder.graph import predecessors
from services.builder.images import ImageStore
from services.builder.log import Log
from services.builder.provenance import Origin, statement
from services.builder.record import CANCELLED, FAILURE, INTERNAL_ERROR, SUCCESS, TIMEOUT, WORKING, Record, StepRecord
from services.builder.references import parse_reference
from services.builder.registry import RegistryClient
from services.builder.sandbox import Limits, Network
from services.builder.sandbox.network import Door, Networks
from services.builder.sandbox.oci import OciSandbox
from services.builder.steps import Outcome, Steps, label
from services.builder.store import Builds
from services.builder.workspace import Workspace, fetch_source
from shared.blobs import Blobs
from shared.clock import Clock, rfc3339
from shared.events import Cause, Event
from shared.events.builds import BuildFinished, BuildStepFinished
from shared.journal import Journal

log = structlog.get_logger()

LOOK_EVERY = 1.0
"""Seconds between looks at the record, to see whether the build was cancelled: by any replica, at any time."""

_THE_BUILDS_FAULT = (BuildfileInvalid, ImageUnavailable, LayerRefused, PushFailed, SourceInvalid, NoRuntime)


class Ended(Exception):
    """The build ends here; carries its status and the reason."""

    def __init__(self, status: str, reason: str = "") -> None:
        """`status` is one of Cloud Build's."""
        super().__init__(reason)
        self.status = status
        self.reason = reason


@dataclass(frozen=True)
class Worker:
    """What a replica of the builder runs builds with."""

    name: str
    folder: Path
    builds: Builds
    blobs: Blobs
    journal: Journal
    clock: Clock
    sandbox: OciSandbox
    networks: Networks
    images: ImageStore
    pulls: RegistryClient
    account: BuildAccount | None
    registry: str
    """Host and port of the registry that the build account belongs to."""
    address: str
    """How this builder calls itself in provenance."""
    limits: Limits

    @property
    def scheme(self) -> str:
        """How our registry is spoken to."""
        return "http" if parse_reference(f"{self.registry}/any").local else "https"

    async def run(self, record: Record, request: BuildRequest, cause: Cause) -> None:
        """Run one attempt at a build that is marked as working; its end is durable on return."""
        attempt = Attempt(self, record, request, cause)
        await attempt.run()


class Attempt:
    """One attempt at one build."""

    def __init__(self, worker: Worker, record: Record, request: BuildRequest, cause: Cause) -> None:
        """`record` is the build as it stands, marked as working with this attempt's number."""
        self._worker = worker
        self._record = record
        self._request = request
        self._cause = Cause(f"{cause.id}/{record.attempt}", cause.actor, cause.traceparent)
        self._workspace = Workspace(worker.folder / "builds" / f"{record.id}-{record.attempt}", worker.sandbox.users)
        place = (record.project, record.id, record.attempt)
        self._log = Log(worker.blobs, worker.journal, worker.clock, place, self._cause)
        home = f"{worker.registry}/{record.project}"
        self._network: Network | None = None
        self._steps: Steps | None = None
        self._buildah = Buildah(
            self._workspace, worker.account, home, worker.sandbox, worker.limits, self._network_with_registry
        )

    def _made_steps(self, network: Network) -> Steps:
        return Steps(
            request=self._request,
            workspace=self._workspace,
            sandbox=self._worker.sandbox,
            images=self._worker.images,
            buildah=self._buildah,
            project=self._record.project,
            limits=self._worker.limits,
            network=network,
            write=self._log.write,
            prefix=f"{self._record.id}-{self._record.attempt}",
        )

    async def run(self) -> None:
        """Run to the end, whichever it is."""
        await self._log.begin()
        flushing = asyncio.create_task(self._log.run())
        try:
            images, provenance = await self._work()
            ended = Ended(SUCCESS)
        except Ended as early:
            ended, images, provenance = early, {}, ""
        finally:
            flushing.cancel()
            await asyncio.gather(flushing, return_exceptions=True)
            await self._put_away()
        self._log.write("", f"{ended.status}{f': {ended.reason}' if ended.reason else ''}".encode())
        await self._finish(ended, images, provenance, await self._log.close())

    async def _put_away(self) -> None:
        """Whatever runs, the networks and the folder."""
        if self._steps is not None:
            await self._steps.kill_all()
        await self._buildah.close()
        if self._network is not None:
            await self._network.close()
        await asyncio.to_thread(self._workspace.remove)

    async def _work(self) -> tuple[dict[str, str], str]:
        """Everything that the build's timeout covers. Raises Ended."""
        try:
            async with asyncio.timeout(seconds(self._request.timeout)):
                return await self._unless_cancelled(self._build())
        except TimeoutError:
            raise Ended(TIMEOUT, f"the build took longer than {self._request.timeout}") from None
        except _THE_BUILDS_FAULT as fault:
            raise Ended(FAILURE, str(fault)) from None
        except (OSError, ValueError) as broken:
            log.exception("build failed inside the builder", build=self._record.id)
            raise Ended(INTERNAL_ERROR, f"{type(broken).__name__} in the builder, see its log") from None

    async def _unless_cancelled(
        self, work: Coroutine[Any, Any, tuple[dict[str, str], str]]
    ) -> tuple[dict[str, str], str]:
        working = asyncio.create_task(work)
        watching = asyncio.create_task(self._watch())
        try:
            await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
            if not working.done():
                raise Ended(CANCELLED, "cancelled by request")
            return working.result()
        finally:
            for task in (working, watching):
                task.cancel()
            await asyncio.gather(working, watching, return_exceptions=True)

    async def _watch(self) -> None:
        """Return once the record says that somebody cancelled the build, or took it over."""
        while True:
            await self._worker.clock.sleep(LOOK_EVERY)
            now = await self._worker.builds.get(self._record.project, self._record.id)
            if now.status != WORKING or now.attempt != self._record.attempt:
                return

    async def _build(self) -> tuple[dict[str, str], str]:
        await asyncio.to_thread(self._workspace.prepare)
        source = await fetch_source(self._worker.blobs, self._record.project, self._request, self._workspace)
        if self._worker.networks.refusal:
            self._log.write("", self._worker.networks.refusal.encode())
        self._network = await self._worker.networks.make()
        self._steps = self._made_steps(self._network)
        await self._run_steps(self._steps)
        images = {image: await self._pushed(image) for image in self._request.all_images()}
        return images, await self._write_provenance(images, source)

    async def _network_with_registry(self) -> Network:
        """For buildah: our registry and its token service are found in it, wherever they are."""
        found = URL(f"{self._worker.scheme}://{self._worker.registry}"), await self._worker.pulls.realm_at_home()
        doors = [Door(at.host, at.port) for at in found if at is not None and at.host and at.port]
        return await self._worker.networks.make(tuple(dict.fromkeys(doors)))

    async def _pushed(self, image: str) -> str:
        self._log.write("", f"Pushing {image}".encode())
        digest = await self._buildah.push(image)
        self._log.write("", f"Pushed {image}@{digest}".encode())
        return digest

    async def _run_steps(self, steps: Steps) -> None:
        """Each step begins when those it waits for have ended. The first failure ends all."""
        order = predecessors(self._request.steps)
        ended = [asyncio.Event() for _ in order]

        async def one(position: int) -> None:
            for awaited in sorted(order[position]):
                await ended[awaited].wait()
            await self._run_step(steps, position)
            ended[position].set()

        running = [asyncio.create_task(one(position)) for position in range(len(order))]
        try:
            await asyncio.gather(*running)
        finally:
            for task in running:
                task.cancel()
            await asyncio.gather(*running, return_exceptions=True)

    async def _run_step(self, steps: Steps, position: int) -> None:
        step = self._request.steps[position]
        name = label(position, step)
        self._log.write(name, f"Starting {name}: {step.name}".encode())
        started = self._worker.clock.now()
        outcome = await steps.run(position)
        self._log.write(name, f"Finished {name} with exit code {outcome.exit_code}".encode())
        status = _status(step, outcome)
        await self._note_step(
            position,
            StepRecord(
                status=status,
                exit_code=outcome.exit_code,
                started=rfc3339(started),
                finished=rfc3339(self._worker.clock.now()),
                image_digest=outcome.image_digest,
            ),
            self._worker.clock.now() - started,
        )
        if outcome.timed_out:
            raise Ended(TIMEOUT, f"{name} took longer than {step.timeout}")
        if status == FAILURE and not step.allow_failure:
            raise Ended(FAILURE, f"{name} ended with exit code {outcome.exit_code}")

    async def _note_step(self, position: int, state: StepRecord, took: float) -> None:
        def change(record: Record) -> tuple[Record, Sequence[Event]] | None:
            if record.status != WORKING or record.attempt != self._record.attempt:
                return None
            steps = (*record.steps[:position], state, *record.steps[position + 1 :])
            said = BuildStepFinished(
                project=record.project,
                build=record.id,
                step=self._request.steps[position].id or str(position),
                index=position,
                status=state.status,
                exit_code=state.exit_code,
                seconds=round(took, 3),
            )
            return record.model_copy(update={"steps": steps}), [said]

        project, build = self._record.project, self._record.id
        self._record = await self._worker.builds.change(project, build, change, self._cause, f"step/{position}")

    async def _write_provenance(self, images: dict[str, str], source: str) -> str:
        worker = self._worker
        record = self._record.model_copy(update={"images": images})
        origin = Origin(worker.address, source, "internet" if worker.networks.slirp else "none")
        content = orjson.dumps(statement(record, self._request, origin, rfc3339(worker.clock.now())))
        name = f"builder/provenance/{record.project}/{record.id}/{record.attempt}.json"
        await worker.blobs.put(name, content)
        return name

    async def _finish(self, ended: Ended, images: dict[str, str], provenance: str, log_name: str) -> None:
        """Write down the end. One that was cancelled or taken over keeps the status it has."""

        def change(record: Record) -> tuple[Record, Sequence[Event]] | None:
            if record.attempt != self._record.attempt:
                return None
            if record.status != WORKING:
                return (record.model_copy(update={"log": log_name}), []) if not record.log else None
            update: dict[str, Any] = {"status": ended.status, "reason": ended.reason, "images": images}
            update |= {"provenance": provenance, "log": log_name, "finished": rfc3339(self._worker.clock.now())}
            said = BuildFinished(
                project=record.project,
                location=record.location,
                build=record.id,
                status=ended.status,
                reason=ended.reason,
                images=images,
                provenance=provenance,
                log=log_name,
            )
            return record.model_copy(update=update), [said]

        await self._worker.builds.change(self._record.project, self._record.id, change, self._cause, "end")


def _status(step: BuildStep, outcome: Outcome) -> str:
    if outcome.timed_out:
        return TIMEOUT
    passed = outcome.exit_code == 0 or outcome.exit_code in step.allow_exit_codes
    return SUCCESS if passed else FAILURE
