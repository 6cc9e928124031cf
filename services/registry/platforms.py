"""For which platforms an image is: read from its config, which never changes, so what was read is remembered."""

from collections import OrderedDict
from dataclasses import dataclass, field

from services.registry.manifests import Manifest, config_platform
from services.registry.media_types import IMAGE_CONFIGS
from shared.blobs import BlobMissing, Blobs
from shared.names import blob_object

LARGEST_CONFIG = 1024 * 1024
"""Bytes of an image's config that are read for its platform; a larger one goes without."""

MOST_PLATFORMS = 64
"""Platforms of an index that are told; an event is small."""

REMEMBERED = 4096
"""Configs whose platform is known without reading them again; the oldest are forgotten first."""


@dataclass(frozen=True)
class Platforms:
    """Finds the platforms of manifests."""

    blobs: Blobs
    known: OrderedDict[str, tuple[str, ...]] = field(default_factory=OrderedDict[str, tuple[str, ...]])

    async def of(self, project: str, manifest: Manifest) -> tuple[str, ...]:
        """As `os/architecture`, perhaps with a variant; none where nobody says."""
        config = manifest.config
        if config is None or config.media_type not in IMAGE_CONFIGS:
            return manifest.platforms[:MOST_PLATFORMS]
        known = self.known.get(config.digest)
        if known is None:
            try:
                content = await self.blobs.content(blob_object(project, config.digest), LARGEST_CONFIG)
            except BlobMissing:
                return ()
            except ValueError:
                content = b""
            platform = config_platform(content)
            known = self.known[config.digest] = (platform,) if platform else ()
            if len(self.known) > REMEMBERED:
                self.known.popitem(last=False)
        return known
