"""One ledger of a journal: the entries of one stream, from the moment they are noted until the bus has them."""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from shared.bus import BusUnavailable, Message, Publisher, StreamFull
from shared.clock import Clock, Cpu, rfc3339
from shared.endings import called_off
from shared.events import Cause, Event
from shared.journal.face import JournalFull, JournalUnavailable
from shared.journal.files import SegmentFiles
from shared.journal.numbering import numbered
from shared.journal.segments import Entry, Header, Record, Rest

BATCH = 64
LOSS_SECONDS = 0.1
"""What is noted without waiting is on disk after this time."""
REST_SECONDS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Means:
    """What every ledger of a journal works with."""

    publisher: Publisher
    clock: Clock
    cpu: Cpu
    limit: int
    """How many bytes may wait for the bus."""


@dataclass
class _Waiter:
    number: int
    written: "asyncio.Future[None]" = field(default_factory=lambda: asyncio.get_running_loop().create_future())


class Ledger:
    """Numbers, writes and tells the events of one stream."""

    def __init__(self, files: SegmentFiles, producer: str, means: Means) -> None:
        """Reads what an earlier process left in `files`. Raises OSError."""
        self._files = files
        self._producer = producer
        self._publisher, self._clock, self._cpu = means.publisher, means.clock, means.cpu
        self._limit = means.limit
        self._buffer: list[Entry] = []
        self._waiters: list[_Waiter] = []
        self._wanted, self._urgent, self._more = asyncio.Event(), asyncio.Event(), asyncio.Event()
        self._writing: asyncio.Future[None] | None = None
        self._stopped = False
        self.dropped = 0
        self._recover()

    def _recover(self) -> None:
        found = self._files.recover()
        self._number, self._sequences = found.number, found.sequences
        self._acknowledged = min(found.acknowledged, found.number)
        self._waiting, self._rested = found.waiting, True
        if not found.rested:
            # What was noted last may be missing, so every sequence leaves a number out: who counts them sees it.
            log.warning("journal was not closed", torn_bytes=found.torn, last_number=found.number)
            self._number += 1
            self._sequences = {counter: sequence + 1 for counter, sequence in self._sequences.items()}
        self._written = dict(self._sequences)
        self._written_number = self._number
        self._more.set()

    @property
    def waiting(self) -> int:
        """Bytes that wait for the bus."""
        return self._waiting

    def note(self, event: Event, cause: Cause, *, must: bool) -> int:
        """Take an event; returns its number. Where there is no room it is dropped; if it must be kept, JournalFull."""
        made = numbered(
            event, producer=self._producer, number=self._number + 1, cause=cause, time=rfc3339(self._clock.now())
        )
        full = self._waiting >= self._limit
        if full and must:
            raise JournalFull(f"{self._waiting} bytes wait for the bus")
        counter = f"{made.topic}|{made.project}"
        self._number += 1
        self._sequences[counter] = sequence = self._sequences.get(counter, 0) + 1
        if full:
            self.dropped += 1
            return self._number
        entry = Entry(self._number, made.id, made.subject, counter, sequence, made.finished(sequence, 0))
        self._buffer.append(entry)
        self._waiting += len(entry.content)
        self._wanted.set()
        return self._number

    async def written(self, number: int) -> None:
        """Wait until the entry is durable. Raises JournalUnavailable."""
        if self._stopped:
            raise JournalUnavailable("the journal is closed")
        waiter = _Waiter(number)
        self._waiters.append(waiter)
        self._urgent.set()
        await waiter.written

    async def run(self) -> None:
        """Write and tell, until cancelled; then write what is left."""
        loops = [asyncio.create_task(self._write_for_ever()), asyncio.create_task(self._tell_for_ever())]
        try:
            await asyncio.gather(*loops)
        finally:
            await called_off(loops)
            await self._close()

    # Writing.

    async def _write_for_ever(self) -> None:
        while True:
            await self._until_wanted()
            if not self._waiters:
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOSS_SECONDS):
                        await self._urgent.wait()
            # Finished also when this loop is cancelled: what a thread writes cannot be called back.
            self._writing = asyncio.ensure_future(self._write())
            await asyncio.shield(self._writing)

    async def _until_wanted(self) -> None:
        if not self._rested:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REST_SECONDS):
                    await self._wanted.wait()
                    return
            await self._rest()
        await self._wanted.wait()

    async def _write(self) -> None:
        """All that was noted in one write and one fsync."""
        entries, self._buffer = self._buffer, []
        self._wanted.clear()
        self._urgent.clear()
        self._rested = False
        try:
            await self._append(entries)
        except OSError as error:
            log.error("journal cannot be written", reason=str(error))  # noqa: TRY400 - the reason says it all
            self._buffer = entries + self._buffer
            self._settle(self._number, JournalUnavailable(str(error)))
            self._wanted.set()
            await self._clock.sleep(_LONGEST_PAUSE / 10)
            return
        self._more.set()

    async def _append(self, written: Sequence[Record]) -> None:
        header = Header(number=self._written_number, sequences=self._written) if self._files.wants_header else None
        await self._cpu(lambda: self._files.append(written, header))
        for record in written:
            if isinstance(record, Entry):
                self._written[record.counter] = record.sequence
                self._written_number = record.number
        self._settle(self._written_number, None)

    async def _rest(self) -> None:
        with contextlib.suppress(OSError):
            await self._append([Rest()])
            self._rested = True

    def _settle(self, number: int, error: Exception | None) -> None:
        settled = [waiter for waiter in self._waiters if waiter.number <= number]
        self._waiters = [waiter for waiter in self._waiters if waiter.number > number]
        for waiter in settled:
            if waiter.written.done():
                continue
            if error is None:
                waiter.written.set_result(None)
            else:
                waiter.written.set_exception(error)

    async def _close(self) -> None:
        if self._writing is not None:
            await asyncio.gather(self._writing, return_exceptions=True)
        self._stopped = True
        with contextlib.suppress(OSError):
            await self._append([*self._buffer, Rest()])
        self._settle(self._number, JournalUnavailable("the journal is closed"))
        self._files.close()

    # Telling.

    async def _tell_for_ever(self) -> None:
        pause = _FIRST_PAUSE
        while True:
            self._more.clear()
            try:
                while entries := await self._cpu(lambda: self._files.behind(self._acknowledged)):
                    await self._tell(entries)
                    pause = _FIRST_PAUSE
            except (BusUnavailable, StreamFull, OSError) as error:
                log.warning("journal waits", reason=f"{type(error).__name__}: {error}", waiting_bytes=self._waiting)
                await self._clock.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
                continue
            await self._more.wait()

    async def _tell(self, entries: Sequence[Entry]) -> None:
        size = BATCH
        while entries:
            batch = entries[:size]
            try:
                await self._publisher.publish([Message(entry.id, entry.subject, entry.content) for entry in batch])
            except StreamFull:
                if len(batch) == 1:
                    raise
                size = len(batch) // 2  # the stream has no room for so many, but may take fewer
                continue
            entries = entries[len(batch) :]
            self._acknowledged = batch[-1].number
            self._waiting = max(0, self._waiting - sum(len(entry.content) for entry in batch))
        await self._cpu(lambda: self._files.acknowledge(self._acknowledged))
