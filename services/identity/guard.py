"""Against guessing: wrong credentials are answered later and later, and never by more than a few seconds."""

from collections import OrderedDict
from dataclasses import dataclass
from typing import Final

from shared.clock import Clock
from shared.http.errors import ResourceExhausted

LONGEST: Final = 3.0
_FIRST: Final = 0.1
_FREE: Final = 3
"""Mistakes that cost nothing."""
_FORGOTTEN: Final = 300.0
_SOURCES: Final = 10_000
_WAITING: Final = 16
"""How many wrong answers one source may have pending; more are refused at once."""


@dataclass
class _Source:
    failures: int = 0
    waiting: int = 0
    last: float = 0.0


class Guard:
    """Counts what failed, by source. Who has the right credentials never waits."""

    def __init__(self, clock: Clock) -> None:
        """`clock` for waiting and forgetting."""
        self._clock = clock
        self._sources: OrderedDict[str, _Source] = OrderedDict()

    async def failed(self, source: str) -> None:
        """Count a failure, and wait as long as it has to. Raises ResourceExhausted where too many wait already."""
        found = self._source(source)
        found.failures += 1
        if found.waiting >= _WAITING:
            raise ResourceExhausted("Too many failed logins; wait a moment.", retry_after=int(LONGEST))
        if found.failures <= _FREE:
            return
        found.waiting += 1
        try:
            await self._clock.sleep(min(_FIRST * 2 ** min(found.failures - _FREE, 10), LONGEST))
        finally:
            found.waiting -= 1

    def _source(self, source: str) -> _Source:
        found = self._sources.setdefault(source, _Source())
        now = self._clock.monotonic()
        if now - found.last > _FORGOTTEN:
            found.failures = 0
        found.last = now
        self._sources.move_to_end(source)
        if len(self._sources) > _SOURCES:
            self._sources.popitem(last=False)
        return found
