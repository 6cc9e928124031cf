"""The form of a journal segment on disk: a line that names the form, then records with length and checksum.

A record is a header (where the numbers stand, first in each segment), an entry, or a rest: the mark that everything
noted so far is on disk. A crash may tear the last record; whatever does not check out ends the segment.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

FORM: Final = b"entrepot journal 1\n"
MAX_RECORD = 16 * 1024 * 1024

_FRAME = struct.Struct(">II")
_HEADER, _ENTRY, _REST = b"H", b"E", b"R"


class Header(BaseModel):
    """Where the numbers stand at the beginning of a segment."""

    model_config = ConfigDict(frozen=True, strict=True)

    number: int = Field(ge=0)
    """The last number given."""
    sequences: Mapping[str, int]
    """The last sequence given, by `topic|project`."""


@dataclass(frozen=True)
class Entry:
    """One event in the journal."""

    number: int
    """Position in the journal, from 1."""
    id: str
    subject: str
    counter: str
    """`topic|project`, whose sequence this one counts up."""
    sequence: int
    content: bytes
    """The finished envelope."""


@dataclass(frozen=True)
class Rest:
    """Nothing waits to be written: a crash from here on loses nothing."""


Record = Header | Entry | Rest

_About = TypeAdapter(tuple[int, str, str, str, int])


@dataclass
class Segment:
    """What can be read of a segment."""

    header: Header | None = None
    entries: list[Entry] = field(default_factory=list[Entry])
    rests: bool = False
    """Whether the last record is a rest."""
    good: int = 0
    """How many bytes check out."""

    def sequences(self) -> dict[str, int]:
        """Where the sequences stand at its end."""
        start = dict(self.header.sequences) if self.header else {}
        return start | {entry.counter: entry.sequence for entry in self.entries}

    def number(self) -> int:
        """The last number given at its end."""
        return self.entries[-1].number if self.entries else self.header.number if self.header else 0


def framed(record: Record) -> bytes:
    """A record as it is written."""
    payload = _payload(record)
    return _FRAME.pack(len(payload), zlib.crc32(payload)) + payload


def read_segment(content: bytes) -> Segment:
    """Everything in a segment up to its end, or to where it is torn."""
    segment = Segment()
    if not content.startswith(FORM):
        return segment
    segment.good = len(FORM)
    for record, end in records(content, len(FORM)):
        segment.good = end
        segment.rests = isinstance(record, Rest)
        if isinstance(record, Entry):
            segment.entries.append(record)
        elif isinstance(record, Header) and segment.header is None:
            segment.header = record
    return segment


def records(content: bytes, start: int = 0) -> Iterator[tuple[Record, int]]:
    """Records from `start` on, each with where it ends; stops at the first that is torn or wrong."""
    while len(content) - start >= _FRAME.size:
        length, checksum = _FRAME.unpack_from(content, start)
        end = start + _FRAME.size + length
        if not 0 < length <= MAX_RECORD or end > len(content):
            return
        payload = content[start + _FRAME.size : end]
        record = _record(payload) if zlib.crc32(payload) == checksum else None
        if record is None:
            return
        yield record, end
        start = end


def _payload(record: Record) -> bytes:
    match record:
        case Header():
            return _HEADER + record.model_dump_json().encode()
        case Entry(number, identity, subject, counter, sequence, content):
            about = _About.dump_json((number, identity, subject, counter, sequence))
            return _ENTRY + about + b"\n" + content
        case Rest():
            return _REST


def _record(payload: bytes) -> Record | None:
    kind, rest = payload[:1], payload[1:]
    try:
        if kind == _HEADER:
            return Header.model_validate_json(rest)
        if kind == _ENTRY:
            about, _, content = rest.partition(b"\n")
            return Entry(*_About.validate_json(about), content=content)
    except ValidationError:
        return None
    return Rest() if payload == _REST else None
