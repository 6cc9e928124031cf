"""Rebuilding the registry's state: the newest whole snapshot, what was said behind it, the facts, the counters.

Every write sets something outright, so a rebuild that was killed is simply begun again. Until it has ended, a mark in
state keeps replicas from starting on half of the records.
"""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any

from services.registry.names import ImageName
from services.registry.platforms import Platforms
from services.registry.rebuilding.counters import Counters
from services.registry.rebuilding.entering import Entering, Pen
from services.registry.rebuilding.hearing import Hearing
from services.registry.rebuilding.loading import Loading, Missing
from services.registry.rebuilding.replaying import Replaying
from services.registry.rebuilding.report import Report
from services.registry.rebuilding.shelf import Shelf
from services.registry.rebuilding.sources import Sources
from services.registry.rebuilding.standing import Standing
from shared.clock import rfc3339
from shared.names import partition_of
from shared.state import Drop, Lease, PutField

LEASE_SECONDS = 20.0
_PAGE = 200


class Refused(Exception):
    """The rebuild was not begun; nothing was changed."""


class Rebuild:
    """One run."""

    def __init__(self, sources: Sources) -> None:
        self._from = sources
        self._shelf = Shelf(sources.blobs, sources.voice.location)
        self._missing = Missing()
        self._counters = Counters()
        self._report = Report()
        entering = Entering(sources.store.layout)
        self._pen = pen = Pen(sources.state, sources.ids.new())
        self._entering = entering
        common = (sources.store, sources.blobs)
        self._loading = Loading(*common, sources.policies, sources.voice, entering, pen, self._counters, self._missing)
        replaying = Replaying(*common, Platforms(sources.blobs), entering, pen, self._missing)
        standing = Standing(sources.store, sources.policies, sources.voice, entering, pen, replaying, sources.ids)
        self._hearing = Hearing(sources, self._counters, replaying, standing, self._report)

    async def run(self, *, force: bool = False) -> Report:
        """Do all of it. Raises Refused, WrongBucket, and what state, bucket and bus raise when they are away."""
        async with self._alone():
            await self._begin(force=force)
            await self._load()
            await self._hearing.events()
            await self._hearing.facts()
            await self._hearing.trail()
            await self._settle()
            await self._end()
        return self._report

    # Alone, and on nothing.

    @asynccontextmanager
    async def _alone(self) -> AsyncGenerator[None]:
        state, lane, token = self._from.state, self._from.store.layout.rebuilding(), self._from.ids.new()
        if listeners := await state.listeners():
            raise Refused(f"{listeners} replicas of the registry run on this state: stop them first")
        if not await state.acquire(lane, token, LEASE_SECONDS):
            raise Refused(f"another rebuild is under way; if it was killed, try again in {LEASE_SECONDS:.0f} s")
        work = asyncio.current_task()
        renewing = asyncio.create_task(self._renew(lane, token, work))
        try:
            yield
        finally:
            renewing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await renewing
            await state.release(Lease(lane, token))

    async def _renew(self, lane: str, token: str, work: "asyncio.Task[Any] | None") -> None:
        while await self._from.state.acquire(lane, token, LEASE_SECONDS):
            await self._from.clock.sleep(LEASE_SECONDS / 4)
        if work is not None:
            work.cancel()

    async def _begin(self, *, force: bool) -> None:
        state, key = self._from.state, self._from.store.layout.rebuilding()
        begun = await state.field(key, "begun")
        if begun:
            self._from.say(f"a rebuild was begun at {begun} and broke off: begun again")
        elif not force and (found := await self._something()):
            raise Refused(f"the state is not empty ({found}): with --force what is known is written over it")
        mark = PutField(key, "begun", rfc3339(self._from.clock.now()))
        await self._pen.later("00", [mark])
        await self._pen.flush()

    async def _something(self) -> str:
        for partition in self._from.keys.all_partitions():
            for which in ("generations", "sequences"):
                counters = await self._from.state.record(self._from.keys.at(partition, which))
                if counters:
                    return f"it counts {next(iter(counters))}"
        return ""

    # What was written down.

    async def _load(self) -> None:
        say = self._from.say
        whole = await self._shelf.newest_sound()
        if whole is None:
            say("no whole snapshot is in the bucket: all that was said is replayed")
            return
        self._report.snapshot, self._report.snapshot_time = whole.id, rfc3339(whole.begun)
        self._report.rows = whole.rows
        self._counters.begun = whole.begun
        say(f"snapshot {whole.id} of {rfc3339(whole.begun)}: {sum(whole.rows.values())} rows")
        await self._loading.load(self._shelf.read(whole), self._from.progress("{} rows loaded"))

    # What follows from it.

    async def _settle(self) -> None:
        """Count the versions of each image; one without any is none."""
        store = self._from.store
        for counter in list(self._counters.generations):
            project, _, repository = counter.partition("/")
            await self._pen.later(partition_of(project), self._entering.uncounted(project))
            after = ""
            while repository and (images := await store.images(project, repository, after, _PAGE)):
                for image in images:
                    await self._settle_image(ImageName(project, repository, image))
                after = images[-1]
        await self._pen.flush()

    async def _settle_image(self, name: ImageName) -> None:
        store = self._from.store
        count = await store.state.size(store.layout.versions(name))
        writes = self._entering.image(name, {"versions": str(count)}) if count else self._entering.no_image(name)
        self._report.images += bool(count)
        self._report.versions += count
        await self._pen.now(name.project, writes)

    async def _end(self) -> None:
        """Counters last but for the mark: until they stand nobody may say anything."""
        keys = self._from.keys
        await self._counters.merge(self._from.state, keys)
        for partition, write in self._counters.writes(keys):
            await self._pen.later(partition, [write])
        await self._pen.flush()
        if await self._from.state.listeners():
            raise Refused("a replica of the registry was started meanwhile: stop it, and rebuild once more")
        await self._pen.later("00", [Drop(self._from.store.layout.rebuilding())])
        await self._pen.flush()
        report = self._report
        report.missing_manifests, report.missing_blobs = self._missing.manifests, self._missing.blobs
        report.gaps = self._counters.gaps
