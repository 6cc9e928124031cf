"""Searching the whole bucket, now and then, for bytes that nothing ever held: what a crash between bytes and step left.

How far it has come stands in state, so that another replica goes on there. What is found is entered as due, and cleared
like everything else. On the way repositories are counted that are older than the counters.
"""

from dataclasses import dataclass

import structlog

from services.registry.collecting import Collecting
from services.registry.layout import BLOBS, MANIFESTS
from shared.blobs import Stat
from shared.clock import Clock
from shared.names import partition_of
from shared.state import Index, Lease, PutField, Step

BATCH = 500
_LEASE_SECONDS = 120.0
_BREATH = 0.05
_KINDS = (BLOBS, MANIFESTS)

_log = structlog.get_logger("registry")


@dataclass(frozen=True)
class Searching:
    """Searches."""

    collecting: Collecting
    clock: Clock
    every: float
    young: float
    """Seconds for which bytes may be about to be held."""

    async def once(self) -> int:
        """Search to the end, if it is time and no other replica does; how many objects were found unused."""
        store = self.collecting.store
        key = store.layout.search()
        lease = Lease(key, self.collecting.replica)
        ended, kind, after = await store.state.fields(key, ("ended", "kind", "after"))
        if not kind and ended is not None and abs(self.clock.now() - float(ended)) < self.every:
            return 0
        if not await store.state.acquire(lease.lane, lease.token, _LEASE_SECONDS):
            return 0
        found = 0
        for which in _KINDS[_KINDS.index(kind or BLOBS) :]:
            got = await self._through(which, (after or "") if which == kind else "", lease)
            if got is None:
                return found  # another replica goes on
            found += got
        await self._remember(kind="", after="", ended=str(self.clock.now()))
        await store.state.release(lease)
        _log.info("bucket searched", unused=found, looked=self.collecting.tally.searched)
        return found

    async def _through(self, kind: str, after: str, lease: Lease) -> int | None:
        state, found = self.collecting.store.state, 0
        projects: dict[str, bool] = {}
        batch: list[Stat] = []
        async for stat in self.collecting.blobs.names(f"{kind}/", after):
            batch.append(stat)
            if len(batch) < BATCH:
                continue
            found += await self._look(kind, batch, projects)
            await self._remember(kind=kind, after=batch[-1].name)
            batch = []
            if not await state.acquire(lease.lane, lease.token, _LEASE_SECONDS):
                return None
            await self.clock.sleep(_BREATH)
        return found + await self._look(kind, batch, projects)

    async def _look(self, kind: str, batch: list[Stat], projects: dict[str, bool]) -> int:
        store, found = self.collecting.store, 0
        for stat in batch:
            self.collecting.tally.searched += 1
            _, project, algorithm, _, content = stat.name.split("/")
            if project not in projects:
                projects[project] = await self._meet(project)
            if not projects[project] or stat.modified > self.clock.now() - self.young:
                continue
            digest = f"{algorithm}:{content}"
            if await store.state.size(store.layout.uses(project, digest, kind)):
                continue
            found += 1
            member = f"{kind}/{project}/{digest}"
            if not await store.state.has_member(store.layout.due_of(project), member):
                entered = Index(store.layout.due_of(project), member, float(int(self.clock.now())))
                await self._step(project, entered)
        return found

    async def _meet(self, project: str) -> bool:
        """Count what is to be counted. False where state does not know the project: then it may be state that is lost.

        The numbers that events are given outlive the repositories of a project, and what was deleted in it.
        """
        layout = self.collecting.store.layout
        numbers = await self.collecting.store.state.record(layout.keys.at(partition_of(project), "generations"))
        if not any(name.startswith(f"{project}/") for name in numbers):
            _log.warning("bytes of a project that state does not know stay", project=project)
            return False
        await self._count(project)
        return True

    async def _count(self, project: str) -> None:
        counting = self.collecting.counting
        for repository in await counting.uncounted(project):
            if await counting.count(project, repository):
                _log.info("repository counted", project=project, repository=repository)

    async def _remember(self, **fields: str) -> None:
        store = self.collecting.store
        key = store.layout.search()
        writes = tuple(PutField(key, name, value) for name, value in fields.items())
        await store.state.apply(Step("00", f"search/{self.collecting.ids.new()}", (), writes))

    async def _step(self, project: str, *writes: Index) -> None:
        request = f"unused/{self.collecting.ids.new()}"
        await self.collecting.store.state.apply(Step(partition_of(project), request, (), writes))
