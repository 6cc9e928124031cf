"""Taking snapshots: a walk through the records beside the traffic, by one replica at a time.

It is not of one moment: what changes during the walk may or may not be in it. The counters of a partition are read
before its records, so everything that was said up to those numbers is in it, and what was said behind them is replayed.
"""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal

import structlog

from services.registry.names import ImageName
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
from services.registry.rebuilding.shelf import Shelf, Whole, Writing
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import BucketUnavailable
from shared.clock import Clock, Ids
from shared.http.iam import Policies
from shared.state import Keys, Lease, StateUnavailable

LOOK_SECONDS = 300.0
"""How often it is asked whether a snapshot is due."""
LEASE_SECONDS = 60.0
_PAGE = 200
Which = Literal["sequences", "lanes", "generations"]
WHICH: tuple[Which, ...] = ("sequences", "lanes", "generations")
_log = structlog.get_logger("registry")


class LeaseLost(Exception):
    """Another replica may have begun a snapshot: this one is given up."""


@dataclass(frozen=True)
class Walk:
    """Goes through all records of a partition."""

    store: Store
    keys: Keys
    policies: Policies
    voice: Voice

    async def rows(self, partition: str) -> AsyncIterator[Row]:
        """Counters first, then project by project; of an image the versions before the tags, the blobs at the end."""
        places: dict[str, list[str]] = {}
        for which in WHICH:
            numbers = await self._counters(partition, which)
            for row in _counter_rows(partition, which, numbers):
                yield row
            if which == "generations":
                for counter in numbers:
                    project, _, repository = counter.partition("/")
                    places.setdefault(project, []).append(repository)
        for project, repositories in places.items():
            async for row in self._project(partition, project, repositories):
                yield row
        async for row in self._cascades(partition):
            yield row

    async def _cascades(self, partition: str) -> AsyncIterator[Row]:
        state, layout = self.store.state, self.store.layout
        after = ""
        while places := await state.members(layout.cascades(partition), after=after, limit=_PAGE):
            for place in places:
                path, _, digest = place.rpartition("@")
                name = ImageName(*path.split("/", 2))
                record = await state.record(layout.cascade(name, digest))
                yield CascadeRow(
                    project=name.project, repository=name.repository, image=name.image, digest=digest, record=record
                )
            after = places[-1]

    async def _counters(self, partition: str, which: Which) -> dict[str, int]:
        found = await self.store.state.record(self.keys.at(partition, which))
        return {name: int(number) for name, number in found.items()}

    async def _project(self, partition: str, project: str, repositories: list[str]) -> AsyncIterator[Row]:
        settings = await self.store.state.record(self.store.layout.settings(project))
        if settings:
            yield ProjectRow(project=project, settings=settings)
        for repository in filter(None, repositories):
            async for row in self._repository(partition, project, repository):
                yield row

    async def _repository(self, partition: str, project: str, repository: str) -> AsyncIterator[Row]:
        state, layout = self.store.state, self.store.layout
        record = await state.record(layout.repository(project, repository))
        if not record:
            return
        deleting = await state.has_member(layout.deletions(partition), f"{project}/{repository}")
        policy = await state.value(self.policies.key(self.voice.resource(project, repository)))
        yield RepositoryRow(
            project=project, repository=repository, record=record, deleting=deleting, policy=policy or ""
        )
        after = ""
        while images := await self.store.images(project, repository, after, _PAGE):
            for image in images:
                async for row in self._image(ImageName(project, repository, image)):
                    yield row
            after = images[-1]
        after = ""
        while digests := await self.store.held(project, repository, after, _PAGE):
            sizes = _those(digests, await self.store.blob_sizes(project, repository, digests))
            notes = _those(digests, await state.fields(layout.files(project, repository), digests))
            yield BlobsRow(project=project, repository=repository, sizes=sizes, notes=notes)
            after = digests[-1]

    async def _image(self, name: ImageName) -> AsyncIterator[Row]:
        state, layout = self.store.state, self.store.layout
        place: dict[str, Any] = {"project": name.project, "repository": name.repository, "image": name.image}
        record = await state.record(layout.image(name))
        yield ImageRow(**place, record={field: text for field, text in record.items() if field != "versions"})
        after = ""
        while digests := await self.store.versions(name, after, _PAGE):
            found = await asyncio.gather(*(state.record(layout.version(name, digest)) for digest in digests))
            for digest, version in zip(digests, found, strict=True):
                if "facts" in version:
                    yield VersionRow(**place, digest=digest, record=version)
            after = digests[-1]
        after = ""
        while tags := await self.store.tags(name, after, _PAGE):
            pointers = await asyncio.gather(*(state.value(layout.tag(name, tag)) for tag in tags))
            yield TagsRow(**place, pointers=_those(tags, pointers))
            after = tags[-1]


@dataclass(frozen=True)
class Taking:
    """Takes snapshots, now and then."""

    walk: Walk
    shelf: Shelf
    clock: Clock
    ids: Ids
    seconds: float
    """Between two snapshots; 0: none are taken."""

    async def keep_taking(self) -> None:
        """Take one whenever it is time and something has changed."""
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            try:
                if self.seconds and (whole := await self.take_if_due()) is not None:
                    _log.info("snapshot taken", id=whole.id, rows=sum(whole.rows.values()))
            except (BucketUnavailable, StateUnavailable, LeaseLost) as error:
                _log.warning("no snapshot taken", reason=str(error))

    async def take_if_due(self) -> Whole | None:
        """None where another replica is at it, it is not time, or nothing was said since the last one."""
        state = self.walk.store.state
        lease = Lease(self.walk.store.layout.snapshots(), self.ids.new())
        if not await state.acquire(lease.lane, lease.token, LEASE_SECONDS):
            return None
        try:
            last = await self.shelf.newest()
            if last is not None and last.begun + self.seconds > self.clock.now():
                return None
            fingerprint = await self._fingerprint()
            if last is not None and last.fingerprint == fingerprint:
                return None
            return await self._take(lease, fingerprint)
        finally:
            await state.release(lease)

    async def _take(self, lease: Lease, fingerprint: str) -> Whole:
        begun, renewed = self.clock.now(), self.clock.monotonic()
        writing = Writing(self.shelf.blobs, f"{int(begun):012d}-{self.ids.new()[-12:]}")
        for partition in self.walk.keys.all_partitions():
            async for row in self.walk.rows(partition):
                await writing.add(row)
                if self.clock.monotonic() - renewed > LEASE_SECONDS / 4:
                    renewed = await self._renewed(lease, renewed)
        await writing.flush()
        await self._renewed(lease, renewed)
        whole = await self.shelf.finish(writing, begun, self.clock.now(), fingerprint)
        await self.shelf.prune()
        return whole

    async def _renewed(self, lease: Lease, before: float) -> float:
        """Whoever slept through its lease must not believe that it still has it, though nobody else has it either."""
        now = self.clock.monotonic()
        ours = await self.walk.store.state.acquire(lease.lane, lease.token, LEASE_SECONDS)
        if not ours or now - before > LEASE_SECONDS:
            raise LeaseLost("the lease ran out")
        return now

    async def _fingerprint(self) -> str:
        found = hashlib.sha256()
        for partition in self.walk.keys.all_partitions():
            numbers = await self.walk.store.state.record(self.walk.keys.at(partition, "sequences"))
            for name, number in sorted(numbers.items()):
                found.update(f"{name}={number}\n".encode())
        return found.hexdigest()


def _counter_rows(partition: str, which: Which, numbers: dict[str, int]) -> Iterable[Row]:
    left = iter(numbers.items())
    while some := dict(islice(left, 1000)):
        yield CountersRow(partition=partition, which=which, numbers=some)


def _those(names: Sequence[str], found: Sequence[str | None]) -> dict[str, str]:
    """Those that are there."""
    return {name: text for name, text in zip(names, found, strict=True) if text is not None}
