"""The small face that every kind of repository has; a feature is a wrapper around it, never a branch inside one."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from services.registry.acts import Act
from services.registry.cascading import ALONE, Cascading, Reach
from services.registry.deletion import Deletion
from services.registry.holdings import Arrival, Held, Holdings
from services.registry.manifests import Manifest
from services.registry.names import ImageName, Reference, Tag
from services.registry.pushing import Pushing
from services.registry.reading import Glimpsed, Reading, Referrers, Stored
from services.registry.store import Place
from shared.digest import Digest


class Readable(Protocol):
    """What can be looked at."""

    async def manifest(self, name: ImageName, reference: Reference) -> Stored:
        """A manifest by tag or digest; raises ManifestUnknown."""
        ...

    def glimpse(self, place: Place, told: Glimpsed, *, downloads: bool) -> bool:
        """The same without a task: `told` hears the manifest, or None where only `manifest` can say.

        Whoever `downloads` it hears None where the repository has rules for downloads. False when this way is closed,
        now or for this kind of repository; then `told` is never called.
        """
        ...

    async def blob(self, name: ImageName, digest: Digest, *, promised: bool = False) -> Held:
        """A blob, which stays for a while where it is `promised` to be there; raises BlobUnknown."""
        ...

    async def tags(self, name: ImageName, after: str, limit: int) -> list[str]:
        """A page of tags, in byte order; raises NameUnknown."""
        ...

    async def referrers(self, name: ImageName, subject: Digest, kind: str, after: str, limit: int) -> Referrers:
        """A page of what refers to a digest."""
        ...


class Writable(Protocol):
    """What takes and loses content; each change is atomic and announced."""

    async def push(self, name: ImageName, manifest: Manifest, tags: Sequence[Tag], act: Act) -> None:
        """Take a manifest under these tags; raises ReferencesUnknown, NameUnknown, TagOverwriteRefused."""
        ...

    async def hold(self, name: ImageName, digest: Digest, size: int, act: Act, method: str) -> None:
        """Hold a blob whose bytes are durable; raises NameUnknown."""
        ...

    async def untag(self, name: ImageName, tag: Tag, act: Act) -> None:
        """Lose a tag; raises ManifestUnknown, TagDeletionRefused."""
        ...

    async def delete(self, name: ImageName, digest: Digest, act: Act, reach: Reach = ALONE) -> None:
        """Lose a manifest with its tags and what it reaches; raises ManifestUnknown, StillHeld, TagDeletionRefused."""
        ...

    async def drop(self, name: ImageName, digest: Digest, act: Act) -> None:
        """Lose a blob; raises BlobUnknown, StillHeld."""
        ...


class Repository(Readable, Writable, Protocol):
    """A repository of any kind."""


@dataclass(frozen=True)
class Standard:
    """A repository that holds what was pushed to it."""

    reading: Reading
    pushing: Pushing
    deletion: Deletion
    cascading: Cascading
    holdings: Holdings

    async def manifest(self, name: ImageName, reference: Reference) -> Stored:
        """A manifest by tag or digest."""
        return await self.reading.manifest(name, reference)

    def glimpse(self, place: Place, told: Glimpsed, *, downloads: bool) -> bool:
        """A manifest that was read lately."""
        return self.reading.glimpse(place, told, downloads=downloads)

    async def blob(self, name: ImageName, digest: Digest, *, promised: bool = False) -> Held:
        """A blob that the repository holds."""
        if promised:
            return await self.holdings.vouched(name.project, name.repository, digest)
        return await self.holdings.find(name.project, name.repository, digest)

    async def tags(self, name: ImageName, after: str, limit: int) -> list[str]:
        """A page of tags."""
        return await self.reading.tags(name, after, limit)

    async def referrers(self, name: ImageName, subject: Digest, kind: str, after: str, limit: int) -> Referrers:
        """A page of what refers to a digest."""
        return await self.reading.referrers(name, subject, kind, after, limit)

    async def push(self, name: ImageName, manifest: Manifest, tags: Sequence[Tag], act: Act) -> None:
        """Take a manifest."""
        await self.pushing.push(name, manifest, tags, act)

    async def hold(self, name: ImageName, digest: Digest, size: int, act: Act, method: str) -> None:
        """Hold a blob."""
        await self.holdings.keep(Arrival(name, digest, size), act, method)

    async def untag(self, name: ImageName, tag: Tag, act: Act) -> None:
        """Lose a tag."""
        await self.deletion.untag(name, tag, act)

    async def delete(self, name: ImageName, digest: Digest, act: Act, reach: Reach = ALONE) -> None:
        """Lose a manifest."""
        await self.cascading.delete(name, digest, act, reach)

    async def drop(self, name: ImageName, digest: Digest, act: Act) -> None:
        """Lose a blob."""
        await self.holdings.drop(name, digest, act)
