"""What the registry says about its images: our own events, and beside them Google's notification of the same."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from services.registry.names import ImageName
from services.registry.records import Facts, RepositoryRecord, Version
from shared.digest import Digest
from shared.events import Event
from shared.events.images import (
    GcrNotification,
    ImageDeleted,
    ImagePushed,
    ImageUntagged,
    RepositoryChanged,
    RepositoryState,
)


@dataclass(frozen=True)
class Push:
    """One tag, or none, that a manifest was pushed under."""

    digest: Digest
    media_type: str
    facts: Facts
    uploaded: str
    tag: str = ""
    previous: str = ""
    unchanged: bool = False


@dataclass(frozen=True)
class Voice:
    """Writes the events of one deployment: one location, one host name."""

    location: str
    host: str
    """As image names begin for people and in Google's notifications."""
    hosts: Mapping[str, str] = field(default_factory=dict[str, str])
    """Where there are several locations, the host name of each."""

    def pushed(self, name: ImageName, push: Push) -> list[Event]:
        """A manifest is there, under a tag or by digest alone."""
        return [
            ImagePushed(
                project=name.project,
                location=self.location,
                repository=name.repository,
                image=name.image,
                digest=push.digest,
                tag=push.tag,
                previous_digest=push.previous,
                unchanged=push.unchanged,
                media_type=push.media_type,
                artifact_type=push.facts.artifact_type,
                subject_digest=push.facts.subject,
                size=push.facts.total,
                platforms=push.facts.platforms,
                uploaded=push.uploaded,
            ),
            self._notification(name, "INSERT", digest=push.digest, tag=push.tag),
        ]

    def untagged(self, name: ImageName, tag: str, digest: Digest) -> list[Event]:
        """A tag is gone."""
        gone = ImageUntagged(
            project=name.project,
            location=self.location,
            repository=name.repository,
            image=name.image,
            tag=tag,
            digest=digest,
        )
        return [gone, self._notification(name, "DELETE", tag=tag)]

    def deleted(self, version: Version, tags: tuple[str, ...]) -> list[Event]:
        """A manifest is gone with its tags."""
        name = version.name
        gone = ImageDeleted(
            project=name.project,
            location=self.location,
            repository=name.repository,
            image=name.image,
            digest=version.digest,
            tags=tags,
            media_type=version.media_type,
        )
        return [gone, self._notification(name, "DELETE", digest=version.digest)]

    def repository(self, record: RepositoryRecord, change: str) -> list[Event]:
        """A repository was `created`, `updated` or `deleted`: the news, and the fact that stays."""
        settings = record.settings
        fact = RepositoryState(
            project=record.project,
            location=self.location,
            repository=record.repository,
            deleted=change == "deleted",
            format=settings.format,
            mode=settings.mode,
            description=settings.description,
            labels=settings.labels,
            immutable_tags=settings.immutable_tags,
            cleanup_policies=settings.cleanup_policies,
            cleanup_policy_dry_run=settings.cleanup_policy_dry_run,
            download_rules=settings.download_rules,
            created=settings.created,
            updated=settings.updated,
        )
        news = RepositoryChanged(
            project=record.project, location=self.location, repository=record.repository, change=change
        )
        return [fact, news]

    def resource(self, project: str, repository: str) -> str:
        """The full resource name of a repository."""
        return f"projects/{project}/locations/{self.location}/repositories/{repository}"

    def address(self, name: ImageName) -> str:
        """The image as people write it."""
        return f"{self.host}/{name.path}"

    def _notification(self, name: ImageName, action: str, *, digest: str = "", tag: str = "") -> GcrNotification:
        address = self.address(name)
        return GcrNotification(
            project=name.project,
            repository=name.repository,
            action=action,
            digest=f"{address}@{digest}" if digest else "",
            tag=f"{address}:{tag}" if tag else "",
        )
