"""Counting a repository whole, once: one that is older than the counters, or whose state was made anew.

From then on every step counts along. Who uses which manifest and what may be due is entered here, too, so that nothing
of a project is cleared before all its repositories are counted.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass

from services.registry.layout import ALL, MANIFESTS, counter
from services.registry.ledger import Ledger
from services.registry.names import ImageName
from services.registry.records import Version
from services.registry.store import Store
from shared.clock import Ids
from shared.names import partition_of
from shared.state import Add, Check, FieldIs, Index, IsMember, Moved, PutField, Step, Write

_PAGE = 200
_ROUNDS = 3


@dataclass(frozen=True)
class Counting:
    """Counts."""

    store: Store
    ledger: Ledger
    ids: Ids

    async def uncounted(self, project: str) -> list[str]:
        """Repositories of a project that are still to be counted."""
        state, layout = self.store.state, self.store.layout
        counted = layout.counted(project)
        return [
            repository
            async for repository in self._repositories(project)
            if not await state.has_member(counted, repository)
        ]

    async def count(self, project: str, repository: str) -> bool:
        """Count a repository; False where it is changed all the time, so that it has to wait."""
        for _ in range(_ROUNDS):
            state, layout = self.store.state, self.store.layout
            before = await state.generation(partition_of(project), counter(project, repository))
            held = await state.field(layout.sizes(project), repository)
            size = await self._blobs(project, repository) + await self._manifests(project, repository)
            generations = layout.keys.at(partition_of(project), "generations")
            checks = (
                FieldIs(generations, counter(project, repository), str(before) if before else None),
                FieldIs(layout.sizes(project), repository, held),
            )
            writes = (
                PutField(layout.sizes(project), repository, str(size)),
                Add(layout.sizes(project), ALL, size - int(held or "0")),
                Index(layout.counted(project), repository),
            )
            if await self._done(project, checks, writes):
                return True
        return False

    async def _blobs(self, project: str, repository: str) -> int:
        """Bytes of the blobs; those that nothing refers to are promised to whoever may have just pushed them."""
        total, layout = 0, self.store.layout
        for digest, size in (await self.store.state.record(layout.blobs(project, repository))).items():
            total += int(size)
            if not await self.store.blob_holders(project, repository, digest, 1):
                held = FieldIs(layout.blobs(project, repository), digest, size)
                await self._done(project, (held,), (self.ledger.promise(project, repository, digest),))
        return total

    async def _manifests(self, project: str, repository: str) -> int:
        total, layout = 0, self.store.layout
        async for version in self.versions(project, repository):
            total += version.facts.size
            name = version.name
            there = IsMember(layout.versions(name), version.digest)
            used = Index(layout.uses(project, version.digest, MANIFESTS), f"{name.repository}/{name.image}")
            await self._done(project, (there,), (used,))
        return total

    async def versions(self, project: str, repository: str) -> AsyncIterator[Version]:
        """All manifests of a repository."""
        image = ""
        while images := await self.store.images(project, repository, image, _PAGE):
            for image in images:
                name = ImageName(project, repository, image)
                after = ""
                while digests := await self.store.versions(name, after, _PAGE):
                    for after in digests:
                        version = await self.store.version(name, after)
                        if version is not None:
                            yield version

    async def _repositories(self, project: str) -> AsyncIterator[str]:
        after = ""
        while found := await self.store.repositories(project, after, _PAGE):
            for after in found:
                yield after

    async def _done(self, project: str, checks: Sequence[Check], writes: Sequence[Write]) -> bool:
        """Whether all was as it was found."""
        request = f"count/{self.ids.new()}"
        try:
            await self.store.state.apply(Step(partition_of(project), request, tuple(checks), tuple(writes)))
        except Moved:
            return False
        return True
