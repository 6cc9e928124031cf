"""The audit trail's numbers: how far the registry's entries have come, as the log in the bucket tells.

Entries leave their stream when they are in the log, so nothing else remembers their numbers. Only these are read, and
only where the bucket lets; the records behind them mean nothing here.
"""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import orjson

from shared.blobs import BlobMissing, Blobs

SNAPSHOTS, SEGMENTS = "audit/snapshots/", "audit/segments/"
_LARGEST = 256 * 1024 * 1024


@dataclass(frozen=True)
class Number:
    """An entry of this topic and project has come."""

    topic: str
    project: str
    sequence: int


async def numbers(blobs: Blobs, producer: str) -> AsyncIterator[Number]:
    """The numbers of one producer's entries: from the log's latest snapshot, and from all segments behind it."""
    behind = ""
    for name in reversed([stat.name async for stat in blobs.names(SNAPSHOTS)]):
        snapshot = await _snapshot(blobs, name)
        if snapshot is None:
            continue
        segment = snapshot["segment"]
        behind = f"{SEGMENTS}{segment // 10_000:06d}/{segment:010d}"
        for said_by, topic, project, following, _ in snapshot["sources"]:
            if said_by == producer:
                yield Number(topic, project, following - 1)
        break
    async for stat in blobs.names(SEGMENTS, behind):
        for found in await _segment(blobs, stat.name, producer):
            yield found


async def _snapshot(blobs: Blobs, name: str) -> dict[str, Any] | None:
    try:
        found: dict[str, Any] = orjson.loads(await blobs.content(name, _LARGEST))
        return found if isinstance(found["segment"], int) and isinstance(found["sources"], list) else None
    except (BlobMissing, ValueError, KeyError, TypeError):
        return None


async def _segment(blobs: Blobs, name: str, producer: str) -> list[Number]:
    found: list[Number] = []
    for line in (await blobs.content(name, _LARGEST)).splitlines():
        source = orjson.loads(line).get("source")
        if source and source["producer"] == producer:
            found.append(Number(source["topic"], source["project"], int(source["sequence"])))
    return found
