"""The second look: when an attestor's threshold is new, what was scanned before is held against it too."""

import structlog

from services.attestor.attesting import AutoAttestor
from services.attestor.store import Store
from shared.blobs import BlobMissing, BucketUnavailable
from shared.clock import Clock
from shared.state import Keys, LaneFull, Moved, StateUnavailable

_LOG = structlog.get_logger("second_look")


class SecondLook:
    """Goes through the scanned digests of projects that are due. Two replicas that do so sign nothing twice."""

    def __init__(self, store: Store, attesting: AutoAttestor, keys: Keys, clock: Clock) -> None:
        self._store = store
        self._attesting = attesting
        self._keys = keys
        self._clock = clock

    async def run(self, seconds: float) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(seconds)
            await self.once()

    async def once(self) -> int:
        """One round; returns how many attestations were made."""
        made = 0
        try:
            for project, wanted in await self._store.due(self._keys.all_partitions()):
                made += await self._look(project, wanted)
        except (Moved, LaneFull, StateUnavailable, BucketUnavailable, BlobMissing) as error:
            _LOG.warning("second look put off", error=type(error).__name__)
        return made

    async def _look(self, project: str, wanted: str) -> int:
        made = 0
        after = ""
        while page := await self._store.scanned(project, after):
            for digest in page:
                made += await self._attesting.consider(project, digest, "")
            after = page[-1]
        await self._store.looked(project, wanted)
        return made
