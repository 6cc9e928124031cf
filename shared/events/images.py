"""What the registry says and hears: images, tags, pulls, referrers, repositories."""

from typing import Any, ClassVar

import orjson

from shared.events.event import Event, Fact, Job


class ImageEvent(Event):
    """Common to all that happens to one image of a repository."""

    repository: str
    """The repository's id, such as `web`."""
    image: str
    """The image's name inside the repository; slashes are allowed."""

    def resource(self) -> str:
        """Images are announced by repository."""
        return self.repository


class ImagePushed(ImageEvent):
    """A manifest and all it refers to are durable, and the tag, if any, points at it."""

    topic: ClassVar[str] = "image.pushed"

    digest: str
    tag: str = ""
    previous_digest: str = ""
    """What the tag pointed at before."""
    unchanged: bool = False
    """The tag pointed at this digest already; its metadata was refreshed."""
    media_type: str
    artifact_type: str = ""
    subject_digest: str = ""
    """The manifest that this one refers to as its subject."""
    size: int
    """Bytes of the manifest, its config and its layers, each counted once."""
    platforms: tuple[str, ...] = ()
    uploaded: str
    """When, RFC 3339."""


class ImageUntagged(ImageEvent):
    """A tag is gone; the manifest stays."""

    topic: ClassVar[str] = "image.untagged"

    tag: str
    digest: str


class ImageDeleted(ImageEvent):
    """A manifest is gone, together with the tags that pointed at it."""

    topic: ClassVar[str] = "image.deleted"

    digest: str
    tags: tuple[str, ...] = ()
    media_type: str = ""


class ImagePulled(ImageEvent):
    """Pulls of a digest since the last such event; a hint outside the promise."""

    topic: ClassVar[str] = "image.pulled"

    digest: str
    count: int
    """How often the manifest itself was handed out."""
    last_pulled: str
    """When it, or something that it lists, was handed out last; empty where neither was."""
    below: int = 0
    """How often manifests were handed out that this index lists."""
    looks: int = 0
    """How often somebody asked for it without being handed it: HEAD, or a GET that found nothing new."""
    tags: tuple[str, ...] = ()
    """Tags that pointed at it within the last minute, at most 50."""


class ReferrerRequested(Job):
    """Attach this object as a referrer of that digest."""

    topic: ClassVar[str] = "referrer.requested"

    repository: str
    image: str
    subject_digest: str
    artifact_type: str
    media_type: str
    object: str
    """Name of the object in the bucket that becomes the only layer."""
    annotations: dict[str, str] = {}

    def resource(self) -> str:
        """Referrers are asked for by repository."""
        return self.repository


class ReferrerAttached(ImageEvent):
    """The object that was asked for is a referrer now."""

    topic: ClassVar[str] = "referrer.attached"

    subject_digest: str
    digest: str
    artifact_type: str
    size: int = 0
    """Bytes of its manifest, config and layers, as in `image.pushed`."""


class RepositoryState(Fact):
    """A repository's settings, as they are now."""

    topic: ClassVar[str] = "state.repository"

    repository: str
    format: str = "DOCKER"
    mode: str = "STANDARD_REPOSITORY"
    description: str = ""
    labels: dict[str, str] = {}
    immutable_tags: bool = False
    cleanup_policies: dict[str, dict[str, object]] = {}
    """By id, in the JSON form of Artifact Registry's CleanupPolicy."""
    cleanup_policy_dry_run: bool = False
    download_rules: dict[str, dict[str, object]] = {}
    """By id, in the JSON form of Artifact Registry's Rule."""
    created: str = ""
    updated: str = ""

    def resource(self) -> str:
        """One fact per repository."""
        return self.repository


class RepositoryChanged(Event):
    """A repository was made, changed or deleted; its settings are in `state.repository`."""

    topic: ClassVar[str] = "repository.changed"

    repository: str
    change: str
    """`created`, `updated` or `deleted`."""

    def resource(self) -> str:
        """Announced by repository."""
        return self.repository


class QuotaNear(Event):
    """A push took a repository, or all of a project, over 80 or 95 percent of its quota; said once per crossing."""

    topic: ClassVar[str] = "quota.near"

    repository: str = ""
    """Empty where it is the project's quota."""
    percent: int
    """The line that was crossed: 80 or 95."""
    used: int
    """Bytes that are held now."""
    limit: int
    """Bytes that may be held."""

    def resource(self) -> str:
        """Announced by repository, or by none."""
        return self.repository


class GcrNotification(Event):
    """An image change as Google's registries tell it on their topic `gcr`, for subscribers that parse just that."""

    topic: ClassVar[str] = "gcr"

    project: str = ""
    repository: str = ""
    action: str
    """`INSERT` or `DELETE`."""
    digest: str = ""
    """`HOST/PROJECT/REPOSITORY/IMAGE@sha256:...`."""
    tag: str = ""
    """`HOST/PROJECT/REPOSITORY/IMAGE:TAG`."""

    def resource(self) -> str:
        """Announced by repository."""
        return self.repository

    def belongs_on(self, subject: str) -> bool:
        """The content does not tell where it happened."""
        return subject.startswith(f"{self.topic}.")

    def data(self) -> dict[str, Any]:
        """Google's three fields and no other; where it happened is in the subject."""
        told = {"action": self.action, "digest": self.digest, "tag": self.tag}
        return {name: value for name, value in told.items() if value}

    def content(self) -> bytes:
        """The same as JSON."""
        return orjson.dumps(self.data())
