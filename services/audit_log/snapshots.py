"""Snapshots: where the log stood after some segment, so that a start need not read it all."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from services.audit_log.completeness import Completeness, Numbers
from services.audit_log.merkle import Frontier
from services.audit_log.segments import Head
from services.audit_log.spans import Span
from shared.blobs import BlobMissing, Blobs

FOLDER = "audit/snapshots/"
KEPT = 2
MOST_BYTES = 256 * 1024 * 1024


@dataclass(frozen=True)
class Snapshot:
    """All that following the log from the first segment would teach, but for the entries themselves."""

    head: Head
    spans: Sequence[Span]
    completeness: Completeness


class Snapshots:
    """Reads and writes snapshots; they save time and prove nothing."""

    def __init__(self, blobs: Blobs) -> None:
        self._blobs = blobs

    async def latest(self) -> Snapshot | None:
        """The latest one that can be read."""
        for name in reversed(await self._names()):
            try:
                return _read(await self._blobs.content(name, MOST_BYTES))
            except (BlobMissing, ValueError, KeyError, TypeError):
                continue  # an older one, or none, only makes the start longer
        return None

    async def write(self, snapshot: Snapshot) -> None:
        """Keep a snapshot, and only a few older ones."""
        await self._blobs.put(f"{FOLDER}{snapshot.head.segment:010d}.json", _written(snapshot))
        for name in (await self._names())[:-KEPT]:
            await self._blobs.delete(name)

    async def _names(self) -> list[str]:
        return [stat.name async for stat in self._blobs.names(FOLDER)]


def _written(snapshot: Snapshot) -> bytes:
    head = snapshot.head
    content = {
        "segment": head.segment,
        "sequence": head.sequence,
        "hash": head.hash,
        "frontier": [node.hex() for node in head.frontier.hashes],
        "spans": [list(span) for span in snapshot.spans],
        "sources": [[*source, seen.next, seen.gaps] for source, seen in snapshot.completeness.sources.items()],
    }
    return orjson.dumps(content)


def _read(content: bytes) -> Snapshot:
    found: dict[str, Any] = orjson.loads(content)
    hashes = tuple(bytes.fromhex(node) for node in found["frontier"])
    head = Head(found["segment"], found["sequence"], found["hash"], Frontier(found["sequence"], hashes))
    spans = [Span(*span) for span in found["spans"]]
    sources = {
        (producer, topic, project): Numbers(following, [(first, last) for first, last in gaps])
        for producer, topic, project, following, gaps in found["sources"]
    }
    return Snapshot(head, spans, Completeness(sources))
