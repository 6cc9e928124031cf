"""What makes state know a record, with all indexes that it stands in; the same writes however often they are made."""

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.registry.download_rules import FIELD, beside
from services.registry.layout import Layout
from services.registry.names import ImageName
from services.registry.records import Facts, Pointer, Version, attachment_id
from shared.names import partition_of
from shared.state import Drop, DropField, Index, Put, PutField, State, Step, Unindex, Write

TOGETHER = 500
"""Writes that are made in one step."""


@dataclass
class Pen:
    """Makes writes, many at once and partition by partition."""

    state: State
    run: str
    """Tells the steps of this run from those of an earlier one."""
    waiting: dict[str, list[Write]] = field(default_factory=dict[str, list[Write]])
    numbers: "itertools.count[int]" = field(default_factory=itertools.count)

    async def later(self, partition: str, writes: Sequence[Write]) -> None:
        """Make these writes with others."""
        waiting = self.waiting.setdefault(partition, [])
        waiting += writes
        if len(waiting) >= TOGETHER:
            await self._make(partition, self.waiting.pop(partition))

    async def now(self, project: str, writes: Sequence[Write]) -> None:
        """Make these writes in one step."""
        await self._make(partition_of(project), writes)

    async def flush(self) -> None:
        """Make all that waits."""
        for partition in list(self.waiting):
            await self._make(partition, self.waiting.pop(partition))

    async def _make(self, partition: str, writes: Sequence[Write]) -> None:
        if writes:
            await self.state.apply(Step(partition, f"rebuild/{self.run}/{next(self.numbers)}", writes=tuple(writes)))


@dataclass(frozen=True)
class Entering:
    """Says what is to be written."""

    layout: Layout

    def repository(self, project: str, repository: str, record: Mapping[str, str]) -> list[Write]:
        """A repository's own record, and what stands beside it."""
        key = self.layout.repository(project, repository)
        return [
            *_fields(key, record),
            *beside(self.layout, project, repository, record.get(FIELD)),
            Index(self.layout.repositories(project), repository),
        ]

    def blob(self, project: str, repository: str, digest: str, size: str) -> list[Write]:
        """A blob that a repository holds."""
        layout = self.layout
        return [
            PutField(layout.blobs(project, repository), digest, size),
            Index(layout.blob_list(project, repository), digest),
            Index(layout.uses(project, digest), repository),
        ]

    def no_blob(self, project: str, repository: str, digest: str) -> list[Write]:
        """The repository holds it no more."""
        layout = self.layout
        return [
            DropField(layout.blobs(project, repository), digest),
            DropField(layout.files(project, repository), digest),
            Unindex(layout.blob_list(project, repository), digest),
            Unindex(layout.uses(project, digest), repository),
        ]

    def version(self, name: ImageName, digest: str, facts: Facts, record: Mapping[str, str]) -> list[Write]:
        """A manifest, wherever it is looked for; the count of the image's versions is made at the end."""
        layout, place = self.layout, (name.project, name.repository)
        holder = f"{name.image}@{digest}"
        return [
            *_fields(layout.version(name, digest), record),
            Index(layout.images(*place), name.image),
            Index(layout.versions(name), digest),
            *(Index(layout.holders(*place, blob), holder) for blob in facts.blobs),
            *(Index(layout.parents(name, child), digest) for child in facts.children),
            *(self._attachment(name, digest, facts.subject, record.get("attachment", "")) if facts.subject else []),
        ]

    def _attachment(self, name: ImageName, digest: str, subject: str, chosen: str) -> list[Write]:
        layout, place = self.layout, (name.project, name.repository)
        return [
            Index(layout.referrers(name, subject), digest),
            Index(layout.attachments(*place), chosen or attachment_id(name, digest)),
            *([PutField(layout.attachment_ids(*place), chosen, f"{name.image}@{digest}")] if chosen else []),
        ]

    def no_version(self, version: Version) -> list[Write]:
        """The manifest is gone; its tags are taken away beside this."""
        name, digest, facts = version.name, version.digest, version.facts
        layout, place = self.layout, (name.project, name.repository)
        holder = f"{name.image}@{digest}"
        return [
            Drop(layout.version(name, digest)),
            Unindex(layout.versions(name), digest),
            Drop(layout.tags_of(name, digest)),
            *(Unindex(layout.holders(*place, blob), holder) for blob in facts.blobs),
            *(Unindex(layout.parents(name, child), digest) for child in facts.children),
            *([Unindex(layout.referrers(name, facts.subject), digest)] if facts.subject else []),
            Unindex(layout.attachments(*place), version.attachment_id),
            *([DropField(layout.attachment_ids(*place), version.attachment)] if version.attachment else []),
        ]

    def image(self, name: ImageName, record: Mapping[str, str]) -> list[Write]:
        """An image's own record."""
        return _fields(self.layout.image(name), record)

    def no_image(self, name: ImageName) -> list[Write]:
        """The image has no version any more."""
        images = self.layout.images(name.project, name.repository)
        return [Drop(self.layout.image(name)), Unindex(images, name.image)]

    def uncounted(self, project: str) -> list[Write]:
        """Bytes, and who uses which manifest, are to be counted anew: until then nothing of the project is cleared."""
        return [Drop(self.layout.sizes(project)), Drop(self.layout.counted(project))]

    def tag(self, name: ImageName, tag: str, pointer: Pointer, before: Pointer | None) -> list[Write]:
        """A tag points here, and no more where it pointed before."""
        layout = self.layout
        moved = before is not None and before.digest != pointer.digest
        return [
            *([Unindex(layout.tags_of(name, before.digest), tag)] if before and moved else []),
            Put(layout.tag(name, tag), pointer.text),
            Index(layout.tags(name), tag),
            Index(layout.tags_of(name, pointer.digest), tag),
        ]

    def no_tag(self, name: ImageName, tag: str, pointer: Pointer) -> list[Write]:
        """The tag is gone."""
        layout = self.layout
        return [
            Drop(layout.tag(name, tag)),
            Unindex(layout.tags(name), tag),
            Unindex(layout.tags_of(name, pointer.digest), tag),
        ]


def _fields(key: str, record: Mapping[str, str]) -> list[Write]:
    return [PutField(key, name, text) for name, text in record.items()]
