"""Limits of a face, and the queue in which each caller's calls wait for their turn instead of being refused."""

import asyncio
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

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


@dataclass
class _Line:
    running: int = 0
    waiting: deque[asyncio.Future[None]] = field(default_factory=deque[asyncio.Future[None]])


class Turns:
    """Lets at most `at_once` calls of one caller run; the others wait in the order they came."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lines: dict[str, _Line] = {}

    @asynccontextmanager
    async def turn(self, who: str) -> AsyncGenerator[None]:
        """Wait for a turn and hold it. Raises Unavailable when too many wait, or it takes too long."""
        line = self._lines.setdefault(who, _Line())
        if line.running >= self._limits.at_once:
            await self._wait(line)
        else:
            line.running += 1
        try:
            yield
        finally:
            self._pass_on(who, line)

    def waiting(self) -> int:
        """How many calls wait now."""
        return sum(len(line.waiting) for line in self._lines.values())

    async def _wait(self, line: _Line) -> None:
        if len(line.waiting) >= self._limits.waiting:
            raise Unavailable("Too many calls of this caller wait already.", retry_after=2)
        turn = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            self._give_up(line, turn)
            if isinstance(error, TimeoutError):
                raise Unavailable("The calls before this one took too long.", retry_after=5) from error
            raise

    def _give_up(self, line: _Line, turn: asyncio.Future[None]) -> None:
        if turn in line.waiting:
            line.waiting.remove(turn)
        elif turn.done() and not turn.cancelled():
            self._next(line)

    def _pass_on(self, who: str, line: _Line) -> None:
        self._next(line)
        if not line.running and not line.waiting:
            self._lines.pop(who, None)

    def _next(self, line: _Line) -> None:
        while line.waiting:
            turn = line.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        line.running -= 1
