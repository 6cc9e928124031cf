"""A build's log: told live in batches, kept in pieces while the build runs, whole at its end."""

import asyncio
from collections.abc import AsyncIterator

from shared.blobs import Blobs
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


def _piece_object(project: str, build: str, attempt: int, offset: int) -> str:
    return f"builder/logs/{project}/{build}/pieces/{attempt:04d}-{offset:012d}"


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
        self._offset = 0
        self._flushing = asyncio.Lock()

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
            await self.flush()

    async def flush(self) -> None:
        """Tell and keep what waits."""
        async with self._flushing:
            while self._waiting:
                piece = bytes(self._waiting[:BATCH])
                del self._waiting[:BATCH]
                name = _piece_object(self._project, self._build, self._attempt, self._offset)
                await self._blobs.put(name, piece)
                text = piece.decode(errors="replace")
                event = BuildLog(project=self._project, build=self._build, offset=self._offset, text=text)
                self._journal.note(
                    [event], Cause(f"{self._cause.id}/log/{self._attempt}/{self._offset}", self._cause.actor)
                )
                self._offset += len(piece)

    async def close(self) -> str:
        """Put the pieces together into one object and return its name."""
        await self.flush()
        name = log_object(self._project, self._build)
        await self._blobs.put(name, read_pieces(self._blobs, self._project, self._build))
        async for piece in self._blobs.names(f"builder/logs/{self._project}/{self._build}/pieces/"):
            await self._blobs.delete(piece.name)
        return name


async def read_pieces(blobs: Blobs, project: str, build: str) -> AsyncIterator[bytes]:
    """What there is of the log of a build that still runs, oldest first."""
    async for piece in blobs.names(f"builder/logs/{project}/{build}/pieces/"):
        async for part in blobs.read(piece.name):
            yield part
