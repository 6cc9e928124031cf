"""What is known of vulnerabilities: the feeds that hold for a project, loaded once and shared by all scans."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

import zstandard

from services.scanner.advisories.database import Feed, content_id
from services.scanner.store import FeedRecord, Store
from shared.blobs import Blobs
from shared.clock import Cpu
from shared.events.scans import NO_ADVISORIES

MOST_PACKED = 512 * 1024 * 1024
MOST_UNPACKED = 2 * 1024 * 1024 * 1024
_KEPT = 16
"""Feeds in memory at once."""


@dataclass(frozen=True)
class Snapshot:
    """The feeds that hold for a project at one moment."""

    id: str
    """Changes exactly when one of the feeds does."""
    feeds: tuple[str, ...]
    """The objects in which they lie."""


class Knowledge:
    """A project's own feeds, and those of the project that shares its feeds with all."""

    def __init__(self, store: Store, blobs: Blobs, cpu: Cpu, sharing: str) -> None:
        """`sharing` is the project whose feeds hold for all; empty: there is none."""
        self._store = store
        self._blobs = blobs
        self._cpu = cpu
        self.sharing = sharing
        self._loaded: OrderedDict[str, Feed] = OrderedDict()
        self._loading = asyncio.Lock()

    async def snapshot(self, project: str) -> Snapshot:
        """What holds for a project now."""
        found: dict[str, FeedRecord] = {}
        for owner in dict.fromkeys(name for name in (self.sharing, project) if name):
            for source, feed in (await self._store.feeds(owner)).items():
                found[f"{owner}/{source}"] = feed
        if not found:
            return Snapshot(NO_ADVISORIES, ())
        text = "\n".join(f"{name} {feed.feed}" for name, feed in sorted(found.items()))
        return Snapshot(content_id(text.encode()), tuple(feed.object for _, feed in sorted(found.items())))

    async def feeds(self, snapshot: Snapshot) -> list[Feed]:
        """The feeds of a snapshot. Raises BlobMissing where one was replaced and cleared meanwhile."""
        return [await self.feed(name) for name in snapshot.feeds]

    async def feed(self, name: str) -> Feed:
        """One feed, by its object. Raises BlobMissing."""
        async with self._loading:
            if name not in self._loaded:
                packed = await self._blobs.content(name, MOST_PACKED)
                self._loaded[name] = await self._cpu(lambda: Feed(_unpacked(packed)))
            self._loaded.move_to_end(name)
            while len(self._loaded) > _KEPT:
                self._loaded.popitem(last=False)
            return self._loaded[name]

    async def keep(self, content: bytes, name: str) -> None:
        """Store a feed's content as the object `name`."""
        packed = await self._cpu(lambda: zstandard.ZstdCompressor(level=9).compress(content))
        await self._blobs.put(name, packed)


def _unpacked(packed: bytes) -> bytes:
    return zstandard.ZstdDecompressor().decompress(packed, max_output_size=MOST_UNPACKED)
