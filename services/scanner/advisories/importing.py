"""Takes in a feed: the whole of one source's advisories, which replaces what was imported from it before."""

import tempfile
from collections.abc import AsyncIterable
from dataclasses import dataclass
from itertools import islice
from typing import IO

import orjson

from services.scanner.advisories.database import Feed, Gathering, Tally, content_id
from services.scanner.advisories.knowledge import Knowledge
from services.scanner.advisories.reading import ImportRefused, documents
from shared.blobs import Blobs
from shared.clock import Cpu

IN_MEMORY = 8 * 1024 * 1024
"""What is longer is read from a temporary file."""
_AT_ONCE = 100
"""Records that one computation reads."""


@dataclass(frozen=True)
class Imported:
    """A feed that is stored, but holds for nobody yet."""

    feed: str
    tally: Tally
    changed: tuple[str, ...] = ()
    """Ids of advisories that are new, different or gone."""
    object: str = ""
    """Name of the object with the list of these."""


class Importer:
    """Reads feeds, a piece and a record at a time, without holding up the event loop."""

    def __init__(self, blobs: Blobs, knowledge: Knowledge, cpu: Cpu, largest: int) -> None:
        """`largest` bounds the bytes of what is brought."""
        self._blobs = blobs
        self._knowledge = knowledge
        self._cpu = cpu
        self._largest = largest

    async def take(self, body: AsyncIterable[bytes], previous: str) -> Imported:
        """Read what is brought and compare it with the `previous` feed, if any. Raises ImportRefused."""
        with tempfile.SpooledTemporaryFile(IN_MEMORY) as file:
            await self._spool(file, body)
            gathering = await self._gathered(file)
        if gathering.tally.records <= gathering.tally.unusable:
            complaint = next(iter(gathering.tally.complaints), "it is empty")
            raise ImportRefused(f"no advisory was found in it: {complaint}")
        content = await self._cpu(gathering.written)
        feed = await self._knowledge.keep(content)
        if feed == previous:
            return Imported(feed, gathering.tally)
        before = await self._knowledge.feed(previous) if previous else Feed(b"")
        changed = await self._cpu(lambda: Feed(content).changed(before))
        return Imported(feed, gathering.tally, tuple(changed), await self._listed(changed))

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

    async def _listed(self, changed: list[str]) -> str:
        content = orjson.dumps({"advisories": changed})
        name = f"scanner/changes/{content_id(content)}"
        await self._blobs.put(name, content)
        return name
