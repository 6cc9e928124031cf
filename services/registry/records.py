"""What the registry remembers of tags, manifests and repositories, in the form in which state keeps it."""

from dataclasses import asdict, dataclass, field, replace
from typing import Any, Self

import orjson

from services.registry.manifests import Descriptor, Manifest
from services.registry.names import ImageName
from services.registry.platforms import Told
from shared.digest import Digest
from shared.tag_rules import TagRules

MOST_LISTED = 64
"""Manifests of an index that are remembered with their platforms; those of a longer one are read from the index."""

LARGEST_ANNOTATIONS = 16 * 1024
"""Bytes of annotations that are remembered; more are read from the manifest each time they are asked for."""


@dataclass(frozen=True)
class Pointer:
    """What a tag points at. Kept as one line of words, which the hot path can take apart without parsing."""

    digest: Digest
    media_type: str
    created: str
    updated: str

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote."""
        digest, media_type, created, updated = text.split(" ")
        return cls(Digest(digest), media_type, created, updated)

    @property
    def text(self) -> str:
        """The line that state keeps."""
        return f"{self.digest} {self.media_type} {self.created} {self.updated}"


@dataclass(frozen=True)
class FileNote:
    """What is remembered of a blob because somebody uploaded it as a file, or annotated it."""

    created: str = ""
    """Empty where it came with an image."""
    updated: str = ""
    annotations: dict[str, str] = field(default_factory=dict[str, str])

    @classmethod
    def parse(cls, text: str | None) -> Self:
        """Read what `text` wrote; nothing is remembered of most blobs."""
        return cls(**orjson.loads(text)) if text else cls()

    @property
    def text(self) -> str:
        """The JSON that state keeps, the same for the same note."""
        return orjson.dumps(self, option=orjson.OPT_SORT_KEYS).decode()


@dataclass(frozen=True)
class Facts:
    """What is remembered of a manifest, so that lists and deletions need not read it."""

    size: int
    """Bytes of the manifest itself."""
    total: int
    """Bytes of the manifest, its config and its layers."""
    artifact_type: str = ""
    kind: str = ""
    """What referrers are filtered by."""
    subject: str = ""
    platforms: tuple[str, ...] = ()
    blobs: tuple[str, ...] = ()
    children: tuple[str, ...] = ()
    annotations: dict[str, str] | None = field(default_factory=dict[str, str])
    """None: too large to be remembered."""
    config: str = ""
    """The blob that is the config, and nothing else besides."""
    built: str = ""
    """When the image was built, as its config says."""
    manifests: tuple[dict[str, Any], ...] | None = None
    """What an index lists, in Google's words; None: not remembered."""

    @classmethod
    def of(cls, manifest: Manifest, told: Told) -> Self:
        """What is worth remembering of a manifest."""
        short = len(orjson.dumps(manifest.annotations)) <= LARGEST_ANNOTATIONS
        return cls(
            size=len(manifest.content),
            total=manifest.size,
            artifact_type=manifest.artifact_type,
            kind=manifest.kind,
            subject=manifest.subject or "",
            platforms=told.platforms,
            blobs=manifest.blobs,
            children=tuple(dict.fromkeys(child.digest for child in manifest.children)),
            annotations=manifest.annotations if short else None,
            config=manifest.own_config,
            built=told.built,
            manifests=tuple(map(listed, manifest.children)) if len(manifest.children) <= MOST_LISTED else None,
        )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote."""
        found: dict[str, Any] = orjson.loads(text)
        for name in ("platforms", "blobs", "children", "manifests"):
            if found.get(name) is not None:
                found[name] = tuple(found[name])
        return cls(**found)

    @property
    def text(self) -> str:
        """The JSON that state keeps."""
        return orjson.dumps(self).decode()


def listed(child: Descriptor) -> dict[str, Any]:
    """What an index says of a manifest that it lists, in Google's words."""
    system, architecture, variant, *_ = (*child.platform.split("/"), "", "", "")
    told: dict[str, Any] = {
        "digest": child.digest,
        "mediaType": child.media_type,
        "os": system,
        "architecture": architecture,
        "variant": variant,
        "osVersion": child.os_version,
        "osFeatures": child.os_features,
    }
    return {name: value for name, value in told.items() if value}


def attachment_id(name: ImageName, digest: str) -> str:
    """The id of an attachment for which nobody chose one: it tells where the manifest is, and nobody can choose it."""
    return f"{digest.replace(':', '-')}~{name.image.replace('/', '~')}"


@dataclass(frozen=True)
class Version:
    """One manifest of an image."""

    name: ImageName
    digest: Digest
    media_type: str
    facts: Facts
    uploaded: str
    updated: str
    generation: int
    """Of the last push or removal of a tag that concerned it."""
    annotations: dict[str, str] = field(default_factory=dict[str, str])
    """Words of its owner."""
    attachment: str = ""
    """The id that somebody chose for it as an attachment."""

    @property
    def attachment_id(self) -> str:
        """Its id as an attachment of its subject."""
        return self.attachment or attachment_id(self.name, self.digest)


@dataclass(frozen=True)
class Settings:
    """What a repository's owner may set, and when that was."""

    format: str = "DOCKER"
    mode: str = "STANDARD_REPOSITORY"
    description: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    immutable_tags: bool = False
    cleanup_policies: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    cleanup_policy_dry_run: bool = False
    download_rules: dict[str, dict[str, object]] = field(default_factory=dict[str, dict[str, object]])
    """By id, in the words of Artifact Registry's API."""
    created: str = ""
    updated: str = ""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read what `text` wrote; settings of a newer registry are passed over."""
        found: dict[str, Any] = orjson.loads(text)
        return cls(**{name: value for name, value in found.items() if name in cls.__dataclass_fields__})

    @property
    def text(self) -> str:
        """The JSON that state keeps, the same for the same settings."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS).decode()

    @property
    def tag_rules(self) -> TagRules:
        """Which tags may not be touched."""
        return TagRules.of(self.labels, immutable=self.immutable_tags)

    def at(self, updated: str) -> "Settings":
        """The same, changed just now."""
        return replace(self, updated=updated)


@dataclass(frozen=True)
class RepositoryRecord:
    """A repository, as it is now."""

    project: str
    repository: str
    settings: Settings
    life: str
    """Names this life of the repository; empty while it is being deleted."""
    text: str
    """The settings exactly as state has them, for comparing."""
