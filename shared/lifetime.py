"""The life of a process: what starts in which order, what keeps it alive, what ends it, and how it ends."""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog

from shared.blobs.face import BucketUnavailable
from shared.bus.face import BusUnavailable, View
from shared.endings import called_off
from shared.http.health import READY, Readiness
from shared.http.serve import Place, Server
from shared.parts import Parts, Service
from shared.state.face import State, StateUnavailable

PARENT_FD = "ENTREPOT_PARENT_FD"
"""Names an inherited pipe: when its other end closes, whoever started this is gone."""

PROBE_SECONDS = 2.0
FIRST_PAUSE, LONGEST_PAUSE = 0.2, 5.0
"""Between two tries of what a start needs and is away."""

_NO_STATE, _NO_BUS = "the state store does not answer", "the bus does not answer"
_AWAY: Mapping[type[Exception], str] = {
    StateUnavailable: _NO_STATE,
    BusUnavailable: _NO_BUS,
    BucketUnavailable: "the bucket does not answer",
}

Check = Callable[[], Awaitable[None]]
Loop = Callable[[], Coroutine[Any, Any, None]]

_log = structlog.get_logger("process")


class Stop:
    """What ends a process: a signal, the end of its parent, the death of a loop, a bus that lets nobody in."""

    def __init__(self) -> None:
        self.reason = ""
        self.failed = False
        self._told = asyncio.Event()

    def tell(self, reason: str, *, failed: bool = False) -> None:
        """End the process; the first reason counts."""
        if not self._told.is_set():
            self.reason, self.failed = reason, failed
            self._told.set()

    @property
    def told(self) -> bool:
        """Whether the end has begun."""
        return self._told.is_set()

    async def wait(self) -> None:
        """Wait for the end to begin."""
        await self._told.wait()

    def listen(self) -> None:
        """Hear signals, and the parent's end where it left a pipe."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.tell, number.name)
        pipe = os.environ.get(PARENT_FD, "")
        if pipe.isdigit():
            loop.add_reader(int(pipe), self._parent_spoke, int(pipe))

    def _parent_spoke(self, pipe: int) -> None:
        if not os.read(pipe, 64):
            asyncio.get_running_loop().remove_reader(pipe)
            self.tell("parent gone")


@dataclass(frozen=True)
class Real:
    """The real parts of a process, with what has to run for them."""

    parts: Parts
    stop: Stop
    views: list[View] = field(default_factory=list[View])
    loops: dict[str, Loop] = field(default_factory=dict[str, Loop])
    """By name: the relay, the journal and the like."""
    checks: Sequence[Check] = ()
    """Refuse to start on servers that may lose data."""


class StateProbe:
    """Asks the state store from time to time whether it is there."""

    def __init__(self, state: State, key: str, sleep: Callable[[float], Awaitable[None]]) -> None:
        """`key` is read; nothing need be there."""
        self._state = state
        self._key = key
        self._sleep = sleep
        self.reachable = False

    async def run(self) -> None:
        """Ask for ever."""
        while True:
            try:
                await self._state.value(self._key)
                self.reachable = True
            except StateUnavailable:
                self.reachable = False
            await self._sleep(PROBE_SECONDS)


class Lifetime:
    """One service from its start to its end."""

    def __init__(self, real: Real, service: Service) -> None:
        self._real = real
        self._service = service
        self._parts = real.parts
        self.stop = real.stop
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._started = False
        self._awaited = ""
        self._probe = StateProbe(real.parts.state, real.parts.keys.at("00", "probe"), real.parts.clock.sleep)
        self.server = Server(service.app, _place(real.parts), real.parts.clock.monotonic)
        service.app[READY] = Readiness(self.reasons, self.heard_all, real.parts.settings.suite)

    async def live(self) -> int:
        """Run until something ends it; the exit code is 0 when that was asked for."""
        self.stop.listen()
        try:
            await self._unless_stopped(self._start())
            await self.stop.wait()
            _log.info("stopping", reason=self.stop.reason)
            await self._parts.clock.sleep(self._parts.settings.drain_seconds)
        except Exception as error:  # noqa: BLE001 - whatever it is, the end is the same: told, and in order
            _log.error("not started", reason=str(error), exc_info=error)
            self.stop.tell("not started", failed=True)
        finally:
            await self._end()
        return 1 if self.stop.failed else 0

    def reasons(self) -> list[str]:
        """Why this replica is not ready."""
        reasons = [] if self._started else ["is starting", *filter(None, [self._awaited])]
        if self._started and not self.heard_all():
            reasons.append("has not heard everything yet")
        if any(view.cut_off for view in self._real.views):
            reasons.append(_NO_BUS)
        if self._started and not self._probe.reachable:
            reasons.append(_NO_STATE)
        if self.stop.told:
            reasons.append("stopping")
        return reasons + self._service.ready()

    def heard_all(self) -> bool:
        """Whether the start is done and all views know what was said before it: until then no call is taken."""
        return self._started and all(view.caught_up for view in self._real.views)

    async def _unless_stopped(self, starting: Coroutine[Any, Any, None]) -> None:
        """A start may wait for long: it is broken off when the end is told meanwhile."""
        start, stop = asyncio.create_task(starting), asyncio.create_task(self.stop.wait())
        try:
            await asyncio.wait((start, stop), return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
            if not start.done():
                start.cancel()
            await asyncio.gather(start, stop, return_exceptions=True)
        if not start.cancelled():
            start.result()

    async def _start(self) -> None:
        # First of all: whoever looks after this process learns that it lives, and what it waits for.
        await self.server.start()
        _log.info("listening", host=self._parts.settings.host, port=self.server.port)
        for step in (*self._real.checks, *self._service.on_start):
            await self._when_all_is_there(step)
        await self._parts.bus.start()
        self._watch("state probe", self._probe.run)
        for name, loop in self._real.loops.items():
            self._watch(name, loop)
        for loop in self._service.background:
            self._watch(getattr(loop, "__qualname__", "background"), loop)
        self._started = True
        _log.info("serving", host=self._parts.settings.host, port=self.server.port)

    async def _when_all_is_there(self, step: Callable[[], Awaitable[None]]) -> None:
        """Do a step of the start, again and again while what it needs is away."""
        pause = FIRST_PAUSE
        while True:
            try:
                await step()
            except (StateUnavailable, BusUnavailable, BucketUnavailable) as error:
                self._awaited = next(told for kind, told in _AWAY.items() if isinstance(error, kind))
                _log.warning("start waits", reason=self._awaited, error=str(error))
            else:
                self._awaited = ""
                return
            await self._parts.clock.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)

    def _watch(self, name: str, loop: Loop) -> None:
        """Run a loop; its end, unless this is the end of all, takes the process down: nothing dies silently."""
        task = self._tasks[name] = asyncio.create_task(loop(), name=name)
        task.add_done_callback(lambda ended: self._ended(name, ended))

    def _ended(self, name: str, task: asyncio.Task[None]) -> None:
        if task.cancelled() or self.stop.told:
            return
        _log.error("part died", part=name, exc_info=task.exception())
        self.stop.tell(f"{name} died", failed=True)

    async def _end(self) -> None:
        """Calls first, then what they caused: every step is tried, whatever became of the ones before."""
        self.stop.tell("cancelled", failed=True)
        steps: list[tuple[str, Callable[[], Awaitable[Any]]]] = [
            ("http", self.server.stop),
            ("bus", self._parts.bus.stop),
            *(("service", stop) for stop in self._service.on_stop),
            ("background", self._cancel),
        ]
        for name, step in steps:
            await self._try(name, step)

    async def _try(self, name: str, step: Callable[[], Awaitable[Any]]) -> None:
        try:
            async with asyncio.timeout(self._parts.settings.stop_seconds + 5.0):
                await step()
        except Exception as error:  # noqa: BLE001 - the steps behind it must be done all the same
            _log.error("stop failed", part=name, exc_info=error)
            self.stop.failed = True

    async def _cancel(self) -> None:
        await called_off(list(self._tasks.values()), again=self._parts.settings.stop_seconds)


def _place(parts: Parts) -> Place:
    settings = parts.settings
    return Place(
        host=settings.host,
        port=settings.port,
        own_port=settings.own_port,
        certificate=settings.tls_certificate,
        key=settings.tls_key,
        client_authority=settings.tls_client_ca,
        stop_seconds=settings.stop_seconds,
    )
