"""The log: segments one behind the other in the bucket, whose conditional create decides who wrote which.

Every replica may append, and only one succeeds for each segment number: the bucket is the one truth, and a replica that
was late reads what the other wrote and tries again behind it. Nothing about the log is kept anywhere else.
"""

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

import orjson

from services.audit_log.completeness import Completeness
from services.audit_log.entries import Pending
from services.audit_log.segments import Head, Record, Segment, SegmentBroken, object_of, read, written
from services.audit_log.snapshots import Snapshot, Snapshots
from services.audit_log.spans import Span
from shared.blobs import BlobExists, BlobMissing, Blobs
from shared.clock import Clock, rfc3339

MOST_BYTES = 64 * 1024 * 1024
"""Of one segment: 512 events of 64 KiB fit."""


@dataclass(frozen=True)
class Bounds:
    """How much is kept in memory."""

    keys: int = 50_000
    """Entries whose twins are known."""
    segments: int = 64
    """Segments read lately."""
    read_back: int = 512
    """Segments read at the start to know twins."""
    snapshot_every: int = 256


class AuditLog:
    """Appends entries and reads them, from one replica."""

    def __init__(self, blobs: Blobs, clock: Clock, bounds: Bounds | None = None) -> None:
        self._blobs = blobs
        self._clock = clock
        self._bounds = bounds or Bounds()
        self._snapshots = Snapshots(blobs)
        self._keys: OrderedDict[bytes, None] = OrderedDict()
        self._lately: OrderedDict[int, tuple[Record, ...]] = OrderedDict()
        self._turn = asyncio.Lock()
        self._opened = False
        self.head = Head()
        self.spans: list[Span] = []
        self.completeness = Completeness()
        self.problem = ""
        """Why nothing can be appended or read: the log in the bucket is not as it was written."""

    def completeness_missing(self) -> int:
        """How many entries have not come, as far as this replica has followed."""
        return self.completeness.missing()

    async def follow(self) -> None:
        """Read what others appended. Raises SegmentBroken when the log is not as it was written."""
        async with self._turn:
            await self._follow()

    async def append(self, entries: Sequence[Pending]) -> int:
        """Put entries behind the end, durable on return; twins are left out. Returns how many were new."""
        async with self._turn:
            await self._open()
            while True:
                fresh = self._fresh(entries)
                if not fresh:
                    return 0
                content = written(self.head, fresh, rfc3339(self._clock.now()))
                try:
                    await self._blobs.put(object_of(self.head.segment), content, if_absent=True)
                except BlobExists:
                    await self._follow()
                    continue
                self._take(read(content, self.head))
                await self._snapshot()
                return len(fresh)

    async def records(self, span: Span) -> tuple[Record, ...]:
        """The entries of one segment. Raises BlobMissing."""
        found = self._lately.get(span.segment)
        if found is None:
            content = await self._blobs.content(object_of(span.segment), MOST_BYTES)
            found = tuple(Record.model_construct(**orjson.loads(line)) for line in content.splitlines()[1:-1])
            self._remember(span.segment, found)
        else:
            self._lately.move_to_end(span.segment)
        return found

    async def since(self, sequence: int) -> AsyncIterator[Record]:
        """Entries from that sequence on, in order, up to where the log ends now."""
        for span in list(self.spans):
            if span.first + span.entries > sequence:
                for record in await self.records(span):
                    if record.sequence >= sequence:
                        yield record

    # Following.

    async def _open(self) -> None:
        """Begin at the latest snapshot instead of at the first segment, and know the twins of what came lately."""
        if self._opened:
            return
        found = await self._snapshots.latest()
        if found is not None:
            self.head, self.spans, self.completeness = found.head, list(found.spans), found.completeness
            await self._read_back()
        self._opened = True

    async def _follow(self) -> None:
        await self._open()
        while True:
            try:
                content = await self._blobs.content(object_of(self.head.segment), MOST_BYTES)
            except BlobMissing:
                self.problem = ""
                return
            try:
                segment = read(content, self.head)
            except SegmentBroken as error:
                self.problem = str(error)
                raise
            self._take(segment)

    async def _read_back(self) -> None:
        wanted: list[Span] = []
        entries = 0
        for span in reversed(self.spans[-self._bounds.read_back :]):
            wanted.append(span)
            entries += span.entries
            if entries >= self._bounds.keys:
                break
        for span in reversed(wanted):
            for record in await self.records(span):
                self._know(record)

    def _take(self, segment: Segment) -> None:
        self.head = segment.after
        self.spans.append(Span(segment.header.segment, segment.header.first, len(segment.lines), *segment.span))
        self._remember(segment.header.segment, segment.records)
        for record in segment.records:
            self._know(record)
            source = record.source
            self.completeness.came(source["producer"], source["topic"], source["project"], source["sequence"])

    async def _snapshot(self) -> None:
        if self.head.segment % self._bounds.snapshot_every == 0:
            await self._snapshots.write(Snapshot(self.head, tuple(self.spans), self.completeness))

    # Twins.

    def _fresh(self, entries: Sequence[Pending]) -> list[Pending]:
        found: dict[bytes, Pending] = {}
        for entry in entries:
            if entry.key not in self._keys:
                found.setdefault(entry.key, entry)
        return list(found.values())

    def _know(self, record: Record) -> None:
        self._keys[Pending.key_of(record.entry)] = None
        while len(self._keys) > self._bounds.keys:
            self._keys.popitem(last=False)

    def _remember(self, number: int, records: tuple[Record, ...]) -> None:
        self._lately[number] = records
        while len(self._lately) > self._bounds.segments:
            self._lately.popitem(last=False)
