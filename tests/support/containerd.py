"""containerd of a test's own: its own folder and mounts, gone when the test ends."""

import contextlib
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

_START_SECONDS = 30.0


class ContainerdRefused(Exception):
    """containerd is installed and does not run here."""


def missing() -> str:
    """Why it cannot be started here; empty where it can."""
    absent = [name for name in ("containerd", "ctr", "unshare") if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "starting containerd needs root"


@dataclass
class Containerd:
    """A running containerd."""

    folder: Path

    def ctr(self, *arguments: str, check: bool = True) -> str:
        """Run its client; what it says, on both channels."""
        ran = subprocess.run(
            ["ctr", "--address", f"{self.folder}/sock", *arguments], capture_output=True, timeout=120, check=False
        )
        said = (ran.stdout + ran.stderr).decode(errors="replace")
        assert (ran.returncode == 0) == check, f"ctr {' '.join(arguments)[:200]} left with {ran.returncode}:\n{said}"
        return said


@contextlib.contextmanager
def containerd(folder: Path) -> Iterator[Containerd]:
    """Start one and stop it. Raises ContainerdRefused where it does not come up."""
    folder.mkdir(parents=True)
    (folder / "config.toml").write_text(
        f'version = 2\nroot = "{folder}/root"\nstate = "{folder}/state"\n'
        'disabled_plugins = ["io.containerd.grpc.v1.cri", "io.containerd.internal.v1.opt"]\n'
        f'[grpc]\naddress = "{folder}/sock"\n'
    )
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "-m", "containerd", "--config", str(folder / "config.toml")], stdout=log, stderr=log
        )
    try:
        started = Containerd(folder)
        _wait_until_ready(started, process)
        yield started
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _wait_until_ready(started: Containerd, process: "subprocess.Popen[bytes]") -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(AssertionError):
            started.ctr("version")
            return
        time.sleep(0.2)
    raise ContainerdRefused((started.folder / "log").read_text(errors="replace")[-2000:])
