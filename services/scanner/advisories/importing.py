"""Takes in a feed: the whole of one source's advisories, which replaces what was imported from it before."""

import tempfile
from collections.abc import AsyncIterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import IO

import orjson

from services.scanner.advisories.database import Feed, Gathering, Tally, content_id
from services.scanner.advisories.knowledge import Knowledge
from services.scanner.advisories.reading import ImportRefused, documents
from services.scanner.store import FeedRecord
from shared.blobs import BlobMissing
from shared.clock import rfc3339
from shared.events.scans import AdvisoryUpdated
from shared.parts import Parts

IN_MEMORY = 8 * 1024 * 1024
"""What is longer is read from a temporary file."""
_AT_ONCE = 100
"""Records that one computation reads."""


@dataclass(frozen=True)
class Imported:
    """A feed that is stored, but holds for nobody yet."""

    record: FeedRecord
    tally: Tally
    changed: tuple[str, ...] = ()
    """Ids of advisories that are new, different or gone."""
    list: str = ""
    """Name of the object with the list of these."""

    def news(self, project: str, source: str) -> Sequence[AdvisoryUpdated]:
        """What is said once the feed holds."""
        if not self.changed:
            return []
        snapshot, count = self.record.feed, len(self.changed)
        return [AdvisoryUpdated(project=project, source=source, snapshot=snapshot, count=count, object=self.list)]


class Importer:
    """Reads feeds, a piece and a record at a time, without holding up the event loop."""

    def __init__(self, knowledge: Knowledge, parts: Parts, largest: int) -> None:
        """`largest` bounds the bytes of what is brought."""
        self._blobs, self._cpu, self._clock, self._ids = parts.blobs, parts.cpu, parts.clock, parts.ids
        self._knowledge = knowledge
        self._largest = largest

    async def take(self, body: AsyncIterable[bytes], project: str, previous: FeedRecord | None) -> Imported:
        """Read what is brought to a project and compare it with the `previous` feed, if any. Raises ImportRefused."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            await self._spool(file, body)
            gathering = await self._gathered(file)
        if gathering.tally.records <= gathering.tally.unusable:
            complaint = next(iter(gathering.tally.complaints), "it is empty")
            raise ImportRefused(f"no advisory was found in it: {complaint}")
        content = await self._cpu(gathering.written)
        feed = await self._cpu(lambda: content_id(content))
        now, records = rfc3339(self._clock.now()), gathering.tally.records
        if previous is not None and feed == previous.feed:
            return Imported(previous.model_copy(update={"imported": now, "records": records}), gathering.tally)
        # An object of its own each time: what was cleared once is never written to again.
        name = f"scanner/advisories/{project}/{feed}-{self._ids.new()}"
        await self._knowledge.keep(content, name)
        changed = await self._changed(content, previous)
        record = FeedRecord(feed=feed, object=name, records=records, imported=now)
        return Imported(record, gathering.tally, tuple(changed), await self._listed(project, changed))

    async def _changed(self, content: bytes, previous: FeedRecord | None) -> list[str]:
        before = Feed(b"")
        with suppress(BlobMissing):  # replaced and cleared meanwhile: then the step will find that out
            before = await self._knowledge.feed(previous.object) if previous else before
        return await self._cpu(lambda: Feed(content).changed(before))

    async def _spool(self, file: IO[bytes], body: AsyncIterable[bytes]) -> None:
        size = 0
        async for piece in body:
            size += len(piece)
            if size > self._largest:
                raise ImportRefused(f"more than {self._largest} bytes")
            await self._cpu(lambda piece=piece: file.write(piece))
        file.seek(0)

    async def _gathered(self, file: IO[bytes]) -> Gathering:
        gathering = Gathering()
        found = await self._cpu(lambda: documents(file))
        while await self._cpu(lambda: gathering.take(islice(found, _AT_ONCE))):
            pass
        return gathering

    async def _listed(self, project: str, changed: list[str]) -> str:
        content = orjson.dumps({"advisories": changed})
        name = f"scanner/changes/{project}/{self._ids.new()}"
        await self._blobs.put(name, content)
        return name
