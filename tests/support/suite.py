"""The whole suite for tests, started as a user starts it: `entrepot up` on a folder and a port base of its own."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.ports import free_base

ROOT = Path(__file__).parents[2]
SERVICES = ("registry", "identity", "builder", "scanner", "attestor", "cleanup", "audit_log")
READY_SECONDS = 90.0
STOP_SECONDS = 60.0


def environment_without_ours() -> dict[str, str]:
    """What a process of a test inherits: everything but settings of ours, which might be somebody else's."""
    return {name: value for name, value in os.environ.items() if not name.startswith("ENTREPOT_")}


@dataclass
class Suite:
    """A suite that was started; killed, stopped and asked by tests."""

    data: Path
    base: int
    options: tuple[str, ...] = ()
    process: subprocess.Popen[str] | None = field(default=None, repr=False)
    seconds: float = 0.0
    """How long the last start took until everything was ready."""
    _token: str = field(default="", repr=False)

    def start(self) -> "Suite":
        """Start it and wait until every service is ready."""
        began = time.monotonic()
        with (self.data.parent / f"{self.data.name}.log").open("a") as log:
            self.process = subprocess.Popen(
                [*ENTREPOT, "up", "--data", str(self.data), "--port-base", str(self.base), *self.options],
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
                stderr=log,
                text=True,
            )
        try:
            self.wait_until_ready()
        except BaseException:
            self.kill()
            raise
        self.seconds = time.monotonic() - began
        return self

    def wait_until_ready(self, *services: str) -> None:
        """Wait for all services, or those named."""
        until = time.monotonic() + READY_SECONDS
        waiting = list(services or SERVICES)
        while waiting:
            waiting = [service for service in waiting if not self.is_ready(service)]
            if self.process is not None and self.process.poll() is not None:
                raise AssertionError(f"the suite ended with {self.process.returncode}: {self.said()}")
            if waiting and time.monotonic() > until:
                raise AssertionError(f"not ready: {', '.join(waiting)}\n{self.said()}\n{self.logs(*waiting)}")
            if waiting:
                time.sleep(0.05)

    def is_ready(self, service: str) -> bool:
        """Whether the service says so."""
        try:
            with urllib.request.urlopen(f"{self.address(service)}/readyz", timeout=2) as answer:
                return answer.status == 200
        except OSError:
            return False

    def address(self, service: str) -> str:
        """Where a service answers."""
        return f"http://127.0.0.1:{self.base + SERVICES_AT[service]}"

    @property
    def registry(self) -> str:
        """What stands before the first slash of an image's name."""
        return f"127.0.0.1:{self.base}"

    @property
    def admin_key(self) -> Path:
        """The administrator's key file."""
        return self.data / "keys" / "admin.json"

    def entrepot(self, *arguments: str, code: int | None = 0) -> "subprocess.CompletedProcess[str]":
        """Run the command line on this suite; `code` is what it must leave with, None for anything."""
        ran = subprocess.run(
            [*ENTREPOT, *arguments],
            cwd=ROOT,
            env={**os.environ, "ENTREPOT_DATA": str(self.data)},
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        if code is not None and ran.returncode != code:
            raise AssertionError(f"entrepot {' '.join(arguments)} left with {ran.returncode}: {ran.stderr}{ran.stdout}")
        return ran

    def environment(self, client: str) -> dict[str, str]:
        """What `eval "$(entrepot env CLIENT)"` gives a client."""
        script = self.entrepot("env", client).stdout
        lines = subprocess.run(
            ["/bin/sh", "-c", f"{script}\nexec env -0"], capture_output=True, text=True, check=True, timeout=30
        ).stdout
        return dict(line.split("=", 1) for line in lines.split("\0") if "=" in line)

    def token(self) -> str:
        """An access token of the administrator, fetched once: it lives for an hour, which no test takes."""
        if not self._token:
            self._token = self.entrepot("token").stdout.strip()
        return self._token

    def call(self, service: str, path: str, body: Any = None, verb: str = "") -> Any:
        """Call a JSON face as the administrator."""
        request = urllib.request.Request(
            f"{self.address(service)}/{path.lstrip('/')}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"Bearer {self.token()}", "Content-Type": "application/json"},
            method=verb or ("GET" if body is None else "POST"),
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def delete(self, path: str) -> int:
        """Delete something from the registry as the administrator; the status of the answer."""
        address, headers = f"{self.address('registry')}/{path}", {"Authorization": f"Bearer {self.token()}"}
        request = urllib.request.Request(address, headers=headers, method="DELETE")
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status

    def stop(self) -> int:
        """Stop it as Ctrl-C does; its exit code."""
        assert self.process is not None
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(STOP_SECONDS)

    def kill(self) -> None:
        """Kill the launcher as nobody should."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(STOP_SECONDS)

    def processes(self) -> dict[int, str]:
        """Every process that was started for this suite: each names its folder in its arguments, or works in it."""
        found: dict[int, str] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit():
                continue
            try:
                arguments = (entry / "cmdline").read_bytes().decode(errors="replace")
                arguments += str((entry / "cwd").readlink())
                state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except OSError:
                continue
            if str(self.data) in arguments and state != "Z":
                found[int(entry.name)] = arguments.replace("\0", " ")
        return found

    def wait_until_gone(self, seconds: float = STOP_SECONDS) -> dict[int, str]:
        """What is left after that time; empty is good."""
        until = time.monotonic() + seconds
        while (left := self.processes()) and time.monotonic() < until:
            time.sleep(0.05)
        return left

    def said(self) -> str:
        """What the launcher told the terminal."""
        return (self.data.parent / f"{self.data.name}.log").read_text()[-3000:]

    def logs(self, *services: str) -> str:
        """The ends of services' logs."""
        paths = [self.data / "logs" / f"{service}.log" for service in services]
        return "\n".join(f"{path.name}: …{path.read_text()[-1500:]}" for path in paths if path.exists())


SERVICES_AT = {service: offset for offset, service in enumerate(SERVICES)}
ENTREPOT = (sys.executable, "-m", "cli")


@contextmanager
def running(folder: Path, *options: str) -> Iterator[Suite]:
    """A suite that is stopped in the end, whatever happened."""
    suite = Suite(folder.resolve() / "suite", free_base(), options).start()
    try:
        yield suite
    finally:
        if suite.process is not None and suite.process.poll() is None:
            suite.stop()
        left = suite.wait_until_gone()
        for pid in left:
            os.kill(pid, signal.SIGKILL)
