"""The journal in memory: for tests, for simulation and for a service that is tried alone."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.bus import BusUnavailable, Message, Publisher, StreamFull
from shared.clock import Clock, rfc3339
from shared.events import Cause, Event
from shared.journal.numbering import numbered

BATCH = 64
RETRY_SECONDS = 1.0


@dataclass
class Pages:
    """What is written: it stays when the journal's process dies, as a disk would."""

    number: int = 0
    sequences: dict[str, int] = field(default_factory=dict[str, int])
    waiting: dict[str, list[Message]] = field(default_factory=dict[str, list[Message]])
    """By stream."""


class MemoryJournal:
    """The journal's face over `Pages`."""

    def __init__(self, producer: str, publisher: Publisher, clock: Clock, pages: Pages | None = None) -> None:
        """`producer` names service and journal, such as `registry/1`."""
        self.pages = pages or Pages()
        self._producer = producer
        self._publisher = publisher
        self._clock = clock
        self._more = asyncio.Event()

    def note(self, events: Sequence[Event], cause: Cause) -> None:
        """Write without waiting."""
        for event in events:
            self._write(event, cause)
        self._more.set()

    async def keep(self, events: Sequence[Event], cause: Cause) -> None:
        """Write durably."""
        self.note(events, cause)

    async def run(self) -> None:
        """Tell the bus, stream by stream, for ever."""
        while True:
            self._more.clear()
            told = [await self._tell(stream) for stream in list(self.pages.waiting)]
            if all(told):
                await self._more.wait()
            else:
                await self._clock.sleep(RETRY_SECONDS)

    async def _tell(self, stream: str) -> bool:
        waiting, size = self.pages.waiting[stream], BATCH
        while waiting:
            batch = waiting[:size]
            try:
                await self._publisher.publish(batch)
            except (BusUnavailable, StreamFull) as error:
                if isinstance(error, BusUnavailable) or len(batch) == 1:
                    return False
                size = len(batch) // 2  # the stream has no room for so many, but may take fewer
                continue
            del waiting[: len(batch)]
        return True

    def _write(self, event: Event, cause: Cause) -> None:
        pages = self.pages
        made = numbered(
            event, producer=self._producer, number=pages.number + 1, cause=cause, time=rfc3339(self._clock.now())
        )
        counter = f"{made.topic}|{made.project}"
        pages.number += 1
        pages.sequences[counter] = pages.sequences.get(counter, 0) + 1
        message = Message(made.id, made.subject, made.finished(pages.sequences[counter], 0))
        pages.waiting.setdefault(made.stream, []).append(message)
