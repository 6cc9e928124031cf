"""Time, ids and randomness as things that are handed in, so that a seeded run repeats exactly."""

import asyncio
import os
import secrets
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Protocol, TypeVar

T = TypeVar("T")

_AT_ONCE = 256
"""Ids whose random bits are asked for together."""


class Clock(Protocol):
    """Where a service reads the time; both kinds are in seconds."""

    def now(self) -> float:
        """Wall time as a Unix timestamp; it may jump."""
        ...

    def monotonic(self) -> float:
        """Time that never goes back and keeps counting while the machine sleeps; for leases and deadlines."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Ids(Protocol):
    """Where a service gets ids and secrets from."""

    def new(self) -> str:
        """A fresh id of 32 hexadecimal digits, unique but not secret."""
        ...

    def secret(self, size: int) -> bytes:
        """`size` unpredictable bytes."""
        ...


class Cpu(Protocol):
    """Runs a blocking or long computation without holding up the event loop."""

    async def __call__(self, work: Callable[[], T]) -> T:
        """Run `work` and return what it returned."""
        ...


class SystemClock:
    """The machine's clock."""

    def now(self) -> float:
        """Wall time as a Unix timestamp."""
        return time.time()

    def monotonic(self) -> float:
        """CLOCK_BOOTTIME: the plain monotonic clock stands still while a machine sleeps, and a lease must not."""
        return time.clock_gettime(time.CLOCK_BOOTTIME)

    async def sleep(self, seconds: float) -> None:
        """Wait on the running event loop."""
        await asyncio.sleep(seconds)


class SystemIds:
    """Ids from the operating system's random source, of which ids take a handful at a time: each asking costs."""

    def __init__(self) -> None:
        self._fresh: list[str] = []

    def new(self) -> str:
        """Time first, so that ids sort by age: 48 bits of milliseconds, 80 random bits."""
        try:
            fresh = self._fresh.pop()  # no two threads get the same
        except IndexError:
            fresh = self._more()
        return f"{int(time.time() * 1000):012x}{fresh}"

    def _more(self) -> str:
        many = os.urandom(10 * _AT_ONCE).hex()
        first, *rest = (many[start : start + 20] for start in range(0, len(many), 20))
        self._fresh += rest
        return first

    def secret(self, size: int) -> bytes:
        """Bytes for keys and tokens."""
        return secrets.token_bytes(size)


async def in_a_thread(work: Callable[[], T]) -> T:
    """The `Cpu` of a real process."""
    return await asyncio.to_thread(work)


def rfc3339(timestamp: float) -> str:
    """A Unix timestamp as Google's JSON and CloudEvents write it: UTC, microseconds, `Z`."""
    return datetime.fromtimestamp(timestamp, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
