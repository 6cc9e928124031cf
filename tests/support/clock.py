"""A clock that a test moves, and ids that come in order."""

import asyncio
import hashlib
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

EPOCH = 1_790_000_000.0


class FakeClock:
    """Time stands still until `advance`; sleeps of less than a tenth of a second are real ones."""

    def __init__(self, now: float = EPOCH) -> None:
        self._now = now
        self._passed = 0.0
        self._sleepers: list[tuple[float, asyncio.Future[None]]] = []

    def now(self) -> float:
        return self._now + self._passed

    def monotonic(self) -> float:
        return self._passed

    async def sleep(self, seconds: float) -> None:
        if seconds < 0.1:
            await asyncio.sleep(seconds)
            self._passed += seconds
            return
        waiting = asyncio.get_running_loop().create_future()
        self._sleepers.append((self._passed + seconds, waiting))
        await waiting

    async def advance(self, seconds: float) -> None:
        """Let time pass, wake who slept until then, and let them run."""
        self._passed += seconds
        due = [waiting for until, waiting in self._sleepers if until <= self._passed]
        self._sleepers = [(until, waiting) for until, waiting in self._sleepers if until > self._passed]
        for waiting in due:
            if not waiting.done():
                waiting.set_result(None)
        for _ in range(10):
            await asyncio.sleep(0)


class SeededIds:
    """Ids and secrets that are the same in every run with the same seed."""

    def __init__(self, seed: str = "") -> None:
        self._seed = seed
        self._given = 0

    def new(self) -> str:
        self._given += 1
        return f"{self._given:012x}{hashlib.sha256(f'{self._seed}{self._given}'.encode()).hexdigest()[:20]}"

    def secret(self, size: int) -> bytes:
        return b"".join(bytes.fromhex(self.new()) for _ in range(size // 16 + 1))[-size:] if size else b""


async def at_once(work: Callable[[], T]) -> T:
    """A Cpu that computes where it stands."""
    return work()
