"""The face of a sandbox: it runs one step in a container of its own."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from services.builder.sandbox.cgroups import Limits
from services.builder.sandbox.network import Network


@dataclass(frozen=True)
class Mount:
    """A directory of the worker that the step sees."""

    source: Path
    destination: str
    read_only: bool = False


@dataclass(frozen=True)
class StepSpec:
    """What a container is made of."""

    name: str
    """Unique on this worker; letters, digits and `-`."""
    root: Path
    """The image's files; the step writes to a layer of its own above them."""
    scratch: Path
    """An empty directory for that layer and the container's own files."""
    argv: tuple[str, ...]
    environment: tuple[str, ...]
    directory: str
    mounts: tuple[Mount, ...] = ()
    limits: Limits = field(default_factory=Limits)
    network: Network | None = None
    """None: no interface but a loopback that is down."""


class Running(Protocol):
    """A step under way."""

    def output(self) -> AsyncIterator[bytes]:
        """What the step writes to its standard output and error, as it comes; ends when both are closed."""
        ...

    async def wait(self) -> int:
        """The exit code; 128 + N when signal N ended it."""
        ...

    async def kill(self) -> None:
        """End the step and everything it started, at once."""
        ...


class Sandbox(Protocol):
    """Runs steps. Whatever happens to the worker, no step outlives it."""

    @property
    def runtime(self) -> str:
        """Its name and version, for build records and provenance."""
        ...

    async def start(self, spec: StepSpec) -> Running:
        """Start a step."""
        ...
