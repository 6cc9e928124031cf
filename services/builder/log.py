"""A build's log: told live in batches, kept in pieces while the build runs, whole at its end."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress

from shared.blobs import BlobMissing, Blobs, BucketUnavailable, RangeInvalid
from shared.clock import Clock
from shared.events import Cause
from shared.events.builds import BuildLog
from shared.journal import Journal

BATCH = 32 * 1024
"""Bytes of one event and of one piece at the most."""
EVERY = 0.2
"""Seconds after which a smaller batch is told."""
MAX_BYTES = 256 * 1024 * 1024
CUT = b"\n[the log is over its limit; what follows was not kept]\n"


def log_object(project: str, build: str) -> str:
    """The object with the whole log."""
    return f"builder/logs/{project}/{build}/log"


def _pieces_of(project: str, build: str) -> str:
    return f"builder/logs/{project}/{build}/pieces/"


class Log:
    """Takes lines of all steps as they come and lets them go in batches."""

    def __init__(self, blobs: Blobs, journal: Journal, clock: Clock, place: tuple[str, str, int], cause: Cause) -> None:
        """`place` is project, build and attempt."""
        self._blobs = blobs
        self._journal = journal
        self._clock = clock
        self._project, self._build, self._attempt = place
        self._cause = cause
        self._waiting = bytearray()
        self._going = b""
        """The piece that is on its way: the same under its name, however often it has to be sent."""
        self._offset = 0
        self._flushing = asyncio.Lock()

    async def begin(self) -> None:
        """Forget what an earlier attempt put together that died at its very end: this one has more to say."""
        if self._attempt > 1:
            await self._blobs.delete(log_object(self._project, self._build))

    def write(self, step: str, line: bytes) -> None:
        """Add one line, without its end; it is told at the next flush."""
        if self._offset + len(self._waiting) >= MAX_BYTES:
            if not self._waiting.endswith(CUT) and self._offset < MAX_BYTES + len(CUT):
                self._waiting += CUT
            return
        prefix = f"{step}: ".encode() if step else b""
        self._waiting += prefix + line + b"\n"

    async def run(self) -> None:
        """Flush from time to time; cancelled at the end of the build."""
        while True:
            await self._clock.sleep(EVERY)
            with suppress(BucketUnavailable):  # what waits waits on
                await self.flush()

    async def flush(self) -> None:
        """Tell and keep what waits; what is not kept, because the bucket is away or nobody waits for it, waits on."""
        async with self._flushing:
            while piece := self._going or bytes(self._waiting[:BATCH]):
                self._going = piece
                name = f"{_pieces_of(self._project, self._build)}{self._attempt:04d}-{self._offset:012d}"
                await self._blobs.put(name, piece)
                del self._waiting[: len(piece)]
                self._going = b""
                text = piece.decode(errors="replace")
                event = BuildLog(project=self._project, build=self._build, offset=self._offset, text=text)
                self._journal.note(
                    [event], Cause(f"{self._cause.id}/log/{self._attempt}/{self._offset}", self._cause.actor)
                )
                self._offset += len(piece)

    async def close(self) -> str:
        """Put the pieces together into one object and return its name.

        The pieces go the last one first: whoever reads them meanwhile finds how the log begins, or all of it.
        """
        await self.flush()
        name = log_object(self._project, self._build)
        await self._blobs.put(name, _pieces(self._blobs, self._project, self._build))
        pieces = [piece.name async for piece in self._blobs.names(_pieces_of(self._project, self._build))]
        for piece in reversed(pieces):
            await self._blobs.delete(piece)
        return name


async def read_so_far(blobs: Blobs, project: str, build: str) -> AsyncIterator[bytes]:
    """What there is of the log of a build that still runs, oldest first; all of it where the build ends meanwhile."""
    told = 0
    with suppress(BlobMissing):
        async for part in _pieces(blobs, project, build):
            told += len(part)
            yield part
    with suppress(BlobMissing, RangeInvalid):
        async for part in blobs.read(log_object(project, build), told):
            yield part


async def _pieces(blobs: Blobs, project: str, build: str) -> AsyncIterator[bytes]:
    async for piece in blobs.names(_pieces_of(project, build)):
        async for part in blobs.read(piece.name):
            yield part
