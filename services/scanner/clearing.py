"""Clears the scanner's objects that nothing stands on any more: whatever a crash, a new scan or a deletion left.

The bucket is gone through from time to time. An object that was found unused for a while goes. What records point at
is retired first, in a step that fails where anything stands on it; from then on no step takes that name, so that the
deletion may come late, twice or from a replica that slept. Facts and inventories are read anew where they are missed,
so they need no such step.
"""

import structlog

from services.scanner.inventory.image import inventory_object
from services.scanner.layers.facts import facts_object
from services.scanner.objects import TOMBSTONE_SECONDS
from services.scanner.store import Store
from shared.blobs import Blobs, BucketUnavailable, Stat
from shared.clock import Clock, Ids
from shared.state import Keys, LaneFull, Lease, Moved, State, StateUnavailable

_LOG = structlog.get_logger("clearing")
_RECORDED = frozenset({"findings", "advisories", "notes", "occurrences"})
"""Kinds of objects of which each that is used has its users written down."""
_LEASE_ROUNDS = 1.5
"""The replica that cleared last goes on clearing, as it knows for how long things are unused."""


class Clearing:
    """One replica at a time does it, but two would clear nothing that is used."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, ids: Ids, unused_seconds: float) -> None:
        """`unused_seconds` is how long an object must have been unused: for who reads what was said a moment ago."""
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._ids = ids
        self._patience = unused_seconds
        self._unused: dict[str, float] = {}
        """Objects that were unused in the last round, and since when."""

    async def once(self) -> int:
        """One round; returns how many objects were cleared."""
        needed = await self._needed()
        before, self._unused = self._unused, {}
        cleared = 0
        async for stat in self._blobs.names("scanner/"):
            if await self._is_used(stat, needed):
                continue
            since = before.get(stat.name, self._clock.monotonic())
            if self._clock.monotonic() - since >= self._patience and await self._clear(stat.name):
                cleared += 1
            else:
                self._unused[stat.name] = since
        return cleared

    async def _needed(self) -> set[str]:
        """What the records of all images and feeds name, whoever wrote them."""
        needed: set[str] = set()
        async for project in self._store.projects():
            needed.update(feed.object for feed in (await self._store.feeds(project)).values())
            async for place in self._store.all_places(project):
                needs, kept = await self._store.needs(place), await self._store.record(project, place.id)
                needed.update(map(inventory_object, needs.images))
                needed.update(map(facts_object, needs.layers))
                needed.add(kept.thing.result.findings if kept else "")
        return needed

    async def _is_used(self, stat: Stat, needed: set[str]) -> bool:
        kind, project = _parts(stat.name)
        if stat.name in needed or kind in {"layers", "inventories"}:
            return stat.name in needed
        if kind in _RECORDED:
            return await self._store.objects.is_used(project, stat.name)
        # Lists of changed advisories are named by events alone, and written once.
        return kind != "changes" or stat.modified > self._clock.now() - TOMBSTONE_SECONDS

    async def _clear(self, name: str) -> bool:
        kind, project = _parts(name)
        if kind in _RECORDED:
            try:
                await self._store.objects.retire(project, name, self._ids.new())
            except Moved:
                return False
        await self._blobs.delete(name)
        return True


class ClearingLoop:
    """Clears again and again, on the one replica that holds the lease."""

    def __init__(self, clearing: Clearing, state: State, keys: Keys, clock: Clock, ids: Ids) -> None:
        self._clearing = clearing
        self._state = state
        self._clock = clock
        self._lease = Lease(keys.at("00", "lease", "clearing"), ids.new())

    async def run(self, seconds: float) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(seconds)
            await self.once(seconds)

    async def once(self, seconds: float) -> int:
        """One round, if no other replica has the lease."""
        try:
            if not await self._state.acquire(self._lease.lane, self._lease.token, seconds * _LEASE_ROUNDS):
                return 0
            return await self._clearing.once()
        except (LaneFull, StateUnavailable, BucketUnavailable) as error:
            _LOG.warning("clearing put off", error=type(error).__name__)
            return 0


def _parts(name: str) -> tuple[str, str]:
    """The kind of an object, and the project where its name says one."""
    _, kind, project, *_ = (*name.split("/", 3), "", "")
    return kind, project
