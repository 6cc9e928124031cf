"""The bucket in memory: for tests, for simulation and for a service that is tried alone; gone when the process ends."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from shared.blobs.face import PIECE, BlobExists, BlobMissing, RangeInvalid, StagingMoved, Stat
from shared.blobs.names import checked, checked_upload


@dataclass(frozen=True)
class _Object:
    content: bytes
    modified: float


@dataclass
class _Upload:
    content: bytearray
    modified: float


@dataclass
class MemoryBucket:
    """What all services share; each looks at it through a `MemoryBlobs` of its own."""

    objects: dict[str, _Object] = field(default_factory=dict[str, _Object])
    uploads: dict[str, _Upload] = field(default_factory=dict[str, _Upload])


class MemoryBlobs:
    """The blobs face over a `MemoryBucket`; every change happens in one loop round, without an await."""

    presigns = False
    least_chunk = 0

    def __init__(self, now: Callable[[], float], bucket: MemoryBucket | None = None) -> None:
        """`now` gives the wall time that objects are stamped with."""
        self.bucket = bucket or MemoryBucket()
        self._now = now

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        """Store an object once its body has come whole."""
        checked(name)
        content = body if isinstance(body, bytes) else b"".join([piece async for piece in body])
        if if_absent and name in self.bucket.objects:
            raise BlobExists(name)
        self.bucket.objects[name] = _Object(content, self._now())
        return len(content)

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream an object or a range of it."""
        content = self._object(name).content
        if start > 0 and start >= len(content):
            raise RangeInvalid(name)
        stop = len(content) if end is None else min(end, len(content))
        for offset in range(start, stop, PIECE):
            yield content[offset : min(offset + PIECE, stop)]

    async def content(self, name: str, limit: int = 8 * 1024 * 1024) -> bytes:
        """A small object whole."""
        content = self._object(name).content
        if len(content) > limit:
            raise ValueError(f"{name} is larger than {limit} bytes")
        return content

    async def stat(self, name: str) -> Stat:
        """Size and time of an object."""
        found = self._object(name)
        return Stat(name, len(found.content), found.modified)

    async def delete(self, name: str) -> None:
        """Remove an object."""
        self.bucket.objects.pop(checked(name), None)

    async def delete_all(self, names: Sequence[str]) -> None:
        """Remove several objects."""
        for name in names:
            self.bucket.objects.pop(checked(name), None)

    async def names(self, prefix: str, after: str = "") -> AsyncIterator[Stat]:
        """Objects by prefix, in byte order; one made or removed meanwhile may or may not be among them."""
        for name in sorted(self.bucket.objects, key=str.encode):
            found = self.bucket.objects.get(name)
            if found is not None and name.startswith(prefix) and name.encode() > after.encode():
                yield Stat(name, len(found.content), found.modified)

    async def presigned(self, name: str, seconds: int) -> str | None:
        """There is no such address."""
        del name, seconds

    def path(self, name: str) -> Path | None:
        """There is no such file."""
        del name

    async def stage(self, upload: str) -> None:
        """Begin a staged upload; one that is there already stays as it is."""
        self.bucket.uploads.setdefault(checked_upload(upload), _Upload(bytearray(), self._now()))

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        """Add bytes at `offset`; another append that comes between moves the upload away from this one."""
        expected = offset
        self._at(upload, expected)
        async for piece in body:
            found = self._at(upload, expected)
            found.content += piece
            found.modified = self._now()
            expected += len(piece)
        return expected

    async def staged(self, upload: str) -> int:
        """How many bytes an upload holds."""
        return len(self._upload(upload).content)

    async def staged_bytes(self, upload: str) -> AsyncIterator[bytes]:
        """The bytes that an upload holds."""
        content = bytes(self._upload(upload).content)
        for offset in range(0, len(content), PIECE):
            yield content[offset : offset + PIECE]

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        """Make the staged bytes an object."""
        checked(name)
        staged = self.bucket.uploads.get(checked_upload(upload))
        if staged is not None and size not in {None, len(staged.content)}:
            raise StagingMoved(len(staged.content))
        found = self.bucket.uploads.pop(checked_upload(upload), None)
        if found is None and name not in self.bucket.objects:
            raise BlobMissing(upload)
        if found is not None:
            self.bucket.objects.setdefault(name, _Object(bytes(found.content), self._now()))

    async def abandon(self, upload: str) -> None:
        """Forget an upload."""
        self.bucket.uploads.pop(checked_upload(upload), None)

    async def uploads(self) -> AsyncIterator[Stat]:
        """Staged uploads by id."""
        for upload, found in sorted(self.bucket.uploads.items()):
            yield Stat(upload, len(found.content), found.modified)

    async def close(self) -> None:
        """There is nothing to give back."""

    def _object(self, name: str) -> _Object:
        found = self.bucket.objects.get(checked(name))
        if found is None:
            raise BlobMissing(name)
        return found

    def _upload(self, upload: str) -> _Upload:
        found = self.bucket.uploads.get(checked_upload(upload))
        if found is None:
            raise BlobMissing(upload)
        return found

    def _at(self, upload: str, offset: int) -> _Upload:
        found = self._upload(upload)
        if len(found.content) != offset:
            raise StagingMoved(len(found.content))
        return found
