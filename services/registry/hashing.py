"""Running hashes of uploads, so that no byte is read twice while one replica takes them all."""

import hashlib
from collections import OrderedDict
from collections.abc import AsyncGenerator, AsyncIterable
from dataclasses import dataclass, field
from typing import Any

from services.registry.errors import DigestInvalid, SizeInvalid, UploadTooLarge
from shared.digest import Digest

MOST = 1024
"""Uploads whose hash is kept between two chunks; a forgotten one costs reading its bytes once more."""


@dataclass
class Running:
    """A hash of the first `offset` bytes of something."""

    algorithm: str
    hash: Any
    offset: int = 0

    @classmethod
    def begun(cls, algorithm: str) -> "Running":
        """Of no bytes."""
        return cls(algorithm, hashlib.new(algorithm))

    def update(self, piece: bytes) -> None:
        """More bytes."""
        self.hash.update(piece)
        self.offset += len(piece)

    @property
    def hex(self) -> str:
        """The digest so far; hashing goes on undisturbed."""
        return self.hash.copy().hexdigest()

    @property
    def digest(self) -> Digest:
        """The digest so far."""
        return Digest(f"{self.algorithm}:{self.hex}")


@dataclass(frozen=True)
class Hashes:
    """The running hashes of this replica, by upload; the oldest are forgotten first."""

    kept: OrderedDict[str, Running] = field(default_factory=OrderedDict[str, Running])

    def take(self, upload: str, algorithm: str, offset: int) -> Running | None:
        """The hash of an upload that stands at `offset`, which is the taker's now; None where it is not known."""
        found = self.kept.pop(upload, None)
        if found is not None and found.algorithm == algorithm and found.offset == offset:
            return found
        return Running.begun(algorithm) if offset == 0 else None

    def keep(self, upload: str, running: Running) -> None:
        """Remember a hash for the next chunk."""
        self.kept[upload] = running
        while len(self.kept) > MOST:
            self.kept.popitem(last=False)

    def forget(self, upload: str) -> None:
        """The upload is over."""
        self.kept.pop(upload, None)


async def hashed(
    pieces: AsyncIterable[bytes], running: Running | None, limit: int | None
) -> AsyncGenerator[bytes, None]:
    """The pieces as they come, hashed on the way; raises UploadTooLarge behind `limit` bytes."""
    size = 0
    async for piece in pieces:
        size += len(piece)
        if limit is not None and size > limit:
            raise UploadTooLarge(f"a blob may have at most {limit} bytes")
        if running is not None:
            running.update(piece)
        yield piece


async def verified(
    pieces: AsyncIterable[bytes], expected: Digest, limit: int | None, size: int | None = None
) -> AsyncGenerator[bytes, None]:
    """The pieces, and behind the last an error unless they were what was announced: whoever stores them stores nothing.

    Raises DigestInvalid, SizeInvalid, UploadTooLarge.
    """
    running = Running.begun(expected.algorithm)
    async for piece in hashed(pieces, running, limit):
        yield piece
    if size is not None and running.offset != size:
        raise SizeInvalid(f"{running.offset} bytes came, {size} were announced")
    if running.digest != expected:
        raise DigestInvalid(f"the content has the digest {running.digest}, not {expected}")
