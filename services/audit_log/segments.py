"""Segments: some entries in a row as one immutable object, chained to the one before by its hash."""

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson
from pydantic import BaseModel, ConfigDict, ValidationError

from services.audit_log.entries import Pending
from services.audit_log.merkle import EMPTY, Frontier, leaf_hash

FORMAT = 1
GENESIS = "0" * 64
"""What the first segment names as the hash of the one before."""


class SegmentBroken(Exception):
    """A segment is not what was written: bytes, numbers or hashes do not fit."""


class Header(BaseModel):
    """The first line of a segment."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    format: int
    segment: int
    """Number of the segment, from 0, gapless."""
    first: int
    """Sequence of its first entry, from 0, gapless."""
    previous: str
    """SHA-256 of the segment before, all its bytes; zeros for the first."""
    written: str


class Trailer(BaseModel):
    """The last line of a segment: the tree over all entries up to here."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    size: int
    root: str
    frontier: tuple[str, ...]


class Record(BaseModel):
    """One line between."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    sequence: int
    source: dict[str, Any]
    entry: dict[str, Any]

    def line(self) -> bytes:
        """The entry as a LogEntry in one line."""
        return orjson.dumps(self.entry, option=orjson.OPT_SORT_KEYS)


@dataclass(frozen=True)
class Head:
    """Where the log ends: what the next segment is chained to."""

    segment: int = 0
    """Number of the next segment."""
    sequence: int = 0
    """Sequence of the next entry."""
    hash: str = GENESIS
    frontier: Frontier = EMPTY


@dataclass(frozen=True)
class Segment:
    """A segment as it lies in the bucket, checked against the head before it."""

    header: Header
    lines: tuple[bytes, ...]
    after: Head

    @cached_property
    def records(self) -> tuple[Record, ...]:
        """The entries."""
        return tuple(Record.model_construct(**orjson.loads(line)) for line in self.lines)

    @cached_property
    def span(self) -> tuple[str, str]:
        """Earliest and latest timestamp."""
        times = [str(record.entry.get("timestamp", "")) for record in self.records]
        return (min(times), max(times)) if times else ("", "")


def object_of(number: int) -> str:
    """The object that holds a segment."""
    return f"audit/segments/{number // 10_000:06d}/{number:010d}.ndjson"


def written(head: Head, entries: Sequence[Pending], now: str) -> bytes:
    """The bytes of the segment that continues the log behind `head`."""
    header = {
        "format": FORMAT,
        "segment": head.segment,
        "first": head.sequence,
        "previous": head.hash,
        "written": now,
    }
    lines = [entry.line(head.sequence + place) for place, entry in enumerate(entries)]
    frontier = head.frontier.with_leaves([leaf_hash(line) for line in lines])
    trailer = {
        "size": frontier.size,
        "root": frontier.root().hex(),
        "frontier": [node.hex() for node in frontier.hashes],
    }
    return b"\n".join((orjson.dumps(header), *lines, orjson.dumps(trailer))) + b"\n"


def read(content: bytes, head: Head) -> Segment:
    """The segment behind `head`, every hash checked; raises SegmentBroken."""
    if not content.endswith(b"\n"):
        raise SegmentBroken(f"segment {head.segment} is cut off")
    first, *lines, last = _two_at_least(content[:-1].split(b"\n"), head)
    try:
        header, trailer = Header.model_validate_json(first), Trailer.model_validate_json(last)
    except ValidationError as error:
        raise SegmentBroken(f"segment {head.segment} has no head or end") from error
    if (header.segment, header.first) != (head.segment, head.sequence):
        raise SegmentBroken(f"segment {head.segment} is numbered wrongly")
    if header.previous != head.hash:
        raise SegmentBroken(f"segment {head.segment} is not chained to the one before")
    frontier = head.frontier.with_leaves([leaf_hash(line) for line in lines])
    if (trailer.size, trailer.root) != (frontier.size, frontier.root().hex()):
        raise SegmentBroken(f"segment {head.segment} does not have the root that it names")
    for place, line in enumerate(_sequences(lines, head), head.sequence):
        if line != place:
            raise SegmentBroken(f"segment {head.segment} has an entry out of place")
    after = Head(head.segment + 1, head.sequence + len(lines), hashlib.sha256(content).hexdigest(), frontier)
    return Segment(header, tuple(lines), after)


def _two_at_least(lines: list[bytes], head: Head) -> list[bytes]:
    if len(lines) < 2:
        raise SegmentBroken(f"segment {head.segment} has no head or end")
    return lines


def _sequences(lines: Sequence[bytes], head: Head) -> Iterator[object]:
    for line in lines:
        try:
            yield orjson.loads(line)["sequence"]
        except (orjson.JSONDecodeError, KeyError, TypeError) as error:
            raise SegmentBroken(f"segment {head.segment} has a line that is no entry") from error
