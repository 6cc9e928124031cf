"""Attaching an object as a referrer: the object becomes the only layer of a manifest whose subject is the image.

The manifest is the same whenever it is built from the same object, so a job that runs twice attaches once.
"""

from contextlib import aclosing
from dataclasses import dataclass

import orjson

from services.registry import media_types
from services.registry.acts import Act
from services.registry.errors import ManifestUnknown
from services.registry.hashing import Running, verified
from services.registry.holdings import Holdings
from services.registry.manifests import Manifest
from services.registry.names import ImageName
from services.registry.pushing import Pushing
from services.registry.records import Version
from services.registry.store import Store
from shared.blobs import Blobs
from shared.digest import Digest
from shared.events import Event
from shared.events.images import ReferrerAttached, ReferrerRequested
from shared.names import blob_object

ATTACH = "Docker-AttachReferrer"
_EMPTY = b"{}"


@dataclass(frozen=True)
class Attaching:
    """Builds and stores referrers."""

    store: Store
    holdings: Holdings
    pushing: Pushing
    blobs: Blobs

    async def attach(self, name: ImageName, asked: ReferrerRequested, act: Act) -> None:
        """Attach an object; raises ManifestUnknown where the subject is gone, BlobMissing where the object is."""
        subject = await self.store.version(name, asked.subject_digest)
        if subject is None:
            raise ManifestUnknown(f"there is no manifest {asked.subject_digest}")
        layer, size = await self._layer(name, asked.object, act)
        config = Digest.of(_EMPTY)
        await self.blobs.put(blob_object(name.project, config), _EMPTY)
        await self.holdings.keep(name, config, len(_EMPTY), act.part("config"), ATTACH)
        manifest = Manifest.parse(_content(asked, subject, layer, size), media_types.OCI_MANIFEST)
        await self.pushing.push(name, manifest, (), act.part("manifest"), _attached(name, asked, manifest))

    async def _layer(self, name: ImageName, stored: str, act: Act) -> tuple[Digest, int]:
        running = Running.begun("sha256")
        async for piece in self.blobs.read(stored):
            running.update(piece)
        layer = running.digest
        if not await self.holdings.holds(name.project, name.repository, layer):
            async with aclosing(verified(self.blobs.read(stored), layer, None)) as pieces:
                await self.blobs.put(blob_object(name.project, layer), pieces)
            await self.holdings.keep(name, layer, running.offset, act.part("layer"), ATTACH)
        return layer, running.offset


def _content(asked: ReferrerRequested, subject: Version, layer: Digest, size: int) -> bytes:
    body = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_MANIFEST,
        "artifactType": asked.artifact_type,
        "config": {"mediaType": media_types.OCI_EMPTY, "digest": Digest.of(_EMPTY), "size": len(_EMPTY)},
        "layers": [{"mediaType": asked.media_type, "digest": layer, "size": size}],
        "subject": {"mediaType": subject.media_type, "digest": subject.digest, "size": subject.facts.size},
    }
    annotations = dict(sorted(asked.annotations.items()))
    return orjson.dumps(body | ({"annotations": annotations} if annotations else {}))


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
