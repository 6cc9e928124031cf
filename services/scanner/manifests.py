"""Manifests as the scanner reads them: which layers an image has, which images an index has, and what is neither."""

from typing import Any, Self, cast

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator
from pydantic.alias_generators import to_camel

from shared.digest import Digest

IMAGE_CONFIGS = frozenset(
    {
        "application/vnd.oci.image.config.v1+json",
        "application/vnd.docker.container.image.v1+json",
    }
)
INDEXES = frozenset(
    {
        "application/vnd.oci.image.index.v1+json",
        "application/vnd.docker.distribution.manifest.list.v2+json",
    }
)
HELD = frozenset(
    {f"application/vnd.oci.image.layer.v1.tar{packing}" for packing in ("", "+gzip", "+zstd")}
    | {f"application/vnd.docker.image.rootfs.diff.tar{packing}" for packing in ("", ".gzip", ".zstd")}
)
"""Layers of these types are held by the repository that has the manifest, unless they name other addresses."""
_NO_ARCHIVES = ("application/vnd.in-toto", "application/vnd.oci.empty")

MOST_LAYERS = 32_768
"""As many as a manifest of the largest size can name; how many an image may have is a setting."""
MOST_IMAGES = 128


class Unsupported(Exception):
    """This is nothing whose packages could be listed; the message says what it is."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)


class _Platform(_Wire):
    os: str = ""
    architecture: str = ""


class Descriptor(_Wire):
    """What a manifest says of a thing it refers to."""

    media_type: str = ""
    digest: str
    size: int = 0
    platform: _Platform | None = None
    urls: Any = None
    annotations: dict[str, str] = {}

    @field_validator("digest")
    @classmethod
    def _well_formed(cls, digest: str) -> str:
        return Digest.parse(digest)

    @property
    def may_lie_elsewhere(self) -> bool:
        """Whether somebody may name this digest in a manifest without having the bytes."""
        return bool(self.urls) or self.media_type not in HELD


class Manifest(_Wire):
    """An image manifest or an index."""

    media_type: str = ""
    artifact_type: str = ""
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = Field(default=(), max_length=MOST_LAYERS)
    manifests: tuple[Descriptor, ...] = Field(default=(), max_length=MOST_IMAGES)

    @classmethod
    def read(cls, content: bytes) -> Self:
        """A manifest from its bytes; raises ValueError."""
        found: Any = orjson.loads(content)
        if not isinstance(found, dict):
            raise ValueError("the manifest is no object")  # noqa: TRY004 - what is wrong is a value from outside
        return cls.model_validate(cast("dict[str, Any]", found))

    @property
    def is_index(self) -> bool:
        """Whether this is a list of images."""
        return self.media_type in INDEXES or (not self.media_type and bool(self.manifests) and self.config is None)

    def images(self) -> list[Descriptor]:
        """The images of an index, without attestations and the like, which are for no platform. Raises Unsupported."""
        found = [one for one in self.manifests if one.platform is None or one.platform.os != "unknown"]
        if not found:
            raise Unsupported("the index lists no image")
        return found

    def archives(self) -> list[Descriptor]:
        """The layers of an image, lowest first. Raises Unsupported for what is no image."""
        if self.config is None or self.config.media_type not in IMAGE_CONFIGS:
            kind = self.artifact_type or (self.config.media_type if self.config else "") or self.media_type
            raise Unsupported(f"an artifact of type {kind[:200] or 'unknown'} is no container image")
        for layer in self.layers:
            if layer.media_type.endswith("+encrypted"):
                raise Unsupported("a layer is encrypted")
        return [layer for layer in self.layers if not layer.media_type.startswith(_NO_ARCHIVES)]
