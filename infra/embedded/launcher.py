"""Starts the servers and the services in order, keeps them running, and stops them in the opposite order."""

import gc
import importlib
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress

from infra.embedded.children import Child, Leash
from infra.embedded.errors import CannotStart
from infra.embedded.signals import Signals

_PATIENCE = 20.0
"""Seconds that a child has to end by itself after SIGTERM."""


class Launcher:
    """The family of child processes: servers below, services above."""

    def __init__(self, signals: Signals, leash: Leash, say: Callable[[str], None]) -> None:
        """`say` writes one line for the person at the terminal."""
        self._signals = signals
        self._leash = leash
        self._say = say
        self._floors: list[list[Child]] = []

    def start(self, children: Sequence[Child]) -> None:
        """Start children that need all those started before."""
        self._floors.append(list(children))
        for child in children:
            child.start(self._leash)

    def wait_for_end(self, child: Child, seconds: float) -> None:
        """Wait until a child that is not `forgiving` has ended. Raises CannotStart when it failed or takes too long."""
        until = time.monotonic() + seconds
        while child.pid and time.monotonic() < until:
            self.watch(0.2)
        if child.pid or child.deaths != 0:
            raise CannotStart(f"{child.name} failed: {last_words(child)}")

    def wait_for(self, what: str, answers: Callable[[], bool], seconds: float) -> None:
        """Look every few milliseconds until it answers. Raises CannotStart when it does not in time."""
        until = time.monotonic() + seconds
        while not answers():
            if time.monotonic() > until:
                raise CannotStart(f"{what} did not answer within {seconds:.0f} s: {self._deaths()}")
            self.watch(0.02)

    def watch(self, seconds: float) -> None:
        """Wait a while; note who died and start again whoever is due. Raises Stopped."""
        if self._signals.wait(min(seconds, self._next_due())):
            self._reap()
        for child in self._all():
            if child.forgiving and not child.pid and child.due <= time.monotonic():
                child.start(self._leash)

    def stop(self) -> None:
        """End everything, the services before what they stand on."""
        for floor in reversed(self._floors):
            for child in floor:
                child.forgiving = False
                child.kill(signal.SIGTERM)
            self._await_end(floor, _PATIENCE)
            for child in floor:
                child.kill(signal.SIGKILL)
            self._await_end(floor, _PATIENCE)

    def _await_end(self, floor: Iterable[Child], seconds: float) -> None:
        until = time.monotonic() + seconds
        self._reap()
        while any(child.pid for child in floor) and time.monotonic() < until:
            self._signals.wait_on(0.2)
            self._reap()

    def _all(self) -> list[Child]:
        return [child for floor in self._floors for child in floor]

    def _next_due(self) -> float:
        waiting = [child.due - time.monotonic() for child in self._all() if child.forgiving and not child.pid]
        return max(0.0, min([*waiting, 3600.0]))

    def _reap(self) -> None:
        for child in self._all():
            if not child.pid:
                continue
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                self._ended(child, status)

    def _ended(self, child: Child, status: int) -> None:
        if not child.forgiving and status == 0:
            child.pid = 0
            return
        how = child.ended(status)
        if child.forgiving:
            delay = child.due - time.monotonic()
            self._say(f"{child.name} ended ({how}); starting it again in {delay:.1f} s (log: {child.log})")

    def _deaths(self) -> str:
        died = [f"{child.name}: {last_words(child)}" for child in self._all() if child.deaths]
        return "; ".join(died) or "none of its processes died"


def last_words(child: Child) -> str:
    """The last line of a child's log and where the rest is."""
    lines: list[str] = []
    with suppress(OSError):
        lines = child.log.read_text(errors="replace").strip().splitlines()
    return f"{lines[-1][:300] if lines else 'it said nothing'} (log: {child.log})"


def preload(modules: Iterable[str]) -> None:
    """Import once what all children need: a fork shares it, where each alone would pay for it again.

    What cannot be imported here fails in its own process, with its own log.
    """
    gc.disable()
    for module in modules:
        with suppress(Exception):
            importlib.import_module(module)
    gc.freeze()
    gc.enable()


def to_terminal(line: str) -> None:
    """One line on standard error, where nobody reads it as data."""
    with suppress(OSError):
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - this is what the person at the terminal reads
