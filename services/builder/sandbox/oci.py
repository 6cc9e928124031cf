"""Steps in containers through crun or runc, above an overlay of the image's files.

Each step gets a private mount and process namespace around the runtime. So its overlay vanishes with it, whatever
happens, and killing the one outer process ends everything inside; that one dies with the worker.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from services.builder.sandbox.container import configuration
from services.builder.sandbox.face import StepSpec

PIECE = 32 * 1024

# Positional parameters only: no name of a file becomes part of the script.
_INSIDE = """
umount /sys/fs/cgroup/unified 2>/dev/null
mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3,userxattr" "$4" 2>/dev/null \
  || mount -t overlay overlay -o "lowerdir=$1,upperdir=$2,workdir=$3" "$4" || exit 125
exec "$5" --root "$6" run --bundle "$7" "$8"
"""


@dataclass(frozen=True)
class OciSandbox:
    """A runtime that was found to work, see `services.builder.sandbox.probe`."""

    binary: Path
    runtime: str

    async def start(self, spec: StepSpec) -> "RunningStep":
        """Write the bundle and start the step."""
        upper, work, root, state = (spec.scratch / name for name in ("upper", "work", "root", "state"))
        for folder in (upper, work, root, state):
            folder.mkdir(mode=0o700)
        upper.chmod(0o755)
        write_privately(spec.scratch / "config.json", orjson.dumps(configuration(spec, str(root))))
        places = [str(place) for place in (spec.root, upper, work, root, self.binary, state, spec.scratch)]
        process = await asyncio.create_subprocess_exec(
            *(*_wrapper(), "sh", "-c", _INSIDE, "sh", *places, spec.name),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env={"PATH": os.environ.get("PATH", os.defpath), "XDG_RUNTIME_DIR": str(state)},
            start_new_session=True,
        )
        return RunningStep(process)


class RunningStep:
    """The outer process of a step."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        """Made by `OciSandbox.start`."""
        self._process = process

    async def output(self) -> AsyncIterator[bytes]:
        """Pieces of the step's output as they come."""
        assert self._process.stdout is not None  # noqa: S101 - it was asked for
        while piece := await self._process.stdout.read(PIECE):
            yield piece

    async def wait(self) -> int:
        """The exit code, 128 + N for signal N."""
        code = await self._process.wait()
        return 128 - code if code < 0 else code

    async def kill(self) -> None:
        """End the step; its process namespace goes with its first process."""
        if self._process.returncode is None:
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()


def write_privately(path: Path, content: bytes) -> None:
    """Write a file that only this user can read: a step's environment may hold what nobody else should see."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)


def _wrapper() -> list[str]:
    """Namespaces around the runtime; without root a user namespace besides, in which mounting is allowed."""
    user = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]
    return [
        *("setpriv", "--pdeathsig", "KILL", "unshare", *user, "--mount", "--pid"),
        *("--fork", "--kill-child", "--mount-proc", "--propagation", "private"),
    ]
