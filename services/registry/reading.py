"""Looking up manifests: what a tag points at is asked of state each time, what a digest means never changes."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

import orjson

from services.registry.errors import ManifestUnknown, NameUnknown
from services.registry.names import ImageName, Reference
from services.registry.records import Version
from services.registry.store import Place, Store
from shared.blobs import BlobMissing, Blobs
from shared.digest import Digest
from shared.http.errors import Unavailable
from shared.names import manifest_object
from shared.state import Unknown
from shared.tag_rules import referrers_tag

REMEMBERED_BYTES = 32 * 1024 * 1024
LARGEST_REMEMBERED = 256 * 1024
SCANNED = 1000
"""Referrers that one request looks through for the artifact type it asks for."""


class Stored(NamedTuple):
    """A manifest as it is handed out. A tuple, as one is made for every request."""

    digest: Digest
    media_type: str
    content: bytes


Glimpsed = Callable[[Stored | None], None]
"""Hears the manifest that was asked for, or None where it has to be asked for with patience."""


@dataclass
class Contents:
    """Manifests that were read lately, by project and digest; what one may see is decided before."""

    blobs: Blobs
    kept: OrderedDict[tuple[str, str], bytes] = field(default_factory=OrderedDict[tuple[str, str], bytes])
    size: int = 0

    async def of(self, project: str, digest: Digest) -> bytes:
        """The exact bytes of a manifest; raises Unavailable where the bucket has lost them."""
        found = self.at_hand(project, digest)
        if found is not None:
            return found
        try:
            content = await self.blobs.content(manifest_object(project, digest))
        except BlobMissing as error:
            raise Unavailable(f"the bucket does not have the manifest {digest}") from error
        self._keep((project, digest), content)
        return content

    def at_hand(self, project: str, digest: Digest) -> bytes | None:
        """The same, if it was read lately."""
        found = self.kept.get((project, digest))
        if found is not None:
            self.kept.move_to_end((project, digest))
        return found

    def _keep(self, key: tuple[str, str], content: bytes) -> None:
        if len(content) > LARGEST_REMEMBERED or key in self.kept:
            return
        self.kept[key] = content
        self.size += len(content)
        while self.size > REMEMBERED_BYTES:
            _, oldest = self.kept.popitem(last=False)
            self.size -= len(oldest)


@dataclass(frozen=True)
class Referrers:
    """A page of descriptors, and where the next page begins."""

    descriptors: list[dict[str, object]]
    last: str = ""
    """The last digest that was looked at; empty at the end of the list."""


@dataclass(frozen=True)
class Reading:
    """Looks up manifests, tags and referrers."""

    store: Store
    contents: Contents

    async def manifest(self, name: ImageName, reference: Reference) -> Stored:
        """A manifest by tag or digest; raises ManifestUnknown."""
        digest, media_type = await self._resolved(name, reference)
        return Stored(digest, media_type, await self.contents.of(name.project, digest))

    def glimpse(self, place: Place, told: Glimpsed, *, downloads: bool) -> bool:
        """The same without a task, for what was read lately: state is asked all the same."""

        def hear(found: str | Unknown | None) -> None:
            told(self._at_hand(place, found) if isinstance(found, str) else None)

        return self.store.peek(place, hear, downloads=downloads)

    async def tags(self, name: ImageName, after: str, limit: int) -> list[str]:
        """A page of tags, in byte order; raises NameUnknown."""
        found = await self.store.tags(name, after, limit)
        if not found and not await self.store.has_image(name):
            raise NameUnknown(f"there is no image {name.path}")
        return found

    async def referrers(self, name: ImageName, subject: Digest, kind: str, after: str, limit: int) -> Referrers:
        """What refers to a digest, which need not exist; with a `kind` only what is of that artifact type.

        That is also what clients that know no subjects list under a tag of the digest's own form.
        """
        descriptors: list[dict[str, object]] = []
        listed = await self._listed_by_tag(name, subject)
        for _ in range(0, SCANNED, limit):
            own = await self.store.referrers(name, subject, after, limit + 1)
            digests = sorted({*own, *(digest for digest in listed if digest > after)})[: limit + 1]
            for digest in digests[:limit]:
                version = await self.store.version(name, digest)
                if version is None or version.facts.subject not in {"", subject}:
                    continue
                if kind in {"", version.facts.kind}:
                    descriptors.append(await self._descriptor(version))
            if len(digests) <= limit:
                return Referrers(descriptors)
            after = digests[limit - 1]
            if not kind or len(descriptors) >= limit:
                break
        return Referrers(descriptors, after)

    async def annotations(self, version: Version) -> dict[str, str]:
        """What stands in the manifest; where that is too long to be remembered, it is read from there."""
        remembered = version.facts.annotations
        if remembered is not None:
            return remembered
        return orjson.loads(await self.contents.of(version.name.project, version.digest))["annotations"]

    async def _listed_by_tag(self, name: ImageName, subject: Digest) -> tuple[str, ...]:
        """What is remembered of the index under the tag: nothing is fetched, and as it is now."""
        pointer = await self.store.pointer(name, referrers_tag(subject))
        index = await self.store.version(name, pointer.digest) if pointer else None
        return index.facts.children if index else ()

    def _at_hand(self, place: Place, found: str) -> Stored | None:
        try:
            digest, media_type = place.read(found)
        except ValueError:
            return None  # whoever asks with patience may fail with it
        content = self.contents.at_hand(place.project, digest)
        return None if content is None else Stored(digest, media_type, content)

    async def _resolved(self, name: ImageName, reference: Reference) -> tuple[Digest, str]:
        if not isinstance(reference, Digest):
            pointer = await self.store.pointer(name, reference)
            if pointer is None:
                raise ManifestUnknown(f"there is no tag {reference} of {name.path}")
            return pointer.digest, pointer.media_type
        media_type = await self.store.media_type(name, reference)
        if media_type is None:
            raise ManifestUnknown(f"there is no manifest {reference} of {name.path}")
        return reference, media_type

    async def _descriptor(self, version: Version) -> dict[str, object]:
        descriptor: dict[str, object] = {
            "mediaType": version.media_type,
            "digest": version.digest,
            "size": version.facts.size,
        }
        if version.facts.kind:
            descriptor["artifactType"] = version.facts.kind
        annotations = await self.annotations(version)
        return descriptor | ({"annotations": annotations} if annotations else {})
