"""Verification: the whole log read again from its objects, every hash and every number checked."""

from dataclasses import dataclass

from services.audit_log.log import MOST_BYTES
from services.audit_log.segments import Head, SegmentBroken, object_of, read
from shared.blobs import BlobMissing, Blobs


@dataclass(frozen=True)
class Verified:
    """How far the log is as it was written."""

    head: Head
    broken: str = ""
    """What is wrong behind the head; empty: nothing."""


async def verified(blobs: Blobs, expected: Head | None = None) -> Verified:
    """Read the log from its first segment on; `expected` is where it must at least reach, and with which root."""
    head = Head()
    while True:
        if expected is not None and head.sequence == expected.sequence and head.hash != expected.hash:
            return Verified(head, "the log does not have the hash that it had")
        try:
            content = await blobs.content(object_of(head.segment), MOST_BYTES)
            head = read(content, head).after
        except BlobMissing:
            short = expected is not None and head.sequence < expected.sequence
            return Verified(head, f"segment {head.segment} is missing" if short else "")
        except SegmentBroken as error:
            return Verified(head, str(error))
