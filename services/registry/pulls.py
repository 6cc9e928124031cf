"""Counting pulls: in memory, told once a second through the journal, never a write per request."""

from dataclasses import dataclass, field

from services.registry.names import ImageName
from shared.clock import Clock, Ids, rfc3339
from shared.digest import Digest
from shared.events import Cause
from shared.events.images import ImagePulled
from shared.journal import Journal

SECONDS = 1.0
MOST = 10_000
"""Digests that are counted between two tellings; pulls of further ones in the same second go uncounted."""


@dataclass
class _Count:
    count: int = 0
    last: float = 0.0


@dataclass(frozen=True)
class Pulls:
    """The pulls of this replica that were not told yet."""

    journal: Journal
    clock: Clock
    ids: Ids
    location: str
    counts: dict[tuple[ImageName, Digest], _Count] = field(default_factory=dict[tuple[ImageName, Digest], _Count])

    def note(self, name: ImageName, digest: Digest) -> None:
        """A manifest was handed out."""
        found = self.counts.get((name, digest))
        if found is None:
            if len(self.counts) >= MOST:
                return
            found = self.counts[name, digest] = _Count()
        found.count += 1
        found.last = self.clock.now()

    def tell(self) -> None:
        """Tell what was counted since the last time."""
        counted = list(self.counts.items())
        self.counts.clear()
        events = [
            ImagePulled(
                project=name.project,
                location=self.location,
                repository=name.repository,
                image=name.image,
                digest=digest,
                count=found.count,
                last_pulled=rfc3339(found.last),
            )
            for (name, digest), found in counted
        ]
        if events:
            self.journal.note(events, Cause(id=self.ids.new()))

    async def keep_telling(self) -> None:
        """Tell once a second, as long as the process lives."""
        while True:
            await self.clock.sleep(SECONDS)
            self.tell()
