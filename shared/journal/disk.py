"""The journal on disk: a ledger for each stream, so that a full stream stops only its own."""

import asyncio
import fcntl
import os
import re
from collections.abc import Sequence
from pathlib import Path

from shared.bus import Publisher
from shared.clock import Clock, Cpu, Ids
from shared.events import Cause, Event
from shared.journal.files import SegmentFiles
from shared.journal.ledger import Ledger, Means

LIMIT_BYTES = 256 * 1024 * 1024

_NAME = re.compile(r"[0-9a-z]{1,32}")


class JournalTaken(Exception):
    """Another process writes this journal."""


class DiskJournal:
    """The journal's face over a folder of one's own.

    The folder keeps the journal's name, which makes it a producer beside its service: `registry/3f0c…`. A replica that
    starts with an empty folder is a new producer, whose sequences begin at 1.
    """

    def __init__(  # noqa: PLR0913 - the parts of a service, handed in
        self,
        folder: Path,
        service: str,
        publisher: Publisher,
        *,
        clock: Clock,
        ids: Ids,
        cpu: Cpu,
        limit: int = LIMIT_BYTES,
    ) -> None:
        """Reads what an earlier process left. `limit` bytes of a stream may wait. Raises JournalTaken, OSError."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._lock = _lock(folder)
        self.producer = f"{service}/{_name(folder, ids)}"
        self._means = Means(publisher, clock, cpu, limit)
        self._ledgers: dict[str, Ledger] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._end: asyncio.Future[None] | None = None
        for path in sorted(path for path in folder.iterdir() if path.is_dir()):
            self._ledger(path.name)

    def note(self, events: Sequence[Event], cause: Cause) -> None:
        """Write without waiting."""
        for event in events:
            self._ledger(event.stream).note(event, cause, must=False)

    async def keep(self, events: Sequence[Event], cause: Cause) -> None:
        """Write, and return when it is durable. Raises JournalFull, JournalUnavailable."""
        numbers = {event.stream: self._ledger(event.stream).note(event, cause, must=True) for event in events}
        for stream, number in numbers.items():
            await self._ledger(stream).written(number)

    async def run(self) -> None:
        """Write and tell until cancelled; then write what is left and close."""
        self._end = asyncio.get_running_loop().create_future()
        for stream in self._ledgers:
            self._start(stream)
        try:
            await self._end
        finally:
            tasks = list(self._tasks.values())
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            os.close(self._lock)

    def waiting(self) -> float:
        """Bytes that wait for the bus; wants an alarm."""
        return float(sum(ledger.waiting for ledger in self._ledgers.values()))

    def dropped(self) -> float:
        """Notes that a full journal dropped."""
        return float(sum(ledger.dropped for ledger in self._ledgers.values()))

    def _ledger(self, stream: str) -> Ledger:
        if stream not in self._ledgers:
            files = SegmentFiles(self._folder / stream)
            self._ledgers[stream] = Ledger(files, self.producer, self._means)
            if self._end is not None:
                self._start(stream)
        return self._ledgers[stream]

    def _start(self, stream: str) -> None:
        task = self._tasks[stream] = asyncio.create_task(self._ledgers[stream].run())
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A ledger that fails takes the journal down with it, and so the process: nothing is lost unseen."""
        error = None if task.cancelled() else task.exception()
        if error is not None and self._end is not None and not self._end.done():
            self._end.set_exception(error)


def _lock(folder: Path) -> int:
    lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise JournalTaken(f"{folder} is written by another process") from None
    return lock


def _name(folder: Path, ids: Ids) -> str:
    path = folder / "name"
    if path.exists() and _NAME.fullmatch(path.read_text()):
        return path.read_text()
    new = path.with_suffix(".new")
    new.write_text(ids.new())
    new.replace(path)
    return path.read_text()
