"""What the registry remembers: reading it. Changes are steps, made where they are decided."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import orjson

from services.registry.download_rules import FIELD
from services.registry.layout import Layout
from services.registry.names import ImageName, Reference
from services.registry.records import Facts, Pointer, RepositoryRecord, Settings, Version
from shared.digest import Digest
from shared.state import State, Told
from shared.tag_rules import TagRules


@dataclass(frozen=True, slots=True)
class Place:
    """Where state says what a tag points at, or of which type a digest is."""

    project: str
    digest: Digest | None
    """None where it is a tag."""
    key: str
    field: str
    ruled: str
    """The key of the sign that the repository has rules for downloads."""

    def read(self, found: str) -> tuple[Digest, str]:
        """Digest and media type, from what was found there."""
        if self.digest is not None:
            return self.digest, found
        return _pointed(found)


@lru_cache(maxsize=4096)
def _pointed(text: str) -> tuple[Digest, str]:
    """Kept, because the same few tags are asked for again and again."""
    pointer = Pointer.parse(text)
    return pointer.digest, pointer.media_type


@dataclass(frozen=True)
class Store:
    """Reads records from state."""

    state: State
    layout: Layout

    async def repository(self, project: str, repository: str) -> RepositoryRecord | None:
        """A repository that exists or is being deleted."""
        key = self.layout.repository(project, repository)
        text, life = await self.state.fields(key, ("settings", "open"))
        if text is None:
            return None
        return RepositoryRecord(project, repository, Settings.parse(text), life or "", text)

    async def life(self, project: str, repository: str) -> str | None:
        """Which life of the repository this is; None where there is none that takes changes."""
        return await self.state.field(self.layout.repository(project, repository), "open")

    async def tag_rules(self, project: str, repository: str) -> TagRules:
        """Which tags of a repository may not be touched."""
        return TagRules.parse(await self.state.field(self.layout.repository(project, repository), "tag_rules"))

    async def download_rules(self, project: str, repository: str) -> str | None:
        """What a repository has by way of rules for downloads."""
        return await self.state.field(self.layout.repository(project, repository), FIELD)

    async def repositories(self, project: str, after: str, limit: int) -> list[str]:
        """A page of the project's repositories."""
        return await self.state.members(self.layout.repositories(project), after=after, limit=limit)

    # Images.

    async def pointer(self, name: ImageName, tag: str) -> Pointer | None:
        """What a tag points at."""
        text = await self.state.value(self.layout.tag(name, tag))
        return None if text is None else Pointer.parse(text)

    def place(self, name: ImageName, reference: Reference) -> Place:
        """Where state says what a reference means."""
        ruled = self.layout.ruled(name.project, name.repository)
        if isinstance(reference, Digest):
            return Place(name.project, reference, self.layout.version(name, reference), "media_type", ruled)
        return Place(name.project, None, self.layout.tag(name, reference), "", ruled)

    def peek(self, place: Place, told: Told, *, downloads: bool) -> bool:
        """Ask what is there now, without a task; of `downloads` only where no rule is to be kept to."""
        return self.state.peek(place.key, told, field=place.field, unless=place.ruled if downloads else "")

    async def media_type(self, name: ImageName, digest: str) -> str | None:
        """The media type of a manifest; None where the image has none of that digest."""
        return await self.state.field(self.layout.version(name, digest), "media_type")

    async def version(self, name: ImageName, digest: str) -> Version | None:
        """All that is remembered of a manifest."""
        found = await self.state.record(self.layout.version(name, digest))
        if "facts" not in found:
            return None
        return Version(
            name,
            Digest(digest),
            found["media_type"],
            Facts.parse(found["facts"]),
            uploaded=found["uploaded"],
            updated=found["updated"],
            generation=int(found["generation"]),
            annotations=orjson.loads(found.get("annotations", "{}")),
            attachment=found.get("attachment", ""),
        )

    async def uploaded(self, name: ImageName, digest: str) -> str:
        """When a manifest was pushed first; empty where the image has none of that digest."""
        return await self.state.field(self.layout.version(name, digest), "uploaded") or ""

    async def images(self, project: str, repository: str, after: str, limit: int) -> list[str]:
        """A page of a repository's images."""
        return await self.state.members(self.layout.images(project, repository), after=after, limit=limit)

    async def has_image(self, name: ImageName) -> bool:
        """Whether the image has a version."""
        return await self.state.has_member(self.layout.images(name.project, name.repository), name.image)

    async def version_count(self, name: ImageName) -> str | None:
        """How many versions the image has, exactly as state has it."""
        return await self.state.field(self.layout.image(name), "versions")

    async def image_times(self, name: ImageName) -> tuple[str, str]:
        """When the image was first and last pushed."""
        created, updated = await self.state.fields(self.layout.image(name), ("created", "updated"))
        return created or "", updated or ""

    async def image_annotations(self, name: ImageName) -> dict[str, str]:
        """Words of the image's owner."""
        return orjson.loads(await self.state.field(self.layout.image(name), "annotations") or "{}")

    async def versions(self, name: ImageName, after: str, limit: int) -> list[str]:
        """A page of digests."""
        return await self.state.members(self.layout.versions(name), after=after, limit=limit)

    async def has_version(self, name: ImageName, digest: str) -> bool:
        """Whether the image has a manifest of that digest."""
        return await self.state.has_member(self.layout.versions(name), digest)

    async def tags(self, name: ImageName, after: str, limit: int) -> list[str]:
        """A page of tags, in byte order."""
        return await self.state.members(self.layout.tags(name), after=after, limit=limit)

    async def tags_of(self, name: ImageName, digest: str, limit: int = 1000, after: str = "") -> list[str]:
        """Tags that point at a digest, in byte order."""
        return await self.state.members(self.layout.tags_of(name, digest), after=after, limit=limit)

    async def parents(self, name: ImageName, digest: str, limit: int = 3, after: str = "") -> list[str]:
        """Indexes that list a manifest."""
        return await self.state.members(self.layout.parents(name, digest), after=after, limit=limit)

    async def referrers(self, name: ImageName, subject: str, after: str, limit: int) -> list[str]:
        """A page of the digests that refer to a subject."""
        return await self.state.members(self.layout.referrers(name, subject), after=after, limit=limit)

    async def attachments(self, project: str, repository: str, after: str, limit: int) -> list[str]:
        """A page of the ids of the repository's attachments."""
        return await self.state.members(self.layout.attachments(project, repository), after=after, limit=limit)

    async def chosen_attachment(self, project: str, repository: str, attachment: str) -> str | None:
        """`image@digest` of the attachment for which somebody chose this id."""
        return await self.state.field(self.layout.attachment_ids(project, repository), attachment)

    # Bytes.

    async def sizes(self, project: str, repositories: Sequence[str]) -> list[int]:
        """How many bytes each repository holds."""
        if not repositories:
            return []
        found = await self.state.fields(self.layout.sizes(project), repositories)
        return [max(0, int(size or "0")) for size in found]

    # Blobs.

    async def blob_sizes(self, project: str, repository: str, digests: Sequence[str]) -> list[str | None]:
        """Sizes of blobs as state has them; None for what the repository does not hold."""
        if not digests:
            return []
        return await self.state.fields(self.layout.blobs(project, repository), digests)

    async def blob_size(self, project: str, repository: str, digest: str) -> int | None:
        """The size of a blob that the repository holds."""
        found = await self.state.field(self.layout.blobs(project, repository), digest)
        return None if found is None else int(found)

    async def held(self, project: str, repository: str, after: str, limit: int) -> list[str]:
        """A page of the digests of the blobs that a repository holds."""
        return await self.state.members(self.layout.blob_list(project, repository), after=after, limit=limit)

    async def file_notes(self, project: str, repository: str, digests: Sequence[str]) -> list[str | None]:
        """What is noted of blobs, as state has it."""
        return await self.state.fields(self.layout.files(project, repository), digests) if digests else []

    async def blob_holders(  # noqa: PLR0913 - a page of an index has these parts
        self, project: str, repository: str, digest: str, limit: int = 3, *, after: str = "", prefix: str = ""
    ) -> list[str]:
        """Manifests that refer to a blob, as `image@digest`."""
        key = self.layout.holders(project, repository, digest)
        return await self.state.members(key, after=after, prefix=prefix, limit=limit)

    async def users(self, project: str, digest: str, limit: int = 16) -> list[str]:
        """Repositories of the project that hold a blob."""
        return await self.state.members(self.layout.uses(project, digest), limit=limit)
