"""What an image's config tells: its platform, and when it was built. It never changes, so what was read is kept."""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import NamedTuple

from services.registry.manifests import Manifest, config_tells
from services.registry.media_types import IMAGE_CONFIGS
from shared.blobs import BlobMissing, Blobs
from shared.names import blob_object

LARGEST_CONFIG = 1024 * 1024
"""Bytes of an image's config that are read; a larger one goes unread."""

MOST_PLATFORMS = 64
"""Platforms of an index that are told; an event is small."""

REMEMBERED = 4096
"""Configs that need not be read again; the oldest are forgotten first."""


class Told(NamedTuple):
    """What a manifest's config, or an index, tells of the image."""

    platforms: tuple[str, ...] = ()
    """As `os/architecture`, perhaps with a variant; none where nobody says."""
    built: str = ""


@dataclass(frozen=True)
class Platforms:
    """Finds out what manifests are for."""

    blobs: Blobs
    known: OrderedDict[str, Told] = field(default_factory=OrderedDict[str, Told])

    async def of(self, project: str, manifest: Manifest) -> Told:
        """What is told of the image."""
        config = manifest.config
        if config is None or config.media_type not in IMAGE_CONFIGS:
            return Told(manifest.platforms[:MOST_PLATFORMS])
        known = self.known.get(config.digest)
        if known is None:
            try:
                content = await self.blobs.content(blob_object(project, config.digest), LARGEST_CONFIG)
            except BlobMissing:
                return Told()
            except ValueError:
                content = b""
            platform, built = config_tells(content)
            known = self.known[config.digest] = Told((platform,) if platform else (), built)
            if len(self.known) > REMEMBERED:
                self.known.popitem(last=False)
        return known
