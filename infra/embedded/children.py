"""Child processes that end with the launcher, however it ends, and are started again when they die."""

import contextlib
import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from infra.embedded.signals import Signals

_PR_SET_PDEATHSIG, _PR_SET_NAME = 1, 15
_LONGEST_DELAY = 30.0
_LONG_ENOUGH = 60.0
"""A child that lived this many seconds is forgiven its earlier deaths."""


@dataclass
class Leash:
    """What ties children to the launcher: they hold the reading end of a pipe, it alone holds the writing end."""

    signals: Signals
    mine: list[int]
    """Descriptors that no child may keep, such as the lock on the data folder."""

    def __post_init__(self) -> None:
        """Make the pipe."""
        self.reading, writing = os.pipe()
        self.mine.append(writing)


@dataclass
class Child:
    """One child process and what is known about its deaths."""

    name: str
    run: Callable[[int], object]
    """What the child does, given the leash's reading end; it returns when it is done, or replaces itself."""
    log: Path
    forgiving: bool = True
    """Whether it is started again when it ends."""
    pid: int = 0
    deaths: int = 0
    born: float = 0.0
    due: float = field(default=0.0)
    """When it is to be started again."""

    def start(self, leash: Leash) -> None:
        """Fork; the child lives in a session of its own, so that Ctrl-C reaches the launcher alone."""
        launcher = os.getpid()
        self.born = time.monotonic()
        self.pid = os.fork()
        if self.pid == 0:
            _be_the_child(self, leash, launcher)

    def ended(self, status: int) -> str:
        """Note a death and when to try again; returns how it ended, in words."""
        lived = time.monotonic() - self.born
        self.deaths = 1 if lived > _LONG_ENOUGH else self.deaths + 1
        self.due = time.monotonic() + min(0.5 * 2 ** (self.deaths - 1), _LONGEST_DELAY)
        self.pid = 0
        code = os.waitstatus_to_exitcode(status)
        return f"exit code {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"

    def kill(self, number: int) -> None:
        """Send a signal, if it lives."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


def _be_the_child(child: Child, leash: Leash, launcher: int) -> NoReturn:
    code = 1
    try:
        os.setsid()
        _die_with(launcher)
        _be_called(child.name)
        for descriptor in leash.mine:
            os.close(descriptor)
        _write_to(child.log)
        leash.signals.unblock()
        result = child.run(leash.reading)
        code = result if isinstance(result, int) else 0
    except SystemExit as leaving:
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException as error:  # noqa: BLE001 - the last line of a process: it must end here and not in the launcher's code
        print(f"{child.name}: {error!r}", file=sys.stderr)  # noqa: T201 - this is its log
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def _die_with(launcher: int) -> None:
    """Ask the kernel for SIGTERM when the launcher dies; it may have died before we asked."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    if os.getppid() != launcher:
        os._exit(1)


def _be_called(name: str) -> None:
    """What `ps` and `top` show instead of the launcher's name."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, f"entrepot-{name}".encode(), 0, 0, 0)


def _write_to(log: Path) -> None:
    silence = os.open(os.devnull, os.O_RDONLY)
    out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(silence, 0)
    os.dup2(out, 1)
    os.dup2(out, 2)
    os.close(silence)
    os.close(out)
