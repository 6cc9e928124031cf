"""Attachments: manifests that refer to a version, made of files that the repository holds, or pushed by any client."""

import re
from dataclasses import dataclass, field

from services.registry.acts import Act, Beside, Deed
from services.registry.attaching import Attaching, Layer, Referrer
from services.registry.errors import AttachmentExists, ManifestUnknown
from services.registry.names import ImageName
from services.registry.pushing import Pushing
from services.registry.reading import Reading
from services.registry.records import FileNote, Version, attachment_id
from services.registry.store import Store
from shared.digest import Digest
from shared.events import Event
from shared.http.errors import Aborted, InvalidArgument
from shared.state import FieldIs, Index, IsMember, PutField, Unindex, Write

FILE_NAME = "artifactregistry.googleapis.com/file_name"
"""The annotation in which Google's client keeps what a file was called."""

TITLE = "org.opencontainers.image.title"
ID = "artifactregistry.googleapis.com/attachment_id"
NAMESPACE = "artifactregistry.googleapis.com/attachment_namespace"
OWN = (ID, NAMESPACE)
"""Annotations of the manifest that are no words of its owner. With the id in it, each attachment has its own digest."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_OTHER_ID = re.compile(r"(sha256-[0-9a-f]{64}|sha512-[0-9a-f]{128})~(.+)")
_FILE = "application/octet-stream"
_EMPTY = Digest.of(b"{}")


@dataclass(frozen=True)
class Attachment:
    """What somebody wants to attach."""

    id: str
    subject: Digest
    kind: str
    files: tuple[Digest, ...]
    namespace: str = ""
    annotations: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class Attachments:
    """Makes and finds attachments."""

    store: Store
    reading: Reading
    attaching: Attaching
    pushing: Pushing

    async def create(self, name: ImageName, asked: Attachment, act: Act) -> Version:
        """Attach files to a version of an image; raises AttachmentExists, ManifestUnknown, BlobUnknown."""
        if not _ID.fullmatch(asked.id):
            raise InvalidArgument("attachmentId is written in letters, digits, '.', '_' and '-', at most 128.")
        subject = await self._subject(name, asked)
        own = {ID: asked.id} | ({NAMESPACE: asked.namespace} if asked.namespace else {})
        made = Referrer(subject, asked.kind, await self._layers(name, asked.files), asked.annotations | own)
        await self.attaching.hold_config(name, Act(act.cause, _silent, act.key))
        manifest = made.manifest()
        try:
            await self.pushing.push(name, manifest, (), act, beside=self._named(name, manifest.digest, asked))
        except Aborted:
            await self._subject(name, asked)  # tells it in better words, where the id was taken or the subject deleted
            raise
        return await self.get(name.project, name.repository, asked.id)

    async def get(self, project: str, repository: str, attachment: str) -> Version:
        """The manifest that an attachment is; raises ManifestUnknown."""
        found = await self._find(project, repository, attachment)
        if found is None:
            raise ManifestUnknown(f"There is no attachment {attachment[:300]}.")
        return found

    async def page(self, project: str, repository: str, after: str, limit: int) -> list[tuple[str, Version | None]]:
        """A page of a repository's attachments by id; None where one went away meanwhile."""
        ids = await self.store.attachments(project, repository, after, limit)
        return [(each, await self._find(project, repository, each)) for each in ids]

    async def of(self, name: ImageName, subject: str, after: str, limit: int) -> list[tuple[str, Version | None]]:
        """A page of what refers to a version, by digest."""
        digests = await self.store.referrers(name, subject, after, limit)
        return [(digest, await self.store.version(name, digest)) for digest in digests]

    async def annotations(self, version: Version) -> dict[str, str]:
        """What stands in the manifest: its owner's words, and `OWN`."""
        return await self.reading.annotations(version)

    async def _find(self, project: str, repository: str, attachment: str) -> Version | None:
        place = await self.store.chosen_attachment(project, repository, attachment)
        told = _OTHER_ID.fullmatch(attachment)
        if place is not None:
            image, _, digest = place.rpartition("@")
        elif told:
            image, digest = told[2].replace("~", "/"), told[1].replace("-", ":", 1)
        else:
            return None
        found = await self.store.version(ImageName(project, repository, image), digest)
        return found if found and found.facts.subject and found.attachment_id == attachment else None

    async def _layers(self, name: ImageName, files: tuple[Digest, ...]) -> list[Layer]:
        notes = await self.store.file_notes(name.project, name.repository, files)
        layers: list[Layer] = []
        for digest, text in zip(files, notes, strict=True):
            held = await self.attaching.holdings.find(name.project, name.repository, digest)
            title = FileNote.parse(text).annotations.get(FILE_NAME, "")
            layers.append(Layer(_FILE, digest, held.size, {TITLE: title} if title else {}))
        return layers

    def _named(self, name: ImageName, digest: Digest, asked: Attachment) -> Beside:
        """The chosen id in place of the other one, as long as it is free and the subject there."""
        layout, place = self.store.layout, (name.project, name.repository)
        ids, listed = layout.attachment_ids(*place), layout.attachments(*place)
        writes: list[Write] = [
            PutField(layout.version(name, digest), "attachment", asked.id),
            PutField(ids, asked.id, f"{name.image}@{digest}"),
            Unindex(listed, attachment_id(name, digest)),
            Index(listed, asked.id),
        ]
        return Beside((FieldIs(ids, asked.id, None), IsMember(layout.versions(name), asked.subject)), writes)

    async def _subject(self, name: ImageName, asked: Attachment) -> Version:
        if await self.store.chosen_attachment(name.project, name.repository, asked.id) is not None:
            raise AttachmentExists(f"There is an attachment {asked.id} already.")
        subject = await self.store.version(name, asked.subject)
        if subject is None:
            raise ManifestUnknown(f"there is no manifest {asked.subject}")
        return subject


def files_of(version: Version) -> list[str]:
    """The files of an attachment: what its manifest names, but for its config."""
    config = version.facts.config or _EMPTY
    return [blob for blob in version.facts.blobs if blob != config]


def _silent(deed: Deed) -> list[Event]:
    """The attachment itself is on record."""
    del deed
    return []
