"""gcloud, unmodified, for tests that call it often: its modules are loaded once, and each call is a fork of that.

What it is asked, says and answers is what a user's shell would see; only the start is saved, which takes a second of
CPU. Where gcloud is installed in a way that does not allow it, the program is called plainly.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

START_SECONDS = 60.0
GRACE_SECONDS = 10.0
SERVER = Path(__file__).with_name("gcloud_server.py")
ITS_PYTHON = ("CLOUDSDK_PYTHON", "CLOUDSDK_PYTHON_ARGS", "CLOUDSDK_PYTHON_SITEPACKAGES")


class ServerGone(Exception):
    """The server of the calls did not answer as it should."""


class GcloudProgram:
    """gcloud of one test process; as a context it leaves no process behind."""

    def __init__(self, program: str = "gcloud") -> None:
        self.program = program
        self.plainly = shutil.which(program) is None
        self._folder = tempfile.TemporaryDirectory(prefix="gcloud")
        self._server: subprocess.Popen[bytes] | None = None
        self._one_at_a_time = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._end()
        self._folder.cleanup()

    def __call__(
        self, *arguments: str, environment: Mapping[str, str], timeout: float = 120
    ) -> "subprocess.CompletedProcess[str]":
        """What a call says with this environment alone, and its code; raises `TimeoutExpired` when it is late."""
        with self._one_at_a_time:
            if not self.plainly:
                done = self._by_fork(arguments, environment, timeout)
                if done is not None:
                    return done
        return self.call_plainly(arguments, environment, timeout)

    @property
    def server(self) -> int | None:
        """The number of the process that forks, where there is one."""
        return None if self._server is None else self._server.pid

    def call_plainly(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        """The same by the program itself."""
        return subprocess.run(
            [self.program, *arguments],
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def _by_fork(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str] | None":
        """The same by a fork; nothing where that would not say the same."""
        if not set(environment).isdisjoint(ITS_PYTHON):
            return None
        said = {name: Path(self._folder.name, name) for name in ("stdout", "stderr")}
        for path in said.values():
            path.write_bytes(b"")
        call = {"arguments": arguments, "environment": dict(environment), "folder": str(Path.cwd()), "timeout": timeout}
        try:
            if not self._started():
                return None
            answer = self._ask(call | {name: str(path) for name, path in said.items()}, timeout + GRACE_SECONDS)
        except BaseException:  # such as a test's own timeout: what is still answered to this call is nobody's
            self._end()
            raise
        if "refused" in answer:
            return None
        output, errors = (path.read_text() for path in said.values())
        if answer["late"]:
            raise subprocess.TimeoutExpired([self.program, *arguments], timeout, output, errors)
        return subprocess.CompletedProcess([self.program, *arguments], answer["code"], output, errors)

    def _started(self) -> bool:
        """Start the server if there is none. Only its settings reach it: a call brings its own environment."""
        if self._server is None:
            self._server = subprocess.Popen(
                [self.program],
                env={
                    "PATH": os.environ["PATH"],
                    "HOME": self._folder.name,
                    "CLOUDSDK_PYTHON_ARGS": f"-S {SERVER}",
                },
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                bufsize=0,
            )
            try:
                self._answer(START_SECONDS)
            except ServerGone:
                self._end()
                self.plainly = True
        return not self.plainly

    def _ask(self, call: dict[str, Any], seconds: float) -> dict[str, Any]:
        assert self._server is not None
        assert self._server.stdin is not None
        try:
            self._server.stdin.write(json.dumps(call).encode() + b"\n")
        except BrokenPipeError as broken:
            raise ServerGone("it ended before this call") from broken
        return self._answer(seconds)

    def _answer(self, seconds: float) -> dict[str, Any]:
        """One line of the server."""
        assert self._server is not None
        assert self._server.stdout is not None
        until, line = time.monotonic() + seconds, b""
        while not line.endswith(b"\n"):
            ready = select.select([self._server.stdout], [], [], max(0.0, until - time.monotonic()))[0]
            more = self._server.stdout.read(65536) if ready else b""
            if not more:
                raise ServerGone(f"no answer, {'it ended' if ready else f'after {seconds} seconds'}")
            line += more
        try:
            return json.loads(line)
        except ValueError as error:
            raise ServerGone(f"no answer: {line!r}") from error

    def _end(self) -> None:
        """End the server, and its group if it does not end by itself."""
        server, self._server = self._server, None
        if server is None:
            return
        for pipe in (server.stdin, server.stdout):
            assert pipe is not None
            pipe.close()
        try:
            server.wait(GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            os.killpg(server.pid, signal.SIGKILL)
            server.wait(GRACE_SECONDS)
