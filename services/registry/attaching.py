"""Attaching an object as a referrer: the object becomes the only layer of a manifest whose subject is the image.

The manifest is the same whenever it is built from the same object, so a job that runs twice attaches once.
"""

from collections.abc import Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import orjson

from services.registry import media_types
from services.registry.acts import Act
from services.registry.errors import ManifestUnknown
from services.registry.hashing import Running, verified
from services.registry.holdings import Arrival, Holdings
from services.registry.manifests import Manifest
from services.registry.names import ImageName
from services.registry.pushing import Pushing
from services.registry.records import Version
from services.registry.store import Store
from shared.blobs import Blobs
from shared.blobs.elsewhere import Buckets
from shared.digest import Digest
from shared.events import Event
from shared.events.images import ReferrerAttached, ReferrerRequested
from shared.names import blob_object

ATTACH = "Docker-AttachReferrer"
_EMPTY = b"{}"


@dataclass(frozen=True)
class Layer:
    """A blob that a referrer is made of."""

    media_type: str
    digest: Digest
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def descriptor(self) -> dict[str, object]:
        """How the manifest names it."""
        told: dict[str, object] = {"mediaType": self.media_type, "digest": self.digest, "size": self.size}
        return told | ({"annotations": self.annotations} if self.annotations else {})


@dataclass(frozen=True)
class Referrer:
    """A manifest that is to refer to a subject."""

    subject: Version
    artifact_type: str
    layers: Sequence[Layer]
    annotations: Mapping[str, str]

    def manifest(self) -> Manifest:
        """The manifest, the same for the same parts."""
        subject = self.subject
        body = {
            "schemaVersion": 2,
            "mediaType": media_types.OCI_MANIFEST,
            "artifactType": self.artifact_type,
            "config": {"mediaType": media_types.OCI_EMPTY, "digest": Digest.of(_EMPTY), "size": len(_EMPTY)},
            "layers": [layer.descriptor for layer in self.layers],
            "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.facts.size},
        }
        annotations = dict(sorted(self.annotations.items()))
        content = orjson.dumps(body | ({"annotations": annotations} if annotations else {}))
        return Manifest.parse(content, media_types.OCI_MANIFEST)


@dataclass(frozen=True)
class Attaching:
    """Builds and stores referrers."""

    store: Store
    holdings: Holdings
    pushing: Pushing
    blobs: Blobs
    elsewhere: Mapping[str, Blobs] = field(default_factory=dict[str, Blobs])
    """Buckets of other locations: who made the object may keep it there."""

    async def attach(self, name: ImageName, asked: ReferrerRequested, act: Act) -> None:
        """Attach an object; raises ManifestUnknown where the subject is gone, BlobMissing where the object is."""
        subject = await self.store.version(name, asked.subject_digest)
        if subject is None:
            raise ManifestUnknown(f"there is no manifest {asked.subject_digest}")
        layer, size = await self._layer(name, asked.object, act)
        await self.hold_config(name, act)
        layers = [Layer(asked.media_type, layer, size)]
        manifest = Referrer(subject, asked.artifact_type, layers, asked.annotations).manifest()
        await self.pushing.push(name, manifest, (), act.part("manifest"), instead=_attached(name, asked, manifest))

    async def hold_config(self, name: ImageName, act: Act) -> None:
        """Let the repository hold the config of every referrer."""
        config = Digest.of(_EMPTY)
        await self.blobs.put(blob_object(name.project, config), _EMPTY)
        await self.holdings.keep(Arrival(name, config, len(_EMPTY), free=True), act.part("config"), ATTACH)

    async def _layer(self, name: ImageName, stored: str, act: Act) -> tuple[Digest, int]:
        running, theirs = Running.begun("sha256"), await Buckets(self.blobs, self.elsewhere).having(stored)
        async for piece in theirs.read(stored):
            running.update(piece)
        layer = running.digest
        if not await self.holdings.holds(name.project, name.repository, layer):
            async with aclosing(verified(theirs.read(stored), layer, None)) as pieces:
                await self.blobs.put(blob_object(name.project, layer), pieces)
            await self.holdings.keep(Arrival(name, layer, running.offset, free=True), act.part("layer"), ATTACH)
        return layer, running.offset


def _attached(name: ImageName, asked: ReferrerRequested, manifest: Manifest) -> list[Event]:
    return [
        ReferrerAttached(
            project=asked.project,
            location=asked.location,
            repository=name.repository,
            image=name.image,
            subject_digest=asked.subject_digest,
            digest=manifest.digest,
            artifact_type=asked.artifact_type,
            size=manifest.size,
        )
    ]
