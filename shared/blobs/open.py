"""Opens the bucket that the settings name."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from shared.blobs.directory import DirectoryBlobs
from shared.blobs.face import Blobs
from shared.blobs.memory import MemoryBlobs
from shared.clock import Clock


class Bucket(Blobs, Protocol):
    """A bucket that somebody opened and closes."""

    async def close(self) -> None:
        """Give back threads and connections."""
        ...


@dataclass(frozen=True)
class BucketPlace:
    """Where the bucket is: what of it is needed depends on the kind."""

    kind: str
    """`memory`, `directory` or `s3`."""
    directory: Path | None = None
    endpoint: str = ""
    bucket: str = ""
    access_key: str = ""
    secret_key: str = field(default="", repr=False)
    region: str = "us-east-1"
    secure: bool = True
    public_endpoint: str = ""
    """Where clients outside reach the store, with or without `https://`; empty: where we do."""


def open_blobs(place: BucketPlace, clock: Clock) -> Bucket:
    """The bucket at that place. Raises ValueError for another kind or a missing address."""
    if place.kind == "memory":
        return MemoryBlobs(clock.now)
    if place.kind == "directory" and place.directory is not None:
        return DirectoryBlobs(place.directory)
    if place.kind == "s3" and place.endpoint and place.bucket:
        return _s3(place)
    raise ValueError(f"no such bucket: kind {place.kind!r}; a directory needs its path, s3 an endpoint and a bucket")


def _s3(place: BucketPlace) -> Bucket:
    # Imported here: who keeps its bytes in a directory needs neither the SDK's memory nor its start-up time.
    from shared.blobs.s3 import S3Blobs, S3Store  # noqa: PLC0415

    return S3Blobs(
        S3Store(
            endpoint=place.endpoint,
            bucket=place.bucket,
            access_key=place.access_key,
            secret_key=place.secret_key,
            region=place.region,
            secure=place.secure,
            public_endpoint=place.public_endpoint,
        )
    )
