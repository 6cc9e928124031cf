"""Byte ranges: the part of a blob that a reader asks for, and where in an upload a chunk says it belongs."""

import re
from dataclasses import dataclass

from services.registry.errors import UploadInvalid

_SPAN = re.compile(r"bytes=([0-9]{0,20})-([0-9]{0,20})", re.ASCII)
_CHUNK = re.compile(r"(?:bytes )?([0-9]{1,20})-([0-9]{1,20})(?:/(?:[0-9]{1,20}|\*))?", re.ASCII)


class Unsatisfiable(Exception):
    """No byte of the blob lies in the range."""


@dataclass(frozen=True)
class Span:
    """Bytes from `start` to before `end`."""

    start: int
    end: int

    @property
    def size(self) -> int:
        """How many bytes."""
        return self.end - self.start

    def content_range(self, total: int) -> str:
        """The Content-Range of an answer with these bytes."""
        return f"bytes {self.start}-{self.end - 1}/{total}"


def asked(header: str, size: int) -> Span | None:
    """The part of `size` bytes that a Range header asks for; None: all of it, also where the header makes no sense.

    Several ranges are answered with all of it, as RFC 9110 allows. Raises Unsatisfiable.
    """
    found = _SPAN.fullmatch(header.strip().replace(" ", ""))
    if found is None or found[0] == "bytes=-":
        return None
    first, last = found.groups()
    if not first:
        return _suffix(int(last), size)
    start, end = int(first), min(int(last) + 1, size) if last else size
    if start >= end:
        raise Unsatisfiable
    return Span(start, end)


def _suffix(length: int, size: int) -> Span:
    if not length or not size:
        raise Unsatisfiable
    return Span(max(size - length, 0), size)


def chunk(header: str) -> Span:
    """Where a chunk's Content-Range says it belongs, with or without `bytes ` and total; raises UploadInvalid."""
    found = _CHUNK.fullmatch(header.strip())
    if found is None or int(found[2]) < int(found[1]):
        raise UploadInvalid(f"not a chunk's range: {header[:100]!r}")
    return Span(int(found[1]), int(found[2]) + 1)
