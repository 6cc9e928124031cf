"""Steps beside each other: which may be, and which must not."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from services.builder.buildfile import parse_request
from services.builder.images import StepImage
from services.builder.sandbox import Limits, Network, StepSpec, Users
from services.builder.steps import Steps
from services.builder.workspace import Workspace
from shared.digest import Digest

DOCKER = {"name": "docker", "args": ["build", "."]}
CONTAINER = {"name": "127.0.0.1:5000/demo/tools/sh:1"}


@dataclass
class FakeRunner:
    """Sandbox, buildah and image store at once: notes what begins, and ends it when told."""

    root: Path
    begun: list[str] = field(default_factory=list[str])
    may_end: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def use(self, reference: object, project: str) -> AsyncGenerator[StepImage]:
        """An image that needs nothing."""
        assert project == "demo"
        yield StepImage(str(reference), Digest.of(b""), self.root, (), ("/bin/sh",), (), "/")

    async def start(self, what: StepSpec | list[str], directory: str = "") -> "FakeRunner":
        """Begin a container, or a docker command."""
        assert (directory == "") == isinstance(what, StepSpec)
        self.begun.append("container" if isinstance(what, StepSpec) else what[0])
        return self

    async def output(self) -> AsyncIterator[bytes]:
        """Nothing, until the end."""
        await self.may_end.wait()
        yield b""

    async def wait(self) -> int:
        """It went well."""
        return 0

    async def kill(self) -> None:
        """There is nothing to kill."""


def ignored(name: str, line: bytes) -> None:
    """Nobody reads this log."""
    del name, line


@pytest.mark.parametrize(
    ("steps", "together"),
    [
        ([CONTAINER, CONTAINER], 2),
        ([CONTAINER, DOCKER], 1),
        ([DOCKER, CONTAINER], 1),
        ([DOCKER, DOCKER], 1),
        ([CONTAINER, {"name": "docker", "args": ["tag", "a", "b"]}], 2),
    ],
)
async def test_a_docker_build_runs_beside_no_other_step(
    steps: list[dict[str, Any]], together: int, tmp_path: Path
) -> None:
    workspace = Workspace(tmp_path / "build", Users(-1, 0, 1, privileged=False))
    workspace.prepare()
    fake = FakeRunner(tmp_path)
    made = Steps(
        request=parse_request({"steps": steps}),
        workspace=workspace,
        sandbox=cast("Any", fake),
        images=cast("Any", fake),
        buildah=cast("Any", fake),
        project="demo",
        limits=Limits(0, 10),
        network=Network(-1, outward=False),
        write=ignored,
        prefix="b",
    )
    running = [asyncio.create_task(made.run(position)) for position in range(len(steps))]
    await asyncio.sleep(0.2)
    assert len(fake.begun) == together
    fake.may_end.set()
    async with asyncio.timeout(5):
        outcomes = await asyncio.gather(*running)
    assert [outcome.exit_code for outcome in outcomes] == [0, 0]
    assert len(fake.begun) == 2
