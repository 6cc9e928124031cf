"""Snapshots as objects: pieces of bounded size, and last the object that names them, without which none counts."""

import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

from pydantic import BaseModel, ConfigDict, ValidationError

from services.registry.rebuilding import rows
from services.registry.rebuilding.rows import Row
from shared.blobs import BlobMissing, Blobs

FOLDER = "registry/snapshots/"
FORMAT = 1
KEPT = 2
"""Whole snapshots that stay: the newest, and one in case a piece of it cannot be read."""
PIECE_BYTES = 1024 * 1024
_LARGEST_PIECE = 64 * 1024 * 1024
"""A row may be larger than a piece is meant to be."""
_LARGEST_NAMING = 256 * 1024 * 1024
_NAMING = "whole.json"


class Piece(BaseModel):
    """One object with rows."""

    model_config = ConfigDict(frozen=True)

    name: str
    size: int
    sha256: str


class Whole(BaseModel):
    """What names the pieces of a snapshot, in their order."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int = FORMAT
    id: str
    location: str
    begun: float
    """Unix timestamp: what was said before is in it."""
    ended: float
    fingerprint: str
    """Of the numbers of what was said: the same where nothing has changed."""
    rows: dict[str, int]
    """How many of each kind."""
    pieces: tuple[Piece, ...]


@dataclass
class Writing:
    """A snapshot that is being written."""

    blobs: Blobs
    id: str
    rows: dict[str, int] = field(default_factory=dict[str, int])
    pieces: list[Piece] = field(default_factory=list[Piece])
    buffered: list[bytes] = field(default_factory=list[bytes])
    size: int = 0

    async def add(self, row: Row) -> None:
        """Take a row; a piece that is full goes to the bucket."""
        line = rows.written(row)
        self.rows[row.kind] = self.rows.get(row.kind, 0) + 1
        self.buffered.append(line)
        self.size += len(line)
        if self.size >= PIECE_BYTES:
            await self.flush()

    async def flush(self) -> None:
        """Store what is buffered."""
        if not self.buffered:
            return
        content = b"".join(self.buffered)
        self.buffered, self.size = [], 0
        name = f"{FOLDER}{self.id}/{len(self.pieces):08d}.ndjson"
        await self.blobs.put(name, content)
        self.pieces.append(Piece(name=name, size=len(content), sha256=hashlib.sha256(content).hexdigest()))


@dataclass(frozen=True)
class Shelf:
    """All snapshots of one deployment."""

    blobs: Blobs
    location: str

    async def finish(self, writing: Writing, begun: float, ended: float, fingerprint: str) -> Whole:
        """Make a snapshot count."""
        await writing.flush()
        whole = Whole(
            id=writing.id,
            location=self.location,
            begun=begun,
            ended=ended,
            fingerprint=fingerprint,
            rows=writing.rows,
            pieces=tuple(writing.pieces),
        )
        await self.blobs.put(f"{FOLDER}{whole.id}/{_NAMING}", whole.model_dump_json().encode())
        return whole

    async def whole_ones(self) -> AsyncIterator[Whole]:
        """The snapshots that were finished, newest first. Whether their pieces are sound is not looked at."""
        for name in sorted([name async for name in self._names() if name.endswith(f"/{_NAMING}")], reverse=True):
            try:
                whole = Whole.model_validate_json(await self.blobs.content(name, _LARGEST_NAMING))
            except (BlobMissing, ValidationError, ValueError):
                continue
            if whole.format == FORMAT and whole.location == self.location:
                yield whole

    async def newest(self) -> Whole | None:
        """The newest one that was finished."""
        async for whole in self.whole_ones():
            return whole
        return None

    async def newest_sound(self) -> Whole | None:
        """The newest one all of whose pieces are there, unchanged."""
        async for whole in self.whole_ones():
            if all([await self._sound(piece) for piece in whole.pieces]):
                return whole
        return None

    async def read(self, whole: Whole) -> AsyncIterator[Row]:
        """The rows of a snapshot, a piece at a time."""
        for piece in whole.pieces:
            content = await self.blobs.content(piece.name, _LARGEST_PIECE)
            for line in content.splitlines():
                yield rows.parse(line)

    async def prune(self) -> int:
        """Remove all but the newest finished ones; how many objects went. Only for who may write, and is alone."""
        kept = [whole.id async for whole in self.whole_ones()][:KEPT]
        doomed = [name async for name in self._names() if _id_in(name) not in kept]
        # What names the pieces goes first: a snapshot without some of them must not look finished.
        for name in sorted(doomed, key=lambda name: not name.endswith(f"/{_NAMING}")):
            await self.blobs.delete(name)
        return len(doomed)

    async def _names(self) -> AsyncIterator[str]:
        async for stat in self.blobs.names(FOLDER):
            yield stat.name

    async def _sound(self, piece: Piece) -> bool:
        try:
            content = await self.blobs.content(piece.name, _LARGEST_PIECE)
        except (BlobMissing, ValueError):
            return False
        return hashlib.sha256(content).hexdigest() == piece.sha256


def _id_in(name: str) -> str:
    return name.removeprefix(FOLDER).partition("/")[0]
