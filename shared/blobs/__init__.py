"""Blobs: the bucket that all bytes live in, in memory, in a directory or on S3."""

from shared.blobs.face import (
    PIECE,
    BlobExists,
    BlobMissing,
    Blobs,
    BucketFull,
    BucketUnavailable,
    RangeInvalid,
    StagingMoved,
    Stat,
)

__all__ = [
    "PIECE",
    "BlobExists",
    "BlobMissing",
    "Blobs",
    "BucketFull",
    "BucketUnavailable",
    "RangeInvalid",
    "StagingMoved",
    "Stat",
]
