"""Counting pulls: in memory, told once a second through the journal, never a write per request.

Clients pull an index by its tag and then, by digest, the one manifest in it that is for them: so a pull counts for
the indexes that list the manifest, too, and what is told names the tags that point there.
"""

from collections import OrderedDict
from dataclasses import dataclass, field

from services.registry.names import ImageName
from services.registry.store import Store
from shared.clock import Clock, Ids, rfc3339
from shared.digest import Digest
from shared.events import Cause
from shared.events.images import ImagePulled
from shared.journal import Journal
from shared.state import StateUnavailable

SECONDS = 1.0
MOST = 10_000
"""Digests that are counted between two tellings; pulls of further ones in the same second go uncounted."""
KIN_SECONDS = 60.0
"""How long it is believed which indexes list a manifest, and which tags point at it."""
MOST_KIN = 100
MOST_TAGS = 50
_DEPTH = 4
"""Indexes in indexes that a pull counts for."""

_Key = tuple[ImageName, str]


@dataclass
class Count:
    """What happened to one digest since the last telling."""

    pulls: int = 0
    below: int = 0
    looks: int = 0
    last: float = 0.0


@dataclass(frozen=True)
class Kin:
    """What a pull of a manifest counts for, as it was a moment ago."""

    until: float
    parents: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()


@dataclass(frozen=True)
class Families:
    """Which indexes list a manifest, and which tags point at it: asked once a minute of each that is pulled."""

    store: Store
    clock: Clock
    known: OrderedDict[_Key, Kin] = field(default_factory=OrderedDict[_Key, Kin])

    async def of(self, name: ImageName, digest: str) -> Kin:
        """The kin of a manifest; none as long as the state store is away."""
        now = self.clock.now()
        found = self.known.get((name, digest))
        if found is not None and found.until > now:
            return found
        try:
            parents = await self.store.parents(name, digest, MOST_KIN)
            tags = await self.store.tags_of(name, digest, MOST_TAGS)
        except StateUnavailable:
            return found or Kin(0.0)
        found = self.known[name, digest] = Kin(now + KIN_SECONDS, tuple(parents), tuple(tags))
        self.known.move_to_end((name, digest))
        if len(self.known) > MOST:
            self.known.popitem(last=False)
        return found

    async def above(self, name: ImageName, digest: str) -> set[str]:
        """The indexes that list a manifest, and those that list these."""
        found: set[str] = set()
        level = {digest}
        for _ in range(_DEPTH):
            parents = [parent for each in sorted(level) for parent in (await self.of(name, each)).parents]
            level = set(parents) - found
            found |= level
        return found - {digest}


@dataclass(frozen=True)
class Pulls:
    """The pulls of this replica that were not told yet."""

    journal: Journal
    clock: Clock
    ids: Ids
    location: str
    families: Families
    counts: dict[_Key, Count] = field(default_factory=dict[_Key, Count])

    def note(self, name: ImageName, digest: Digest) -> None:
        """A manifest was handed out."""
        found = self._counted(name, digest)
        if found is not None:
            found.pulls += 1
            found.last = self.clock.now()

    def look(self, name: ImageName, digest: Digest) -> None:
        """Somebody asked whether a manifest is there, and was not handed it."""
        found = self._counted(name, digest)
        if found is not None:
            found.looks += 1

    async def tell(self) -> None:
        """Tell what was counted since the last time."""
        counts = dict(self.counts)
        self.counts.clear()
        for (name, digest), found in list(counts.items()):
            if found.pulls:
                for parent in sorted(await self.families.above(name, digest)):
                    above = counts.setdefault((name, parent), Count())
                    above.below += found.pulls
                    above.last = max(above.last, found.last)
        events = [await self._pulled(name, digest, found) for (name, digest), found in counts.items()]
        if events:
            self.journal.note(events, Cause(id=self.ids.new()))

    async def keep_telling(self) -> None:
        """Tell once a second, as long as the process lives."""
        while True:
            await self.clock.sleep(SECONDS)
            await self.tell()

    def _counted(self, name: ImageName, digest: Digest) -> Count | None:
        found = self.counts.get((name, digest))
        if found is None and len(self.counts) < MOST:
            found = self.counts[name, digest] = Count()
        return found

    async def _pulled(self, name: ImageName, digest: str, found: Count) -> ImagePulled:
        pulled = found.pulls or found.below
        return ImagePulled(
            project=name.project,
            location=self.location,
            repository=name.repository,
            image=name.image,
            digest=digest,
            count=found.pulls,
            below=found.below,
            looks=found.looks,
            last_pulled=rfc3339(found.last) if pulled else "",
            tags=(await self.families.of(name, digest)).tags if pulled else (),
        )
