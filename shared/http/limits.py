"""Limits of a face, and the queues in which each caller's calls wait for their turn instead of being refused.

Every caller has a line of its own, so that nobody stands behind somebody else's calls. Whoever is under its limits
never waits, and is not asked for the time unless there is a limit per second.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from ipaddress import ip_network
from typing import Final, Protocol, Self

from shared.http.errors import ResourceExhausted
from shared.identity.caller import ALL_USERS, Caller
from shared.settings import Settings

FULL: Final = "full"
LATE: Final = "late"
CAME: Final = "came"

_LINES: Final = 4096
"""Lines that are kept, beyond which those that nobody stands in are looked for."""


@dataclass(frozen=True)
class Limits:
    """What one call and one caller may take."""

    body: int = 10 * 1024 * 1024
    """Bytes of a body; a route may say otherwise."""
    seconds: float = 60.0
    """How long a call may take; a route may say otherwise."""
    at_once: int = 64
    """Calls of one caller that run beside each other."""
    streams_at_once: int = 512
    """The same for calls whose bodies are streamed: they take as long as the client's line is slow."""
    waiting: int = 1024
    """Calls of one caller that may wait; what comes beyond is refused as retryable."""
    wait_seconds: float = 30.0
    """How long a call waits at most."""
    per_second: float = 0.0
    """Calls of one caller that are begun in a second, in the long run; 0: as many as there are."""
    anonymous_per_second: float = 0.0
    """The same for calls from one address without a token."""
    burst_seconds: float = 10.0
    """How much of that may be used at once by who was quiet that long."""

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """What the settings of a process say."""
        return cls(
            at_once=settings.calls_at_once,
            streams_at_once=settings.calls_streamed,
            waiting=settings.calls_waiting,
            wait_seconds=settings.calls_wait_seconds,
            per_second=settings.calls_per_second,
            anonymous_per_second=settings.calls_per_second_anonymous,
        )

    def for_streams(self) -> Self:
        """The limits of calls whose bodies are streamed."""
        return replace(self, at_once=self.streams_at_once, per_second=0.0, anonymous_per_second=0.0)


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
    """One caller's calls."""

    spacing: float
    """Seconds between two calls in the long run; 0: they may come as they like."""
    running: int = 0
    waiting: deque[_Waiting] = field(default_factory=deque[_Waiting])
    due: float = 0.0
    """When the next call would come if all had come evenly: with how far this is ahead, what is left shrinks."""
    alarm: asyncio.TimerHandle | None = None


class _Caller:
    """A call without a task, which is told that its turn has come, or that it did not come in time."""

    __slots__ = ("_gone", "_loop", "_told", "_until", "_waits")

    def __init__(self, told: Callable[[bool], None], gone: Callable[["_Caller"], None], seconds: float) -> None:
        self._told = told
        self._gone = gone
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
        self._gone(self)
        self._told(False)  # noqa: FBT003 - as above


def queue_of(caller: Caller, ip: str) -> str:
    """In whose line a call stands: its caller's, or that of the address it comes from; of IPv6 its network counts."""
    return caller.member if not caller.anonymous else f"{caller.member} {_network(ip) if ':' in ip else ip}"


@lru_cache(maxsize=4096)
def _network(ip: str) -> str:
    """Who has one address of IPv6 usually has 2^64 of them."""
    try:
        return str(ip_network((ip.partition("%")[0], 64), strict=False))
    except ValueError:
        return ip


def _nobody(outcome: str) -> None:
    del outcome


class Turns:
    """Lets at most `at_once` calls of one caller run, and so many a second; the others wait in the order they came.

    A line is kept when nobody stands in it: it is cheaper than a new one, until there are too many.
    """

    def __init__(self, limits: Limits, waited: Callable[[str], None] = _nobody) -> None:
        """`waited` is told of each call that had to wait how that ended: `came`, `late`, or `full` at once."""
        self._limits = limits
        self._at_once = limits.at_once
        self._waited = waited
        self._lines: dict[str, _Line] = {}
        self._most_lines = _LINES

    async def take(self, who: str) -> None:
        """Wait for a turn, to be passed on. Raises ResourceExhausted when too many wait, or too long."""
        if not self.take_now(who):
            await self._wait(who, self._lines[who])

    def take_now(self, who: str) -> bool:
        """Take a turn if one is free."""
        line = self._lines.get(who)
        if line is None:
            line = self._open(who)
        if line.running >= self._at_once:
            return False
        if line.spacing and (line.waiting or not self._spend(line)):
            return False
        line.running += 1
        return True

    def take_later(self, who: str, told: Callable[[bool], None]) -> bool:
        """Wait without a task for a turn that was not free: `told` hears whether it came in time.

        False when too many wait already; then `told` is never called.
        """
        line = self._lines[who]
        if len(line.waiting) >= self._limits.waiting:
            self._waited(FULL)
            return False

        def hear(came: bool) -> None:  # noqa: FBT001 - what the queue tells
            self._waited(CAME if came else LATE)
            told(came)

        def gone(turn: _Caller) -> None:
            line.waiting.remove(turn)
            self._admit(who, line)

        line.waiting.append(_Caller(hear, gone, self._limits.wait_seconds))
        self._admit(who, line)
        return True

    def pass_on(self, who: str) -> None:
        """Give the turn to whoever waits longest."""
        line = self._lines[who]
        line.running -= 1
        if line.waiting:
            self._admit(who, line)

    def waiting(self) -> int:
        """How many calls wait now."""
        return sum(len(line.waiting) for line in self._lines.values())

    def lines(self) -> int:
        """How many callers are known of at the moment."""
        return len(self._lines)

    def _open(self, who: str) -> _Line:
        if len(self._lines) >= self._most_lines:
            self._forget_quiet_lines()
        limits = self._limits
        rate = limits.anonymous_per_second if who.startswith(ALL_USERS) else limits.per_second
        line = self._lines[who] = _Line(1 / rate if rate else 0.0)
        return line

    def _forget_quiet_lines(self) -> None:
        now = asyncio.get_running_loop().time()
        for who, line in list(self._lines.items()):
            if not line.running and not line.waiting and line.due <= now:
                del self._lines[who]
        self._most_lines = max(_LINES, 2 * len(self._lines))

    def _spend(self, line: _Line) -> bool:
        """Use up a call of what this second holds, if there is one."""
        now = asyncio.get_running_loop().time()
        if line.due > now + self._limits.burst_seconds:
            return False
        line.due = max(line.due, now) + line.spacing
        return True

    def _admit(self, who: str, line: _Line) -> None:
        """Let in who may come now."""
        while line.waiting and line.running < self._at_once:
            if line.waiting[0].done():
                line.waiting.popleft()
            elif line.spacing and not self._spend(line):
                self._wake_for(who, line)
                return
            else:
                line.running += 1
                line.waiting.popleft().set_result(None)

    def _wake_for(self, who: str, line: _Line) -> None:
        """Look again when the next call of a line in which calls wait may begin."""
        if line.alarm is None:
            loop = asyncio.get_running_loop()
            line.alarm = loop.call_at(line.due - self._limits.burst_seconds, self._woken, who, line)

    def _woken(self, who: str, line: _Line) -> None:
        line.alarm = None
        self._admit(who, line)

    async def _wait(self, who: str, line: _Line) -> None:
        if len(line.waiting) >= self._limits.waiting:
            self._waited(FULL)
            raise ResourceExhausted("Too many calls of this caller wait already.", retry_after=5)
        turn = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        self._admit(who, line)
        try:
            async with asyncio.timeout(self._limits.wait_seconds):
                await turn
        except BaseException as error:
            self._give_up(who, line, turn)
            if isinstance(error, TimeoutError):
                self._waited(LATE)
                raise ResourceExhausted("The calls before this one took too long.", retry_after=5) from error
            raise
        self._waited(CAME)

    def _give_up(self, who: str, line: _Line, turn: asyncio.Future[None]) -> None:
        if turn in line.waiting:
            line.waiting.remove(turn)
            self._admit(who, line)
        elif turn.done() and not turn.cancelled():
            self.pass_on(who)
