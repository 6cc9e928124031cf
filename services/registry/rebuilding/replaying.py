"""Replaying: what was said of images behind the snapshot happens once more, to the records alone.

Each event sets or removes things outright, so a stretch of events that begins too early ends in the same records. What
an event does not tell of a manifest is read from the manifest itself.
"""

import asyncio
from dataclasses import dataclass

from services.registry.errors import DigestInvalid, ManifestInvalid
from services.registry.manifests import Manifest
from services.registry.media_types import OCI_MANIFEST
from services.registry.names import ImageName
from services.registry.platforms import Platforms
from services.registry.rebuilding.entering import Entering, Pen
from services.registry.rebuilding.loading import Missing
from services.registry.records import Facts, Pointer, Version
from services.registry.store import Store
from shared.blobs import BlobMissing, Blobs
from shared.bus import Heard
from shared.digest import Digest
from shared.events import Event
from shared.events.images import ImageDeleted, ImageEvent, ImagePushed, ImageUntagged, ReferrerAttached
from shared.names import blob_object, manifest_object
from shared.state import PutField, Unindex, Write

_LARGEST_MANIFEST = 8 * 1024 * 1024
_PAGE = 1000


@dataclass(frozen=True)
class _Arrival:
    """A manifest that came, under a tag or by digest alone."""

    name: ImageName
    digest: Digest
    media_type: str
    uploaded: str
    """When it came for the first time; empty where the event does not say."""
    time: str
    """When the event was said, a moment after it was decided."""
    generation: int
    tag: str = ""
    first_of_tag: bool = False


@dataclass(frozen=True)
class Replaying:
    """Does once more what events say."""

    store: Store
    blobs: Blobs
    platforms: Platforms
    entering: Entering
    pen: Pen
    missing: Missing

    async def replay(self, heard: Heard[Event]) -> None:
        """Take one event."""
        event = heard.event
        match event:
            case ImagePushed():
                await self._arrived(_pushed(event, heard))
            case ReferrerAttached():
                await self._arrived(_attached(event, heard))
            case ImageUntagged():
                await self._untagged(_name(event), event.tag, heard.generation)
            case ImageDeleted():
                await self.delete(_name(event), event.digest)
            case _:
                pass

    async def delete(self, name: ImageName, digest: str) -> None:
        """A manifest goes with its tags, and the image with its last manifest."""
        self.missing.manifests.pop(f"{name.path}@{digest}", None)
        version = await self.store.version(name, digest)
        if version is None:
            return
        while tags := await self.store.tags_of(name, digest, limit=_PAGE):
            pointers = await asyncio.gather(*(self.store.pointer(name, tag) for tag in tags))
            await self.pen.now(name.project, self._no_tags(name, digest, tags, pointers))
        await self.pen.now(name.project, self.entering.no_version(version))
        if not await self.store.versions(name, "", 1):
            await self.pen.now(name.project, self.entering.no_image(name))

    def _no_tags(self, name: ImageName, digest: str, tags: list[str], pointers: list[Pointer | None]) -> list[Write]:
        layout = self.store.layout
        writes: list[Write] = []
        for tag, pointer in zip(tags, pointers, strict=True):
            if pointer is not None and pointer.digest == digest:
                writes += self.entering.no_tag(name, tag, pointer)
            else:
                writes.append(Unindex(layout.tags_of(name, digest), tag))
        return writes

    async def _untagged(self, name: ImageName, tag: str, generation: int) -> None:
        pointer = await self.store.pointer(name, tag)
        if pointer is None:
            return
        writes = self.entering.no_tag(name, tag, pointer)
        if await self.store.has_version(name, pointer.digest):
            key = self.store.layout.version(name, pointer.digest)
            writes.append(PutField(key, "generation", str(generation)))
        await self.pen.now(name.project, writes)

    async def _arrived(self, arrival: _Arrival) -> None:
        name, digest = arrival.name, arrival.digest
        version = await self.store.version(name, digest)
        facts = version.facts if version else await self._facts(arrival)
        if facts is None:
            self.missing.manifest(f"{name.path}@{digest}", manifest_object(name.project, digest))
            return
        now = _now(arrival, version)
        record = {
            "media_type": arrival.media_type,
            "facts": facts.text,
            "uploaded": arrival.uploaded or (version.uploaded if version else now),
            "updated": now,
            "generation": str(arrival.generation),
            **({"attachment": version.attachment} if version and version.attachment else {}),
        }
        created, _ = await self.store.image_times(name)
        times = {"updated": now} | ({} if created else {"created": now})
        writes = [
            *self.entering.version(name, digest, facts, record),
            *self.entering.image(name, times),
            *await self._tag(arrival, now),
            *await self._held(name, facts),
        ]
        await self.pen.now(name.project, writes)

    async def _tag(self, arrival: _Arrival, now: str) -> list[Write]:
        if not arrival.tag:
            return []
        before = await self.store.pointer(arrival.name, arrival.tag)
        created = before.created if before and not arrival.first_of_tag else now
        pointer = Pointer(arrival.digest, arrival.media_type, created, now)
        return self.entering.tag(arrival.name, arrival.tag, pointer, before)

    async def _held(self, name: ImageName, facts: Facts) -> list[Write]:
        """The repository held all of it, or the manifest would have been refused."""
        sizes = await self.store.blob_sizes(name.project, name.repository, facts.blobs)
        unknown = [digest for digest, size in zip(facts.blobs, sizes, strict=True) if size is None]
        writes: list[Write] = []
        for digest in unknown:
            stored = blob_object(name.project, digest)
            try:
                size = (await self.blobs.stat(stored)).size
            except BlobMissing:
                self.missing.blob(f"{name.project}/{name.repository}@{digest}", stored)
            else:
                writes += self.entering.blob(name.project, name.repository, digest, str(size))
        return writes

    async def _facts(self, arrival: _Arrival) -> Facts | None:
        """What the manifest says; None where its bytes are not there, or are not these."""
        name = arrival.name
        try:
            content = await self.blobs.content(manifest_object(name.project, arrival.digest), _LARGEST_MANIFEST)
            manifest = Manifest.parse(content, arrival.media_type, arrival.digest)
        except (BlobMissing, ManifestInvalid, DigestInvalid, ValueError):
            return None
        return Facts.of(manifest, await self.platforms.of(name.project, manifest))


def _now(arrival: _Arrival, version: Version | None) -> str:
    """When it was decided: told of what was new then, and the same for all events of one step."""
    if version is None:
        return arrival.uploaded or arrival.time
    return version.updated if version.generation == arrival.generation else arrival.time


def _attached(event: ReferrerAttached, heard: Heard[Event]) -> _Arrival:
    return _Arrival(_name(event), Digest(event.digest), OCI_MANIFEST, "", heard.time, heard.generation)


def _pushed(event: ImagePushed, heard: Heard[Event]) -> _Arrival:
    return _Arrival(
        _name(event),
        Digest(event.digest),
        event.media_type,
        event.uploaded,
        heard.time,
        heard.generation,
        event.tag,
        first_of_tag=not event.previous_digest,
    )


def _name(event: ImageEvent) -> ImageName:
    return ImageName(event.project, event.repository, event.image)
