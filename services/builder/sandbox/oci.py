"""Steps in containers through crun or runc, above an overlay of the image's files.

The runtime itself is confined, see `services.builder.sandbox.confine`, and makes a user namespace for each container
within: no capability of a step reaches beyond its container, nor that of another step. The overlay of a step vanishes
with its mount namespace; killing the one outer process ends everything inside.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.builder.sandbox.cgroups import Cgroups
from services.builder.sandbox.confine import PROGRAMS, Confinement
from services.builder.sandbox.container import configuration
from services.builder.sandbox.face import Mount, StepSpec
from services.builder.sandbox.users import Users

PIECE = 32 * 1024

_INSIDE = """
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3,userxattr" "$4" 2>/dev/null \
  || mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4" || exit 125
root=$4 bundle=$5 name=$6
shift 6
exec "$@" run --bundle "$bundle" "$name"
"""


@dataclass(frozen=True)
class OciSandbox:
    """A runtime that was found to work, see `services.builder.sandbox.probe`."""

    binary: Path
    runtime: str
    users: Users
    cgroups: Cgroups

    async def start(self, spec: StepSpec) -> "RunningStep":
        """Write the bundle and start the step."""
        program = await asyncio.to_thread(self._bundle, spec)
        groups = await asyncio.to_thread(self.cgroups.make, spec.name, spec.limits)
        confinement = Confinement(
            users=self.users,
            view=spec.scratch / "view",
            folders=self._folders(spec),
            network=spec.network.namespace if spec.network else "",
            groups=groups,
        )
        return await started(confinement, program, {}, lambda: Cgroups.remove(groups))

    def _bundle(self, spec: StepSpec) -> list[str]:
        """Make the container's own files; returns what is run in its confinement."""
        upper, work, root, state, view = (spec.scratch / name for name in ("upper", "work", "root", "state", "view"))
        for folder in (upper, work, root, state, view):
            folder.mkdir(mode=0o700)
        upper.chmod(0o755)
        mounts = [*spec.mounts]
        if spec.network:
            hosts, resolver = spec.network.write_files(spec.scratch)
            mounts += [
                Mount(hosts, "/etc/hosts", read_only=True),
                Mount(resolver, "/etc/resolv.conf", read_only=True),
            ]
        config = spec.scratch / "config.json"
        write_privately(config, orjson.dumps(configuration(spec, str(root), mounts, self.users.count)))
        self.users.give(upper, work, root, state, config)
        places = [str(place) for place in (spec.root, upper, work, root, spec.scratch)]
        without = ["--cgroup-manager=disabled"] if self.binary.name == "crun" else []
        return ["sh", "-c", _INSIDE, "sh", *places, spec.name, str(self.binary), "--root", str(state), *without]

    def _folders(self, spec: StepSpec) -> tuple[Path, ...]:
        sources = (mount.source for mount in spec.mounts if not mount.source.is_relative_to(spec.scratch))
        wanted = (spec.root, spec.scratch, *sources, self.binary.parent)
        return tuple(dict.fromkeys(path for path in wanted if not _everywhere(path)))


def _everywhere(path: Path) -> bool:
    return any(path.is_relative_to(place) for place in PROGRAMS)


async def started(
    confinement: Confinement,
    program: Sequence[str],
    environment: dict[str, str],
    ended: Callable[[], None],
) -> "RunningStep":
    """Start a program in its confinement; `ended` is called once it is over."""
    process = await asyncio.create_subprocess_exec(
        *confinement.command(program),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": path_with_system_programs(), "XDG_RUNTIME_DIR": "/run", **environment},
        cwd="/",
        start_new_session=True,
    )
    return RunningStep(process, ended)


def path_with_system_programs() -> str:
    """The search path, with the folders that accounts without root often lack."""
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin:/usr/local/sbin"


class RunningStep:
    """The outer process of a step."""

    def __init__(self, process: asyncio.subprocess.Process, ended: Callable[[], None]) -> None:
        """Made by `started`."""
        self._process = process
        self._ended = ended

    async def output(self) -> AsyncIterator[bytes]:
        """Pieces of the step's output as they come."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while piece := await self._process.stdout.read(PIECE):
            yield piece

    async def wait(self) -> int:
        """The exit code, 128 + N for signal N."""
        code = await self._process.wait()
        self._ended()
        return 128 - code if code < 0 else code

    async def kill(self) -> None:
        """End the step; its process namespace goes with its first process."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self.wait()


def write_privately(path: Path, content: bytes) -> None:
    """Write a file that only this user can read: a step's environment may hold what nobody else should see."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
        file.write(content)
