"""Loading a snapshot: its rows into state, as far as the bytes that they speak of are in the bucket."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from dataclasses import dataclass, field
from typing import Any

from services.registry.rebuilding.counters import Counters
from services.registry.rebuilding.entering import Entering, Pen
from services.registry.rebuilding.rows import (
    BlobsRow,
    CascadeRow,
    CountersRow,
    ImageRow,
    ProjectRow,
    RepositoryRow,
    Row,
    TagsRow,
    VersionRow,
)
from services.registry.records import Facts, Pointer
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import BlobMissing, Blobs
from shared.http.iam import Policies
from shared.names import blob_object, manifest_object, partition_of
from shared.state import Index, Put, PutField, Write

AT_ONCE = 200
"""Rows that are taken together: their objects are asked for beside each other."""
MOST_MISSING = 10_000


class WrongBucket(Exception):
    """So much is missing that this can hardly be the bucket that the records speak of."""


@dataclass
class Missing:
    """Objects that records speak of and the bucket does not hold."""

    manifests: dict[str, str] = field(default_factory=dict[str, str])
    """`PROJECT/REPOSITORY/IMAGE@DIGEST` and the object's name."""
    blobs: dict[str, str] = field(default_factory=dict[str, str])
    """`PROJECT/REPOSITORY@DIGEST` and the object's name."""

    def __len__(self) -> int:
        """How many."""
        return len(self.manifests) + len(self.blobs)

    def manifest(self, place: str, name: str) -> None:
        """Note a manifest. Raises WrongBucket."""
        self.manifests[place] = name
        self._bound()

    def blob(self, place: str, name: str) -> None:
        """Note a blob. Raises WrongBucket."""
        self.blobs[place] = name
        self._bound()

    def _bound(self) -> None:
        if len(self) > MOST_MISSING:
            raise WrongBucket(f"more than {MOST_MISSING} objects are missing: is this the right bucket?")


@dataclass(frozen=True)
class Loading:
    """Writes the rows of a snapshot into state."""

    store: Store
    blobs: Blobs
    policies: Policies
    voice: Voice
    entering: Entering
    pen: Pen
    counters: Counters
    missing: Missing

    async def load(self, rows: AsyncIterator[Row], progress: Callable[[int], None]) -> int:
        """Take all rows; how many there were. Raises WrongBucket."""
        count = 0
        some: list[Row] = []
        async for row in rows:
            some.append(row)
            if len(some) == AT_ONCE:
                await self._take(some)
                count += len(some)
                progress(count)
                some = []
        await self._take(some)
        await self.pen.flush()
        return count + len(some)

    async def _take(self, rows: list[Row]) -> None:
        await _beside(self._look_for_manifest(row) for row in rows if isinstance(row, VersionRow))
        for row in rows:
            if isinstance(row, CountersRow):
                self.counters.load(row)
            else:
                await self.pen.later(partition_of(row.project), await self._writes(row))

    async def _writes(self, row: Row) -> list[Write]:  # noqa: PLR0911 - a table of the kinds of rows
        match row:
            case ProjectRow():
                key = self.store.layout.settings(row.project)
                return [PutField(key, name, text) for name, text in row.settings.items()]
            case RepositoryRow():
                return self._repository(row)
            case BlobsRow():
                return await self._blobs(row)
            case ImageRow():
                return self.entering.image(row.name, row.record)
            case VersionRow():
                return self._version(row)
            case TagsRow():
                return self._tags(row)
            case CascadeRow():
                key = self.store.layout.cascade(row.name, row.digest)
                writes: list[Write] = [PutField(key, name, text) for name, text in row.record.items()]
                return [*writes, Index(self.store.layout.cascades_of(row.project), f"{row.name.path}@{row.digest}")]
            case CountersRow():
                return []

    def _repository(self, row: RepositoryRow) -> list[Write]:
        layout, place = self.store.layout, (row.project, row.repository)
        writes = self.entering.repository(*place, row.record)
        if row.deleting:
            writes.append(Index(layout.deletions_of(row.project), f"{row.project}/{row.repository}"))
        if row.policy:
            writes.append(Put(self.policies.key(self.voice.resource(*place)), row.policy))
        return writes

    async def _blobs(self, row: BlobsRow) -> list[Write]:
        digests = list(row.sizes)
        sound = await _beside(self._has(blob_object(row.project, digest)) for digest in digests)
        writes: list[Write] = []
        for digest, there in zip(digests, sound, strict=True):
            if there:
                writes += self.entering.blob(row.project, row.repository, digest, row.sizes[digest])
                if digest in row.notes:
                    files = self.store.layout.files(row.project, row.repository)
                    writes.append(PutField(files, digest, row.notes[digest]))
            else:
                place = f"{row.project}/{row.repository}@{digest}"
                self.missing.blob(place, blob_object(row.project, digest))
        return writes

    def _version(self, row: VersionRow) -> list[Write]:
        if f"{row.name.path}@{row.digest}" in self.missing.manifests:
            return []
        return self.entering.version(row.name, row.digest, Facts.parse(row.record["facts"]), row.record)

    def _tags(self, row: TagsRow) -> list[Write]:
        writes: list[Write] = []
        for tag, text in row.pointers.items():
            pointer = Pointer.parse(text)
            if f"{row.name.path}@{pointer.digest}" not in self.missing.manifests:
                writes += self.entering.tag(row.name, tag, pointer, None)
        return writes

    async def _look_for_manifest(self, row: VersionRow) -> None:
        name = manifest_object(row.project, row.digest)
        if not await self._has(name):
            self.missing.manifest(f"{row.name.path}@{row.digest}", name)

    async def _has(self, name: str) -> bool:
        try:
            await self.blobs.stat(name)
        except BlobMissing:
            return False
        return True


async def _beside(questions: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
    return await asyncio.gather(*questions)
