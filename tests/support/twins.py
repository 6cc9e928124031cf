"""A second process of each service beside a running suite: the same bus, state and bucket, a place of its own."""

import subprocess
import sys
import time
import urllib.request
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from infra.embedded.folder import DataFolder
from infra.embedded.services import Place, environment
from tests.support.ports import free_port
from tests.support.suite import ROOT, SERVICES, Suite, environment_without_ours

READY_SECONDS = 60.0


@dataclass
class Twin:
    """One more replica of a service."""

    service: str
    settings: dict[str, str]
    log: Path
    module: str = ""
    """What is run, where it is not the service itself."""
    process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)

    @property
    def port(self) -> int:
        return int(self.settings["ENTREPOT_PORT"])

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; it is not ready yet."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", self.module or f"services.{self.service}"],
                cwd=ROOT,
                env={**environment_without_ours(), **self.settings},
                stdout=log,
                stderr=log,
            )

    def wait_until_ready(self) -> None:
        """Wait until it says so."""
        until = time.monotonic() + READY_SECONDS
        while not self._is_ready():
            assert self.process is not None
            ended = self.process.poll()
            assert ended is None, f"{self.service} ended with {ended}: {self.said()}"
            assert time.monotonic() < until, f"{self.service} is not ready: {self.said()}"
            time.sleep(0.05)

    def kill(self) -> None:
        """End it as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(10)

    def stop(self) -> None:
        """End it in order."""
        assert self.process is not None
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()

    def said(self) -> str:
        """The end of its log."""
        return self.log.read_text()[-2000:]

    def _is_ready(self) -> bool:
        if self.process is None or self.process.poll() is not None:
            return False  # whoever answers there is somebody else
        try:
            with urllib.request.urlopen(f"{self.address}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False


def twin_of(suite: Suite, service: str, folder: Path, more: Mapping[str, str] | None = None) -> Twin:
    """A replica of one of the suite's services, told what that is told, but for what only one process can have."""
    name = folder.name
    told = environment(Place(DataFolder(suite.data), suite.base), service)
    own = {"ENTREPOT_PORT": str(free_port()), "ENTREPOT_REPLICA": name, "ENTREPOT_DATA": str(folder)}
    folder.mkdir(exist_ok=True)
    return Twin(service, {**told, **own, **(more or {})}, folder / f"{service}.log")


@contextmanager
def started(twins: Mapping[str, Twin]) -> Generator[None]:
    """All of these, ready; stopped in the end, whatever happened."""
    try:
        for twin in twins.values():
            twin.start()
        for twin in twins.values():
            twin.wait_until_ready()
        yield
    finally:
        for twin in twins.values():
            if twin.process is not None and twin.process.poll() is None:
                twin.stop()


def twins_of(suite: Suite, folder: Path) -> dict[str, Twin]:
    """A second replica of every service."""
    return {service: twin_of(suite, service, folder) for service in SERVICES}
