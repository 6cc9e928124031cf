"""Manifests: read from exact bytes, checked for contradictions, and what they refer to.

Unknown fields are kept, because the bytes are; nothing is ever written anew.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Self, cast

import orjson

from services.registry import media_types
from services.registry.errors import DigestInvalid, ManifestInvalid
from services.registry.media_types import IMAGES, INDEXES, SCHEMA_1, UNTELLING
from shared.digest import Digest

MOST_REFERENCES = 4096
"""Blobs and manifests that one manifest may name: they are all checked in one atomic step."""

MOST_FEATURES = 16
"""Features of an operating system that are told of a manifest in an index."""

_Json = dict[str, Any]
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[+-]\d\d:\d\d)", re.ASCII)


@dataclass(frozen=True)
class Descriptor:
    """What a manifest says of something it refers to."""

    media_type: str
    digest: Digest
    size: int
    platform: str = ""
    """`os/architecture[/variant]`."""
    elsewhere: bool = False
    """The bytes are to be had from other addresses: a registry need not hold them."""
    os_version: str = ""
    os_features: tuple[str, ...] = ()


@dataclass(frozen=True)
class Manifest:
    """A manifest, understood. `content` are the bytes as they came."""

    content: bytes
    digest: Digest
    media_type: str
    config: Descriptor | None = None
    layers: tuple[Descriptor, ...] = ()
    children: tuple[Descriptor, ...] = ()
    subject: Digest | None = None
    artifact_type: str = ""
    annotations: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def parse(cls, content: bytes, content_type: str = "", expected: Digest | None = None) -> Self:
        """Understand a manifest that came with this Content-Type and, by digest, was `expected` to be that.

        Raises ManifestInvalid, DigestInvalid.
        """
        actual = Digest.of(content, expected.algorithm if expected else "sha256")
        if expected is not None and actual != expected:
            raise DigestInvalid(f"the content has the digest {actual}, not {expected}")
        body = _document(content)
        media_type = _media_type(body, media_types.bare(content_type))
        manifest = cls(
            content,
            actual,
            media_type,
            config=_config(body, media_type),
            layers=_descriptors(body, "layers") if media_type in IMAGES else (),
            children=_descriptors(body, "manifests") if media_type in INDEXES else (),
            subject=_subject(body),
            artifact_type=_text(body, "artifactType"),
            annotations=_annotations(body),
        )
        if len(manifest.layers) + len(manifest.children) > MOST_REFERENCES:
            raise ManifestInvalid(f"a manifest may refer to at most {MOST_REFERENCES} things")
        return manifest

    @property
    def blobs(self) -> tuple[Digest, ...]:
        """Blobs that the repository must hold, each once."""
        parts = (*((self.config,) if self.config else ()), *self.layers)
        return tuple(dict.fromkeys(part.digest for part in parts if not part.elsewhere))

    @property
    def own_config(self) -> str:
        """The config that the repository must hold, unless it is a layer, too."""
        config = self.config
        if config is None or config.elsewhere or config.digest in {layer.digest for layer in self.layers}:
            return ""
        return config.digest

    @property
    def size(self) -> int:
        """Bytes of the manifest, its config and its layers, each counted once."""
        parts = {part.digest: part.size for part in (*((self.config,) if self.config else ()), *self.layers)}
        return len(self.content) + sum(parts.values())

    @property
    def platforms(self) -> tuple[str, ...]:
        """The platforms that an index names; an image's own stands in its config."""
        return tuple(dict.fromkeys(child.platform for child in self.children if child.platform))

    @property
    def kind(self) -> str:
        """The artifact type that referrers are listed and filtered by: an image without one goes by its config."""
        return self.artifact_type or (self.config.media_type if self.config else "")


def config_tells(content: bytes) -> tuple[str, str]:
    """Platform and time of an image by its config; empty where it says none or is no JSON."""
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError:
        return "", ""
    if not isinstance(body, dict):
        return "", ""
    told = cast("_Json", body)
    return _platform(told), _time(told.get("created"))


def _document(content: bytes) -> _Json:
    try:
        body = orjson.loads(content)
    except orjson.JSONDecodeError as error:
        raise ManifestInvalid(f"a manifest is JSON: {error}") from error
    if not isinstance(body, dict):
        raise ManifestInvalid("a manifest is a JSON object")
    return cast("_Json", body)


def _media_type(body: _Json, told: str) -> str:
    own = _text(body, "mediaType")
    if SCHEMA_1 & {told, own} or body.get("schemaVersion") == 1:
        raise ManifestInvalid(
            "this is a Docker image manifest of schema 1, which is no longer taken; "
            "push it with a client that writes schema 2 or OCI manifests, such as skopeo copy --format oci; "
            "some clients write it when another manifest was refused: then the reason is in the answer before"
        )
    if told in UNTELLING:
        told = own or _guessed(body)
    if own and own != told:
        raise ManifestInvalid(f"the Content-Type says {told!r}, the manifest's mediaType {own!r}")
    if told not in IMAGES | INDEXES:
        raise ManifestInvalid(f"manifests of the media type {told[:160]!r} are not taken")
    if body.get("schemaVersion") != 2:
        raise ManifestInvalid("schemaVersion must be 2")
    _refuse_two_readings(body, told)
    return told


def _guessed(body: _Json) -> str:
    return media_types.OCI_INDEX if "manifests" in body else media_types.OCI_MANIFEST


def _refuse_two_readings(body: _Json, media_type: str) -> None:
    """A document that reads as image and as index shows different things to different clients."""
    alien = ("layers", "config", "fsLayers") if media_type in INDEXES else ("manifests", "fsLayers")
    found = [name for name in alien if body.get(name)]
    if found:
        raise ManifestInvalid(f"{media_type} has no {found[0]!r}")


def _config(body: _Json, media_type: str) -> Descriptor | None:
    if media_type in INDEXES:
        return None
    if "config" not in body:
        raise ManifestInvalid("an image manifest has a config")
    return _descriptor(body["config"], "config")


def _descriptors(body: _Json, name: str) -> tuple[Descriptor, ...]:
    found: object = body.get(name) or []
    if not isinstance(found, list):
        raise ManifestInvalid(f"{name} is a list")
    return tuple(_descriptor(item, name) for item in cast("Sequence[object]", found))


def _descriptor(found: object, where: str) -> Descriptor:
    if not isinstance(found, dict):
        raise ManifestInvalid(f"{where}: a descriptor is an object")
    body = cast("_Json", found)
    size = body.get("size")
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
        raise ManifestInvalid(f"{where}: a descriptor's size is a number of bytes")
    media_type = _text(body, "mediaType")
    platform = cast("_Json", body["platform"]) if isinstance(body.get("platform"), dict) else {}
    return Descriptor(
        media_type,
        _digest(body, where),
        size,
        platform=_platform(platform),
        elsewhere=bool(body.get("urls")) or media_types.stays_elsewhere(media_type),
        os_version=_word(platform.get("os.version")),
        os_features=_words(platform.get("os.features")),
    )


def _digest(body: _Json, where: str) -> Digest:
    try:
        return Digest.parse(_text(body, "digest"))
    except ValueError as error:
        raise ManifestInvalid(f"{where}: {error}") from error


def _subject(body: _Json) -> Digest | None:
    found: object = body.get("subject")
    return None if found is None else _descriptor(found, "subject").digest


def _annotations(body: _Json) -> dict[str, str]:
    found: object = body.get("annotations") or {}
    if not isinstance(found, dict):
        raise ManifestInvalid("annotations are an object")
    annotations = cast("_Json", found)
    if not all(isinstance(value, str) for value in annotations.values()):
        raise ManifestInvalid("an annotation is a string")
    return annotations


def _word(found: object) -> str:
    return found[:64] if isinstance(found, str) else ""


def _words(found: object) -> tuple[str, ...]:
    words = cast("Sequence[object]", found)[:MOST_FEATURES] if isinstance(found, list) else ()
    return tuple(word for word in map(_word, words) if word)


def _time(found: object) -> str:
    """A time of RFC 3339, in UTC; empty where it is none."""
    if not isinstance(found, str) or not _TIME.fullmatch(found):
        return ""
    try:
        moment = datetime.fromisoformat(found).astimezone(UTC)
    except (ValueError, OverflowError):
        return ""
    return found if found.endswith("Z") else moment.isoformat().replace("+00:00", "Z")


def _platform(body: _Json) -> str:
    parts = (body.get("os"), body.get("architecture"), body.get("variant"))
    words = [part[:64] for part in parts if isinstance(part, str) and part]
    return "/".join(words) if len(words) > 1 else ""


def _text(body: _Json, name: str) -> str:
    found: object = body.get(name, "")
    if found is None:
        return ""
    if not isinstance(found, str) or len(found) > 1024:
        raise ManifestInvalid(f"{name} is a short string")
    return found
