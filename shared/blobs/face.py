"""The face of the bucket: immutable objects by name, streamed both ways, never held whole in memory."""

from collections.abc import AsyncIterable, AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

PIECE = 256 * 1024
"""Bytes read or written at a time: memory is connections times piece."""


class BlobMissing(Exception):
    """There is no object of that name."""


class BlobExists(Exception):
    """A conditional create found the object there already; nothing was changed."""


class RangeInvalid(Exception):
    """The range begins beyond the end of the object."""


class StagingMoved(Exception):
    """The staged upload is at another offset than the caller thinks; `offset` is where it is."""

    def __init__(self, offset: int) -> None:
        """`offset` in bytes."""
        super().__init__(offset)
        self.offset = offset


class BucketUnavailable(Exception):
    """The bucket did not answer; retryable."""


class BucketFull(BucketUnavailable):
    """The bucket has no room for more bytes; retryable once it has, and nothing of what was sent takes any."""


@dataclass(frozen=True)
class Stat:
    """What is known of an object without reading it."""

    name: str
    size: int
    modified: float
    """Unix timestamp."""


class Blobs(Protocol):
    """A bucket. Names are made of segments of letters, digits and `._-=+@,!;$%`, joined by `/`.

    Each service may be given a view that ends at its own prefixes. Every method may raise BucketUnavailable.
    """

    @property
    def presigns(self) -> bool:
        """Whether `presigned` gives addresses."""
        ...

    @property
    def least_chunk(self) -> int:
        """Bytes from which on a chunk of a staged upload is stored just as it came; 0: any size is as good."""
        ...

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        """Store an object, durable on return, replacing an older one, and return its size.

        With `if_absent` raises BlobExists instead of replacing. When `body` raises, nothing is stored.
        """
        ...

    def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream an object, or its bytes from `start` to before `end`. Raises BlobMissing, RangeInvalid."""
        ...

    async def content(self, name: str, limit: int = 8 * 1024 * 1024) -> bytes:
        """A small object whole. Raises BlobMissing, ValueError when it is larger than `limit`."""
        ...

    async def stat(self, name: str) -> Stat:
        """Size and time of an object. Raises BlobMissing."""
        ...

    async def delete(self, name: str) -> None:
        """Remove an object; one that is not there is no error."""
        ...

    async def delete_all(self, names: Sequence[str]) -> None:
        """Remove several objects, in one request where the store has such a thing; after an error some may be gone."""
        ...

    def names(self, prefix: str, after: str = "") -> AsyncIterator[Stat]:
        """Objects whose names begin with `prefix`, in byte order of their names, behind `after`."""
        ...

    async def presigned(self, name: str, seconds: int) -> str | None:
        """An address from which anybody may read the object for a while; None where the store has no such thing."""
        ...

    def path(self, name: str) -> Path | None:
        """The file behind an object, for sendfile; None where there is none."""
        ...

    # Staged uploads: bytes that come in several requests, perhaps at several replicas, before their name is known.

    async def stage(self, upload: str) -> None:
        """Begin a staged upload of that id."""
        ...

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        """Add bytes at `offset`, which must be where the upload stands; returns the new offset, durable.

        Raises BlobMissing for an unknown upload, StagingMoved. When `body` raises, the bytes that came before are kept,
        and `staged` tells how many; where there is no room for all of them, none is.
        """
        ...

    async def staged(self, upload: str) -> int:
        """How many bytes an upload holds. Raises BlobMissing."""
        ...

    def staged_bytes(self, upload: str) -> AsyncIterator[bytes]:
        """The bytes that an upload holds, for hashing anew. Raises BlobMissing."""
        ...

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        """Make the staged bytes the object `name`, durable, and forget the upload; an object already there stays.

        With `size`, exactly so many bytes: whoever has hashed them must not commit what was added since. Done twice,
        the second time is no error as long as the object is there. Raises BlobMissing, StagingMoved.
        """
        ...

    async def abandon(self, upload: str) -> None:
        """Forget an upload and its bytes; an unknown one is no error."""
        ...

    def uploads(self) -> AsyncIterator[Stat]:
        """Staged uploads by id, for clearing old ones."""
        ...
