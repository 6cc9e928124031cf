"""gcloud with its modules loaded once: each line that is read is a call, for which this process forks.

The program `gcloud` starts this in place of its `lib/gcloud.py`, whose path comes last among the arguments, with the
Python and the settings that it would give to that. `tests/support/gcloud.py` is the other side.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import select
import signal
import sys
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

READ_ANEW = {
    *("PATH", "HOME", "TERM", "COLUMNS", "CLOUDSDK_CONFIG", "CLOUDSDK_ACTIVE_CONFIG_NAME"),
    *("CLOUDSDK_CORE_VERBOSITY", "CLOUDSDK_CORE_USER_OUTPUT_ENABLED", "CLOUDSDK_CORE_CONSOLE_LOG_FORMAT"),
    *("CLOUDSDK_CORE_DISABLE_COLOR", "CLOUDSDK_ACCESSIBILITY_SCREEN_READER"),
}
"""Variables that modules read when they are loaded, and once more in `_begin_anew`.

Only three folders of `gcloud storage` keep what CLOUDSDK_CONFIG was before.
"""

OF_THE_SHELL = {"PATH", "HOME", "PWD", "OLDPWD", "SHLVL", "_", "LC_CTYPE", "CLOUDSDK_PYTHON_ARGS"}
"""What is in this process's environment and is not for a call: the rest is set by the program and by its modules."""


PlainEnvironment = os._Environ  # pyright: ignore[reportPrivateUsage] - the class of `os.environ` has no public name


class NotedEnvironment(PlainEnvironment[str]):
    """An environment that remembers what was asked of it: modules that were loaded need not ask again."""

    asked: set[Any] = set()

    def __getitem__(self, key: Any) -> Any:
        self.asked.add(key)
        return super().__getitem__(key)


@contextmanager
def _noted() -> Generator[None]:
    os.environ.__class__ = NotedEnvironment
    try:
        yield
    finally:
        os.environ.__class__ = PlainEnvironment


class Server:
    """One call after the other until nobody can ask any more."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.answers = os.dup(1)
        os.dup2(2, 1)
        sys.path[0] = str(Path(script).parent)
        if "google" in sys.modules:
            importlib.reload(sys.modules["google"])
        with _noted():
            self.program: Any = importlib.import_module("gcloud")
            importlib.import_module("googlecloudsdk.gcloud_main")
        self.settings = {name: value for name, value in os.environ.items() if name not in OF_THE_SHELL}
        gc.freeze()

    def serve(self) -> None:
        """Answer calls; a child leaves as gcloud does, by `SystemExit`."""
        self.answer(ready=True)
        while line := sys.stdin.buffer.readline():
            call = json.loads(line)
            if NotedEnvironment.asked.intersection(call["environment"]) - READ_ANEW:
                self.answer(refused=True)
                continue
            ended, held = os.pipe()
            child = os.fork()
            if child == 0:
                os.close(ended)
                os.close(self.answers)
                self.run(call, held)
            os.close(held)
            loaded = self.wait(child, ended, call["timeout"])
            self.load(loaded)

    def run(self, call: dict[str, Any], held: int) -> None:
        """Be gcloud, and tell in the end which modules were loaded for it."""
        for descriptor, (path, mode) in enumerate(
            ((os.devnull, os.O_RDONLY), (call["stdout"], os.O_WRONLY), (call["stderr"], os.O_WRONLY))
        ):
            opened = os.open(path, mode)
            os.dup2(opened, descriptor)
            os.close(opened)
        os.environ.clear()
        os.environ.update({**self.settings, **call["environment"]})
        os.chdir(call["folder"])
        sys.argv = [self.script, *call["arguments"]]
        _begin_anew()
        before = set(sys.modules)
        try:
            self.program.main()
        finally:
            with os.fdopen(held, "w") as told:
                json.dump([name for name in sys.modules if name not in before], told)
        sys.exit()

    def wait(self, child: int, ended: int, seconds: float) -> list[str]:
        """What a call had to load, once it is over and that was told: killed if it is late or nobody waits for it."""
        until, told, late = time.monotonic() + seconds, b"", False
        with os.fdopen(ended, "rb", buffering=0) as end:
            while True:
                ready = select.select([end, 0], [], [], max(0.0, until - time.monotonic()))[0]
                late = end not in ready
                if late or not (more := end.read(65536)):
                    break
                told += more
        if late:
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        code = -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)
        self.answer(code=code, late=late)
        return json.loads(told) if told and not late else []

    def load(self, names: Iterable[str]) -> None:
        """Load what a call had to load, so that the next one need not; what has no name of its own is left out."""
        for name in names:
            with _noted(), suppress(Exception):  # then each call loads it, as it would without us
                importlib.import_module(name)
        gc.freeze()

    def answer(self, **said: Any) -> None:
        os.write(self.answers, json.dumps(said).encode() + b"\n")


def _begin_anew() -> None:
    """Forget what modules read from the environment and the clock when they were loaded, by gcloud's own means."""
    importlib.import_module("googlecloudsdk.core.configurations.named_configs").ActivePropertiesFile.Invalidate()
    importlib.import_module("googlecloudsdk.core.console.console_attr").ResetConsoleAttr()
    importlib.import_module("googlecloudsdk.core.log").Reset()
    started: Any = importlib.import_module("googlecloudsdk.gcloud_main")
    started.START_TIME = time.time()
    time.tzset()


if __name__ == "__main__":
    Server(sys.argv[-1]).serve()
