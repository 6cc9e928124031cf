"""What is written along with each change, in the same step: bytes counted, and what may be cleared once it has rested.

A blob or manifest may be promised to somebody who asked whether it is there. So nothing goes at once: it is entered in
the index of what is `due`, with the time from which on it may go; `collecting` looks there, and asks again.
"""

from dataclasses import dataclass

from services.registry.layout import ALL, BLOBS, LOOSE, MANIFESTS, Layout
from services.registry.names import ImageName
from services.registry.records import Version
from shared.clock import Clock
from shared.state import Add, Check, FieldAtMost, Index, Unindex, ValueIs, Write

GOING, GONE = "going", "gone"
"""How the collector marks bytes that it is about to clear, and has cleared."""


@dataclass(frozen=True)
class Limits:
    """How many bytes may be held; None: as many as there is room for."""

    repository: int | None = None
    project: int | None = None

    @property
    def any(self) -> bool:
        """Whether there is one at all."""
        return self.repository is not None or self.project is not None


UNLIMITED = Limits()


@dataclass(frozen=True)
class Ledger:
    """Writes it down."""

    layout: Layout
    clock: Clock
    promised: float
    """Seconds for which a blob that nothing refers to stays with the repository that took it, or said it is there."""
    rest: float
    """Seconds for which what nothing holds any more stays, for whoever still reads or pushes it."""

    # Blobs.

    def took(self, project: str, repository: str, digest: str, size: int) -> list[Write]:
        """A repository holds one blob more, to which no manifest refers yet."""
        return [*self._counted(project, repository, size), self.promise(project, repository, digest)]

    def lost(self, project: str, repository: str, digest: str, size: int) -> list[Write]:
        """A repository holds one blob less."""
        due = self.layout.due_of(project)
        return [
            *self._counted(project, repository, -size),
            Unindex(due, loose(project, repository, digest)),
            self.unused(project, digest),
        ]

    def unused(self, project: str, digest: str, kind: str = BLOBS) -> Write:
        """Perhaps nothing holds these bytes any more."""
        return Index(self.layout.due_of(project), f"{kind}/{project}/{digest}", self._in(self.rest))

    def promise(self, project: str, repository: str, digest: str) -> Write:
        """Somebody counts on a blob to which nothing may refer."""
        return Index(self.layout.due_of(project), loose(project, repository, digest), self._in(self.promised))

    # Manifests.

    def pushed(self, name: ImageName, digest: str, size: int) -> list[Write]:
        """An image has one version more."""
        user = f"{name.repository}/{name.image}"
        return [
            *self._counted(name.project, name.repository, size),
            Index(self.layout.uses(name.project, digest, MANIFESTS), user),
        ]

    def deleted(self, version: Version) -> list[Write]:
        """An image has one version less, and its blobs one manifest less that refers to them."""
        name, due = version.name, self.layout.due_of(version.name.project)
        when = self._in(self.rest)
        return [
            *self._counted(name.project, name.repository, -version.facts.size),
            Unindex(self.layout.uses(name.project, version.digest, MANIFESTS), f"{name.repository}/{name.image}"),
            Index(due, f"{MANIFESTS}/{name.project}/{version.digest}", when),
            *(Index(due, loose(name.project, name.repository, blob), when) for blob in version.facts.blobs),
        ]

    # Checks.

    def there(self, project: str, digest: str, kind: str = BLOBS, *, mark: str | None = None) -> Check:
        """Nobody is clearing the bytes, nor has done so since they were stored."""
        return ValueIs(self.layout.clearing(project, kind, digest), mark)

    def within(self, limits: Limits, project: str, repository: str, size: int) -> list[Check]:
        """So many bytes more are not too many."""
        sizes = self.layout.sizes(project)
        pairs = ((repository, limits.repository), (ALL, limits.project))
        return [FieldAtMost(sizes, field, limit - size) for field, limit in pairs if limit is not None]

    def _counted(self, project: str, repository: str, size: int) -> list[Write]:
        sizes = self.layout.sizes(project)
        return [Add(sizes, repository, size), Add(sizes, ALL, size)]

    def _in(self, seconds: float) -> float:
        return float(int(self.clock.now() + seconds))


def loose(project: str, repository: str, digest: str) -> str:
    """How a blob that a repository holds is named among what is due."""
    return f"{LOOSE}/{project}/{repository}/{digest}"
