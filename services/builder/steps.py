"""Runs one step of a build, whatever kind it is, and gives its exit code."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from services.builder.buildah import Buildah
from services.builder.buildfile import BuildRequest, BuildStep
from services.builder.durations import seconds
from services.builder.images import ImageStore, StepImage
from services.builder.lines import Lines
from services.builder.references import parse_reference
from services.builder.sandbox import Limits, Mount, Network, Running, Sandbox, StepSpec
from services.builder.workspace import Workspace, directory_of

SCRIPT = "/builder/script"


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    exit_code: int
    timed_out: bool = False
    image_digest: str = ""


@dataclass
class _Turns:
    """Lets a step run alone, as one must that reads the workspace from outside of a container.

    A step beside it could put a link in the place of a folder after that folder was found to be where it should be.
    """

    _shared: int = 0
    _alone: bool = False
    _changed: asyncio.Condition = field(default_factory=asyncio.Condition)

    @asynccontextmanager
    async def turn(self, *, alone: bool) -> AsyncGenerator[None]:
        """Wait until the step may run, and hold its turn."""
        async with self._changed:
            await self._changed.wait_for(lambda: not self._alone and not (alone and self._shared))
            self._alone = alone
            self._shared += 1
        try:
            yield
        finally:
            async with self._changed:
                self._alone = False
                self._shared -= 1
                self._changed.notify_all()


@dataclass
class Steps:
    """The steps of one attempt at one build."""

    request: BuildRequest
    workspace: Workspace
    sandbox: Sandbox
    images: ImageStore
    buildah: Buildah
    project: str
    limits: Limits
    network: Network
    write: Callable[[str, bytes], None]
    """Takes a step's label and one line of its output."""
    prefix: str
    """Unique to this attempt, for the names of containers."""
    _running: dict[int, Running] = field(default_factory=dict[int, Running], init=False)
    _turns: _Turns = field(default_factory=_Turns, init=False)

    async def run(self, position: int) -> Outcome:
        """Run a step to its end or its timeout. Raises ImageUnavailable, LayerRefused, BuildfileInvalid, NoRuntime."""
        step = self.request.steps[position]
        async with self._turns.turn(alone=Buildah.reads_the_workspace(step)):
            return await self._run(position, step)

    async def _run(self, position: int, step: BuildStep) -> Outcome:
        if Buildah.wanted(step.name):
            return await self._to_the_end(position, await self.buildah.start(step.args, directory_of(step)))
        async with self.images.use(parse_reference(step.name), self.project) as image:
            spec = await asyncio.to_thread(self._spec, position, step, image)
            return await self._to_the_end(position, await self.sandbox.start(spec), image.digest)

    async def _to_the_end(self, position: int, running: Running, digest: str = "") -> Outcome:
        step = self.request.steps[position]
        self._running[position] = running
        limit = seconds(step.timeout) if step.timeout else None
        try:
            async with asyncio.timeout(limit):
                await self._copy_output(label(position, step), running)
                return Outcome(await running.wait(), image_digest=digest)
        except TimeoutError:
            return Outcome(124, timed_out=True, image_digest=digest)
        finally:
            await running.kill()
            del self._running[position]

    async def kill_all(self) -> None:
        """End whatever runs."""
        await asyncio.gather(*(running.kill() for running in list(self._running.values())))

    def _spec(self, position: int, step: BuildStep, image: StepImage) -> StepSpec:
        scratch = self.workspace.scratch(position)
        mounts = self.workspace.mounts(self.request, step)
        if step.script:
            mounts = (*mounts, Mount(_write_script(scratch, step.script), SCRIPT, read_only=True))
        return StepSpec(
            name=f"{self.prefix}-{position}",
            root=image.root,
            scratch=scratch,
            argv=argv_of(step, image),
            environment=("HOME=/builder/home", *image.environment, *self.request.options.env, *step.env),
            directory=directory_of(step),
            mounts=mounts,
            limits=self.limits,
            network=self.network,
        )

    async def _copy_output(self, name: str, running: Running) -> None:
        lines = Lines()
        async for piece in running.output():
            for line in lines.feed(piece):
                self.write(name, line)
        for line in lines.end():
            self.write(name, line)


def argv_of(step: BuildStep, image: StepImage) -> tuple[str, ...]:
    """The command line: a script, or the entrypoint (the step's, else the image's) with the arguments."""
    if step.script:
        return (SCRIPT,)
    if step.entrypoint:
        return (step.entrypoint, *step.args)
    return (*image.entrypoint, *(step.args or image.command))


def label(position: int, step: BuildStep) -> str:
    """How a step is called in the log."""
    return f"Step #{position}" + (f" - {step.id!r}" if step.id else "")


def _write_script(scratch: Path, script: str) -> Path:
    path = scratch / "script"
    path.write_text(script if script.startswith("#!") else f"#!/bin/sh\nset -e\n{script}")
    path.chmod(0o755)
    return path
