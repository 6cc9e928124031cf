"""An event loop with virtual time that runs one ready handle at a time, drawn by a seed, and knows processes.

A process is what dies at once: killed, its handles are dropped and its tasks stay frozen where they are, so that no
`finally` runs, as after kill -9. A paused process stands still and then goes on as if nothing had been.

A seed takes thousands of steps, so a step is kept cheap: the loop has its own handles and does without what asyncio
does for a loop of sockets. This leans on private parts of asyncio (`_run_once`, `_stopping`, `Handle._context` and what
else a handle holds); test_loop.py pins them.
"""

import asyncio
import contextlib
import contextvars
import heapq
import math
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
    alarm: float = math.inf
    """From this step on the loop tells of each."""
    paused_until: float = 0.0
    held: list["Turn"] = field(default_factory=list["Turn"])
    """What became ready while it stood still."""

    def spawn(self, coroutine: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Run a coroutine, and all that it starts, as this process."""
        context = contextvars.copy_context()
        context.run(CURRENT.set, self)
        return asyncio.get_running_loop().create_task(coroutine, context=context)


CURRENT: contextvars.ContextVar[Process | None] = contextvars.ContextVar("CURRENT", default=None)


class Turn(asyncio.TimerHandle):
    """A handle: what runs once, in its context. Cancelled, it still tells what it was."""

    __slots__ = ()

    def __init__(self, callback: Any, args: tuple[Any, ...], context: contextvars.Context | None) -> None:  # pyright: ignore[reportMissingSuperCall]
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._context = contextvars.copy_context() if context is None else context

    def cancel(self) -> None:
        self._cancelled = True


class SeededLoop(asyncio.BaseEventLoop):
    """The loop of one seed; used once."""

    def __init__(self, schedule: random.Random, most_steps: int = STEPS) -> None:
        super().__init__()
        self._schedule = schedule
        self._most_steps = most_steps
        self._now = 0.0
        self._over = False
        self._tasks: list[asyncio.Task[Any]] = []
        self._turns: list[Turn] = []
        """What is ready, in no order."""
        self._timers: list[tuple[float, int, Turn]] = []
        self._timed = 0
        self.steps = 0
        self.trace = 0
        """A checksum over every choice and its time: equal traces are equal runs."""
        self.breach: BaseException | None = None
        self.on_step: Callable[[Process], None] = lambda _: None
        """Called before steps of a process from its alarm on; it may kill or pause the process."""
        self._last: deque[tuple[float, Process | None, Turn, int]] = deque(maxlen=50)

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
            f"{at:10.4f} {process.name if process else 'world':14} {_what(turn)} ({ready} ready)"
            for at, process, turn, ready in self._last
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

    def call_soon(self, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Turn:
        turn = Turn(callback, args, context)
        if not self._over:
            self._turns.append(turn)
        return turn

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

    def call_at(self, when: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Turn:
        turn = Turn(callback, args, context)
        self._timed += 1
        heapq.heappush(self._timers, (when, self._timed, turn))
        return turn

    def call_later(self, delay: float, callback: Any, *args: Any, context: contextvars.Context | None = None) -> Turn:
        turn = Turn(callback, args, context)
        self._timed += 1
        heapq.heappush(self._timers, (self._now + delay, self._timed, turn))
        return turn

    def create_future(self) -> "asyncio.Future[Any]":
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: object = "", context: contextvars.Context | None = None
    ) -> asyncio.Task[Any]:
        """Keeps it: else the garbage collector would close a dead process's tasks, and `finally` would run."""
        task = asyncio.Task(coro, loop=self, name=str(name), context=context)
        self._tasks.append(task)
        return task

    def _run_once(self) -> None:
        turns, draw = self._turns, self._schedule.random
        while not self._stopping:  # type: ignore[attr-defined]
            ready = len(turns)
            if not ready:
                turn = self._wait()
            elif ready == 1:
                turn = turns.pop()
            else:
                choice = int(draw() * ready)
                self.trace = hash((self.trace, choice, ready, self._now))
                turns[choice], turns[-1] = turns[-1], turns[choice]
                turn = turns.pop()
            if turn is not None and not turn._cancelled:
                self._step(turn)

    def _step(self, turn: Turn) -> None:
        context = turn._context
        process = context.get(CURRENT)
        if process is not None and not self._may_step(process, turn):
            return
        self.steps += 1
        if self.steps > self._most_steps:
            self.fail(Breach(f"no rest after {self.steps} steps"))
            return
        self._last.append((self._now, process, turn, len(self._turns)))
        try:
            context.run(turn._callback, *turn._args)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:  # noqa: BLE001 - as asyncio does
            self.call_exception_handler({"exception": error})

    def _wait(self) -> Turn | None:
        """There is nothing ready: time goes on to the next timer."""
        if not self._timers:
            self.fail(Breach("nothing will ever happen again"))
            return None
        when, _, turn = heapq.heappop(self._timers)
        if not turn._cancelled and when > self._now:
            self._now = when
        return turn

    def _may_step(self, process: Process, turn: Turn) -> bool:
        if not process.dead and process.paused_until <= self._now:
            process.steps += 1
            if process.steps < process.alarm:
                return True
            self.on_step(process)
        if process.dead:
            return False
        if process.paused_until > self._now:
            self._hold(process, turn)
            return False
        return True

    def _hold(self, process: Process, turn: Turn) -> None:
        if not process.held:
            self.call_at(process.paused_until, self._go_on, process, context=contextvars.Context())
        process.held.append(turn)

    def _go_on(self, process: Process) -> None:
        held, process.held = process.held, []
        self._turns.extend(held)

    def _bury(self) -> None:
        """End all that is left, with no loop running that could hear of it."""
        self._over = True
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # some never began
            for task in self._tasks:
                if not task.done():
                    _close(task)
        self._tasks.clear()
        self._turns.clear()
        self._timers.clear()
        self.close()


def _close(task: "asyncio.Task[Any]") -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    for _ in range(3):
        with contextlib.suppress(BaseException):
            task.get_coro().close()  # type: ignore[union-attr]
            return


def _what(turn: Turn) -> str:
    callback = turn._callback
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
