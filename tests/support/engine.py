"""A container engine of a test's own: its own network, its own folder, gone when the test ends."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.support.suite import ROOT

_START_SECONDS = 60.0


COMPOSE = ("docker-compose", "iptables", "nsenter", "ip")
"""What an engine with a network of its own takes besides, to run the compose file."""

_NETWORKLESS = {
    "bridge": "none",
    "iptables": False,
    "ip6tables": False,
    "ip-forward": False,
    "ip-masq": False,
    "storage-driver": "vfs",
}


def missing(*more: str) -> str:
    """Why no engine can be started here; empty where one can."""
    absent = [name for name in ("dockerd", "docker", "unshare", *more) if shutil.which(name) is None]
    if absent:
        return f"not installed: {', '.join(absent)}"
    return "" if os.geteuid() == 0 else "starting an engine needs root"


@dataclass
class Engine:
    """A running engine."""

    folder: Path
    process: "subprocess.Popen[bytes]"
    environment: dict[str, str] = field(default_factory=dict[str, str])

    def run(
        self, *command: str, stdin: bytes | None = None, seconds: float = 300.0, check: bool = True
    ) -> "subprocess.CompletedProcess[bytes]":
        """Run a client of the engine."""
        ran = subprocess.run(
            command,
            cwd=ROOT,
            env={**os.environ, "DOCKER_HOST": self.address, "DOCKER_BUILDKIT": "0", **self.environment},
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )
        if check and ran.returncode:
            said = (ran.stdout + ran.stderr).decode(errors="replace")[-6000:]
            raise AssertionError(f"{' '.join(command)[:300]} left with {ran.returncode}:\n{said}")
        return ran

    def compose(self, *arguments: str, seconds: float = 300.0, check: bool = True) -> str:
        """Run docker-compose on the project's file."""
        ran = self.run("docker-compose", "--project-name", "entrepot", *arguments, seconds=seconds, check=check)
        return ran.stdout.decode() + ran.stderr.decode()

    def inside(self, *command: str) -> list[str]:
        """A command that sees the ports which this engine publishes: they are open in its own network alone."""
        return ["nsenter", f"--net=/proc/{self.process.pid}/ns/net", *command]

    def load(self, root: Path, name: str, changes: Sequence[str] = ()) -> None:
        """Make an image of a folder."""
        packed = root.with_suffix(".tar")
        subprocess.run(
            ["tar", "-C", str(root), "--owner=0", "--group=0", "-cf", str(packed), "."], check=True, timeout=120
        )
        options = [option for change in changes for option in ("--change", change)]
        self.run("docker", "import", *options, str(packed), name)
        packed.unlink()

    @property
    def address(self) -> str:
        """Where clients reach it."""
        return f"unix://{self.folder}/docker.sock"

    def said(self) -> str:
        """The end of its log."""
        return (self.folder / "log").read_text(errors="replace")[-3000:]


@contextlib.contextmanager
def engine(folder: Path, *, own_network: bool = True) -> Iterator[Engine]:
    """Start one and stop it; without a network of its own it sees this machine's loopback and makes no bridge.

    Raises EngineRefused where it does not come up.
    """
    folder.mkdir(parents=True)
    settings = {
        "data-root": str(folder / "root"),
        "exec-root": str(folder / "exec"),
        "pidfile": str(folder / "pid"),
        "hosts": [f"unix://{folder}/docker.sock"],
        **({} if own_network else _NETWORKLESS),
    }
    (folder / "daemon.json").write_text(json.dumps(settings))
    # Two engines in one network would fight for the same bridge; mounts made in here end with it.
    script = f'{"ip link set lo up; " if own_network else ""}exec dockerd --config-file "$0"'
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            ["unshare", "-nm" if own_network else "-m", "sh", "-c", script, str(folder / "daemon.json")],
            stdout=log,
            stderr=log,
        )
    started = Engine(folder, process)
    try:
        _wait_until_ready(started)
        yield started
    finally:
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class EngineRefused(Exception):
    """The engine is installed and does not run here."""


def _wait_until_ready(started: Engine) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until:
        if started.process.poll() is not None:
            break
        if started.run("docker", "info", check=False, seconds=30).returncode == 0:
            return
        time.sleep(0.3)
    raise EngineRefused(started.said())
