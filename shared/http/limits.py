"""Limits of a face, and the queue in which each caller's calls wait for their turn instead of being refused."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from shared.http.errors import Unavailable


@dataclass(frozen=True)
class Limits:
    """What one call and one caller may take."""

    body: int = 10 * 1024 * 1024
    """Bytes of a body; a route may say otherwise."""
    seconds: float = 60.0
    """How long a call may take; a route may say otherwise."""
    at_once: int = 64
    """Calls of one caller that run beside each other."""
    waiting: int = 512
    """Calls of one caller that may wait; what comes beyond is refused as retryable."""
    wait_seconds: float = 20.0
    """How long a call waits at most."""


class _Waiting(Protocol):
    """A call that waits: a task's future, or what stands for a call without a task."""

    def done(self) -> bool:
        """Whether it waits no longer."""
        ...

    def set_result(self, result: None, /) -> None:
        """Its turn has come."""
        ...


@dataclass
class _Line:
    running: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])


class _Caller:
    """A call without a task, which is told that its turn has come, or that it did not come in time."""

    __slots__ = ("_loop", "_told", "_until", "_waits")

    def __init__(self, told: Callable[[bool], None], seconds: float) -> None:
        self._told = told
        self._waits = True
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.call_later(seconds, self._over)

    def done(self) -> bool:
        return not self._waits

    def set_result(self, result: None, /) -> None:
        del result
        self._waits = False
        self._until.cancel()
        self._loop.call_soon(self._told, True)  # noqa: FBT003 - call_soon knows no names

    def _over(self) -> None:
        self._waits = False
        self._told(False)  # noqa: FBT003 - as above


class Turns:
    """Lets at most `at_once` calls of one caller run; the others wait in the order they came."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[str, _Line] = {}

    def turn(self, who: str) -> "Turn":
        """To be entered: waits for a turn and holds it. Raises Unavailable when too many wait, or it takes too long."""
        return Turn(self, who)

    async def take(self, who: str) -> None:
        """Wait for a turn."""
        if not self.take_now(who):
            await self._wait(who, self._lines[who])

    def take_now(self, who: str) -> bool:
        """Take a turn if one is free."""
        line = self._lines.get(who)
        if line is None:
            line = self._lines[who] = _Line()
        if line.running >= self._limits.at_once:
            return False
        line.running += 1
        return True

    def take_later(self, who: str, told: Callable[[bool], None]) -> bool:
        """Wait without a task for a turn that was not free: `told` hears whether it came in time.

        False when too many wait already; then `told` is never called.
        """
        line = self._lines[who]
        if len(line.waiting) >= self._limits.waiting:
            return False
        line.waiting.append(_Caller(told, self._limits.wait_seconds))
        return True

    def pass_on(self, who: str) -> None:
        """Give the turn to whoever waits longest."""
        line = self._lines[who]
        while line.waiting:
            turn = line.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        line.running -= 1
        if not line.running:
            del self._lines[who]

    def waiting(self) -> int:
        """How many calls wait now."""
        return sum(len(line.waiting) for line in self._lines.values())

    async def _wait(self, who: str, line: _Line) -> None:
        if len(line.waiting) >= self._limits.waiting:
            raise Unavailable("Too many calls of this caller wait already.", retry_after=2)
        turn = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            self._give_up(who, line, turn)
            if isinstance(error, TimeoutError):
                raise Unavailable("The calls before this one took too long.", retry_after=5) from error
            raise

    def _give_up(self, who: str, line: _Line, turn: asyncio.Future[None]) -> None:
        if turn in line.waiting:
            line.waiting.remove(turn)
        elif turn.done() and not turn.cancelled():
            self.pass_on(who)


class Turn:
    """One call's place in its caller's line."""

    __slots__ = ("_turns", "_who")

    def __init__(self, turns: Turns, who: str) -> None:
        self._turns = turns
        self._who = who

    async def __aenter__(self) -> None:
        await self._turns.take(self._who)

    async def __aexit__(self, *_: object) -> None:
        self._turns.pass_on(self._who)
