"""An event loop with virtual time that runs one ready handle at a time, drawn by a seed, and knows processes.

A process is what dies at once: killed, its handles are dropped and its tasks stay frozen where they are, so that no
`finally` runs, as after kill -9. A paused process stands still and then goes on as if nothing had been.

This leans on private parts of asyncio (`_run_once`, `_ready`, `_stopping`, `Handle._context`); test_loop.py pins them.
"""

import asyncio
import contextlib
import contextvars
import heapq
import random
import warnings
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, NoReturn

STEPS = 60_000
_PRIME = 2**61 - 1


class Breach(Exception):
    """An invariant does not hold."""


@dataclass(eq=False)
class Process:
    """What crashes and pauses as one: one run of one replica of one service."""

    name: str
    dead: bool = False
    steps: int = 0
    paused_until: float = 0.0
    held: list[asyncio.Handle] = field(default_factory=list[asyncio.Handle])
    """What became ready while it stood still."""

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine, and all that it starts, as this process."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        return asyncio.get_running_loop().create_task(coroutine, context=context)


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("CURRENT", default=None)


class SeededLoop(asyncio.BaseEventLoop):
    """The loop of one seed; used once."""

    def __init__(self, schedule: random.Random, most_steps: int = STEPS) -> None:
        super().__init__()
        self._schedule = schedule
        self._most_steps = most_steps
        self._now = 0.0
        self._over = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._timers: list[tuple[float, int, asyncio.TimerHandle]] = []
        self._timed = 0
        self.steps = 0
        self.trace = 0
        """A checksum over every choice and its time: equal traces are equal runs."""
        self.breach: BaseException | None = None
        self.on_step: Callable[[Process], None] = lambda _: None
        """Called before each step of a process, which it may kill or pause."""
        self._last: deque[tuple[float, Process | None, asyncio.Handle, int]] = deque(maxlen=50)
        self.set_task_factory(self._keep)

    def time(self) -> float:
        return self._now

    def fail(self, breach: BaseException) -> None:
        """Stop the run. An error raised into a service would be caught there, and the seed run on for ever."""
        if self.breach is None:
            self.breach = breach
        self.stop()

    def last_steps(self) -> list[str]:
        """What happened just before the end."""
        return [
            f"{at:10.4f} {process.name if process else 'world':14} {_what(handle)} ({ready} ready)"
            for at, process, handle, ready in self._last
        ]

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run to the end of `main`, or to a breach; raises what went wrong."""
        task = self.create_task(main)
        task.add_done_callback(lambda _: self.stop())
        self.run_forever()
        if self.breach is None and task.done() and not task.cancelled():
            self.breach = task.exception()
        self._bury()
        if self.breach is not None:
            raise self.breach

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> asyncio.Handle:
        if self._over:
            return asyncio.Handle(callback, args, self, context)
        return self._call_soon(callback, args, context)  # type: ignore[attr-defined]

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not self._over and isinstance(error, Exception):
            self.fail(error)

    # Nothing but the seed decides: no threads, no sockets.

    def call_soon_threadsafe(self, *_: Any, **__: Any) -> Any:
        if not self._over:
            self._refuse()

    def run_in_executor(self, *_: Any) -> Any:
        self._refuse()

    def _refuse(self) -> NoReturn:
        raise RuntimeError("threads and sockets have no place in a simulation: hand in a clock, a cpu, a face")

    _make_socket_transport = _make_datagram_transport = getaddrinfo = sock_connect = run_in_executor  # type: ignore[assignment]

    def call_at(
        self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        self._timed += 1
        heapq.heappush(self._timers, (when, self._timed, timer))
        return timer

    def _run_once(self) -> None:
        while not self._stopping:  # type: ignore[attr-defined]
            handle = self._choose()
            if handle is not None and not handle.cancelled():
                self._step(handle)

    def _step(self, handle: asyncio.Handle) -> None:
        process = handle._context.get(CURRENT)  # type: ignore[attr-defined]
        if process is not None and not self._may_step(process, handle):
            return
        self.steps += 1
        if self.steps > self._most_steps:
            self.fail(Breach(f"no rest after {self.steps} steps"))
            return
        self._last.append((self._now, process, handle, len(self._ready)))  # type: ignore[attr-defined]
        handle._run()

    def _choose(self) -> asyncio.Handle | None:
        """One of the ready handles; when there is none, time goes on to the next timer."""
        ready: deque[asyncio.Handle] = self._ready  # type: ignore[attr-defined]
        if not ready:
            return self._wait()
        if len(ready) == 1:
            return ready.pop()
        choice = int(self._schedule.random() * len(ready))
        self.trace = (self.trace * 1_000_003 + choice * 64 + len(ready) + int(self._now * 1e6)) % _PRIME
        ready[choice], ready[-1] = ready[-1], ready[choice]
        return ready.pop()

    def _wait(self) -> asyncio.Handle | None:
        if not self._timers:
            self.fail(Breach("nothing will ever happen again"))
            return None
        when, _, timer = heapq.heappop(self._timers)
        if not timer.cancelled():
            self._now = max(self._now, when)
        return timer

    def _may_step(self, process: Process, handle: asyncio.Handle) -> bool:
        if not process.dead and process.paused_until <= self._now:
            process.steps += 1
            self.on_step(process)
        if process.dead:
            return False
        if process.paused_until > self._now:
            self._hold(process, handle)
            return False
        return True

    def _hold(self, process: Process, handle: asyncio.Handle) -> None:
        if not process.held:
            self.call_at(process.paused_until, self._go_on, process, context=contextvars.Context())
        process.held.append(handle)

    def _go_on(self, process: Process) -> None:
        held, process.held = process.held, []
        self._ready.extend(held)  # type: ignore[attr-defined]

    def _keep(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **more: Any) -> asyncio.Task[Any]:
        """Strong references: else the garbage collector would close a dead process's tasks, and `finally` would run."""
        task = asyncio.Task(coroutine, loop=loop, **more)
        self._tasks.append(task)
        return task

    def _bury(self) -> None:
        """End all that is left, with no loop running that could hear of it."""
        self._over = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some never began
            for task in self._tasks:
                if not task.done():
                    _close(task)
        self._tasks.clear()
        self._ready.clear()  # type: ignore[attr-defined]
        self._timers.clear()
        self.close()


def _close(task: "asyncio.Task[Any]") -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    for _ in range(3):
        with contextlib.suppress(BaseException):
            task.get_coro().close()  # type: ignore[union-attr]
            return


def _what(handle: asyncio.Handle) -> str:
    callback = handle._callback  # type: ignore[attr-defined]
    owner = getattr(callback, "__self__", None)
    if isinstance(owner, asyncio.Task):
        return getattr(owner.get_coro(), "__qualname__", "?")
    return getattr(callback, "__qualname__", type(callback).__name__)


def current_process() -> Process | None:
    """The process whose step this is; None for the world around."""
    return CURRENT.get()


def in_the_world() -> contextvars.Context:
    """A context that belongs to no process: what runs in it goes on whoever dies."""
    return contextvars.Context()


def running_loop() -> SeededLoop:
    """The loop of the seed that runs."""
    loop = events.get_running_loop()
    assert isinstance(loop, SeededLoop)
    return loop
