"""Finds a container runtime that works here, by running a container in each."""

import asyncio
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from services.builder.errors import NoRuntime
from services.builder.sandbox.cgroups import Cgroups
from services.builder.sandbox.face import Mount, StepSpec
from services.builder.sandbox.oci import OciSandbox
from services.builder.sandbox.users import Users

RUNTIMES = ("crun", "runc")
NEEDED = ("setpriv", "unshare", "nsenter", "pivot_root", "mount")
_SECONDS = 20


async def find_sandbox(scratch: Path, users: Users, cgroups: Cgroups, wanted: Sequence[str] = RUNTIMES) -> OciSandbox:
    """The first runtime of `wanted` that runs a container; raises NoRuntime that says what failed and what helps."""
    await asyncio.to_thread(scratch.mkdir, parents=True, exist_ok=True)
    failures: list[str] = []
    for name in wanted:
        binary = _binary(name)
        if binary is None:
            failures.append(f"{name} is not installed")
            continue
        sandbox = OciSandbox(binary, await _version(binary), users, cgroups)
        complaint = await _trial(sandbox, scratch)
        if complaint is None:
            return sandbox
        failures.append(f"{name} does not run here: {complaint}")
    raise NoRuntime(f"no container runtime works here ({'; '.join(failures)}): install crun or runc")


def require_programs() -> None:
    """Raises NoRuntime when what everything here is started with is missing."""
    missing = [program for program in NEEDED if _binary(program) is None]
    if missing:
        raise NoRuntime(f"{', '.join(missing)} not found: install the packages util-linux and mount")


def _binary(name: str) -> Path | None:
    found = shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")
    return Path(found) if found else None


async def _version(binary: Path) -> str:
    process = await asyncio.create_subprocess_exec(
        binary, "--version", stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    said, _ = await process.communicate()
    return said.decode(errors="replace").partition("\n")[0].strip()


async def _trial(sandbox: OciSandbox, scratch: Path) -> str | None:
    """Run `true` of this machine in a container; returns why it failed, None when it did not."""
    folder = await asyncio.to_thread(tempfile.mkdtemp, dir=scratch, prefix="probe-")
    try:
        return await _outcome(sandbox, await asyncio.to_thread(_true_of_this_machine, Path(folder)))
    finally:
        await asyncio.to_thread(sandbox.users.remove, Path(folder))


def _true_of_this_machine(folder: Path) -> StepSpec:
    for part in ("image", "scratch"):
        (folder / part).mkdir(mode=0o755)
    programs = (Path(path) for path in ("/usr", "/bin", "/lib", "/lib64"))
    return StepSpec(
        name=folder.name,
        root=folder / "image",
        scratch=folder / "scratch",
        argv=("/bin/true",),
        environment=("PATH=/usr/bin:/bin",),
        directory="/",
        mounts=tuple(Mount(path, str(path), read_only=True) for path in programs if path.exists()),
    )


async def _outcome(sandbox: OciSandbox, spec: StepSpec) -> str | None:
    running = await sandbox.start(spec)
    try:
        async with asyncio.timeout(_SECONDS):
            said = b"".join([piece async for piece in running.output()])
            code = await running.wait()
    except TimeoutError:
        return f"no end after {_SECONDS} s"
    finally:
        await running.kill()
    return None if code == 0 else f"exit code {code}, {said.decode(errors='replace').strip()[-300:]}"
