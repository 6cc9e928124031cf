"""The segment files of one ledger. Everything here blocks: it is called in a thread, one writing call at a time."""

import itertools
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from shared.journal.segments import FORM, Entry, Header, Record, Segment, framed, read_segment, records

SEGMENT_BYTES = 8 * 1024 * 1024


@dataclass(frozen=True)
class Recovered:
    """What an earlier process left behind."""

    number: int
    sequences: dict[str, int]
    acknowledged: int
    """The last number that the bus is known to have."""
    waiting: int
    """Bytes of segments that are not removed yet."""
    torn: int
    """Bytes that were cut off, for they did not check out."""
    rested: bool
    """Whether everything that was noted is here."""


class SegmentFiles:
    """Appends to the last segment, reads behind a number, removes what is acknowledged."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._open: _Open | None = None
        self._durable: dict[Path, int] = {}
        self._place = _Place(0, Path(), 0)

    @property
    def wants_header(self) -> bool:
        """Whether the next records begin a new segment."""
        return self._open is None or self._durable[self._open.path] >= SEGMENT_BYTES

    def recover(self) -> Recovered:
        """Look at what is there; a torn end is cut off."""
        paths = self._segments()
        before = sum(path.stat().st_size for path in paths)
        found = [self._checked(path) for path in paths]
        good = sum(segment.good for segment in found)
        last = found[-1] if found else Segment(rests=True)
        whole = last.rests and good == before
        return Recovered(last.number(), last.sequences(), self._cursor(), good, before - good, whole)

    def append(self, written: Sequence[Record], header: Header | None) -> None:
        """Write records, durably; with a header, at the beginning of a new segment. Raises OSError."""
        content = b"".join(map(framed, written))
        try:
            if header is not None:
                self._begin(header, content)
            elif self._open is not None:
                self._go_on(self._open, content)
        except OSError:
            # After a failed fsync nobody knows what is on disk: what was durable stays, the rest is written anew.
            self._abandon()
            raise

    def behind(self, number: int) -> list[Entry]:
        """Durable entries after `number`: those of the segment that holds the next one; empty when there are none."""
        paths = self._segments()
        for path, successor in itertools.zip_longest(paths, paths[1:]):
            if successor is not None and _first(successor) <= number + 1:
                continue
            found = self._entries(path, number)
            if found:
                return found
        return []

    def acknowledge(self, number: int) -> int:
        """Remember that the bus has everything up to `number`; returns how many bytes of segments are left."""
        new = self._folder / "cursor.new"
        new.write_text(str(number))
        new.replace(self._folder / "cursor")
        paths = self._segments()
        for path, successor in itertools.pairwise(paths):
            if _first(successor) <= number + 1:
                self._durable.pop(path, None)
                path.unlink()
        return sum(path.stat().st_size for path in self._segments())

    def close(self) -> None:
        """Close the last segment."""
        if self._open is not None:
            os.close(self._open.file)
            self._open = None

    def _segments(self) -> list[Path]:
        return sorted(self._folder.glob("*.segment"))

    def _checked(self, path: Path) -> Segment:
        content = path.read_bytes()
        segment = read_segment(content)
        if segment.good < len(content):
            os.truncate(path, segment.good)
        self._durable[path] = segment.good
        return segment

    def _cursor(self) -> int:
        try:
            return int((self._folder / "cursor").read_text())
        except (FileNotFoundError, ValueError):
            # Written without fsync: after a power loss it may be empty, and the bus drops the twins.
            return 0

    def _begin(self, header: Header, content: bytes) -> None:
        """A segment appears under its name with its header complete, or not at all."""
        self.close()
        path = self._folder / f"{header.number + 1:020d}.segment"
        new = path.with_suffix(".new")
        new.unlink(missing_ok=True)
        whole = FORM + framed(header) + content
        file = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_APPEND, 0o600)
        self._open = _Open(file, path)
        _write_all(file, whole)
        os.fsync(file)
        new.replace(path)
        _sync_folder(self._folder)
        self._durable[path] = len(whole)

    def _go_on(self, current: "_Open", content: bytes) -> None:
        _write_all(current.file, content)
        os.fsync(current.file)
        self._durable[current.path] += len(content)

    def _abandon(self) -> None:
        if self._open is not None:
            try:
                os.ftruncate(self._open.file, self._durable.get(self._open.path, 0))
            finally:
                self.close()

    def _entries(self, path: Path, number: int) -> list[Entry]:
        """What a segment holds behind `number`; where the last reading ended there, it goes on from there."""
        start = self._place.offset if (self._place.number, self._place.path) == (number, path) else len(FORM)
        with path.open("rb") as file:
            file.seek(start)
            content = file.read(max(0, self._durable.get(path, 0) - start))
        found = [(record, end) for record, end in records(content) if isinstance(record, Entry)]
        behind = [entry for entry, _ in found if entry.number > number]
        if behind:
            self._place = _Place(behind[-1].number, path, start + found[-1][1])
        return behind


@dataclass(frozen=True)
class _Open:
    """The segment that is written to."""

    file: int
    path: Path


@dataclass(frozen=True)
class _Place:
    """Where in which segment the entry of that number ends."""

    number: int
    path: Path
    offset: int


def _first(path: Path) -> int:
    return int(path.stem)


def _write_all(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
