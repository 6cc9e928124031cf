"""Files and attachments as Artifact Registry's v1 API shows them."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from services.registry.api.google.places import Places
from services.registry.attachments import NAMESPACE, OWN, Attachments, files_of
from services.registry.errors import BlobUnknown
from services.registry.names import ImageName
from services.registry.records import FileNote, Version
from shared.digest import Digest


@dataclass(frozen=True)
class FileShelf:
    """Shows files."""

    places: Places

    async def one(self, project: str, repository: str, digest: str) -> dict[str, Any]:
        """A File; raises BlobUnknown."""
        (found,) = await self.all(project, repository, [digest])
        if found is None:
            raise BlobUnknown("There is no such file.")
        return found

    async def all(self, project: str, repository: str, digests: Sequence[str]) -> list[dict[str, Any] | None]:
        """Files; None for what the repository does not hold."""
        store = self.places.registry.store
        sizes = await store.blob_sizes(project, repository, digests)
        notes = await store.file_notes(project, repository, digests)
        rows = zip(digests, sizes, notes, strict=True)
        return [
            None if size is None else await self._json(project, repository, Digest(digest), int(size), note)
            for digest, size, note in rows
        ]

    async def _json(self, project: str, repository: str, digest: Digest, size: int, text: str | None) -> dict[str, Any]:
        store, resource = self.places.registry.store, self.places.registry.voice.resource(project, repository)
        note, owner, uploaded = FileNote.parse(text), "", ""
        for holder in await store.blob_holders(project, repository, digest, 1):
            image, _, version = holder.rpartition("@")
            owner = f"{resource}/packages/{quote(image, safe='')}/versions/{version}"
            uploaded = await store.uploaded(ImageName(project, repository, image), version)
        created = note.created or uploaded
        told: dict[str, Any] = {
            "createTime": created,
            "updateTime": note.updated or created,
            "annotations": note.annotations,
            "owner": owner,
        }
        body: dict[str, Any] = {
            "name": f"{resource}/files/{digest}",
            "sizeBytes": str(size),
            "hashes": [_hash(digest)] if digest.algorithm == "sha256" else [],
        }
        return body | {name: value for name, value in told.items() if value}


@dataclass(frozen=True)
class AttachmentShelf:
    """Shows attachments."""

    places: Places
    attachments: Attachments

    async def one(self, project: str, repository: str, attachment: str) -> dict[str, Any]:
        """An Attachment; raises ManifestUnknown."""
        return await self.json(await self.attachments.get(project, repository, attachment))

    async def json(self, version: Version) -> dict[str, Any]:
        """An Attachment."""
        repository = self.places.repository_name(version.name)
        package = f"{repository}/packages/{quote(version.name.image, safe='')}"
        words = await self.attachments.annotations(version)
        told: dict[str, Any] = {
            "type": version.facts.kind,
            "attachmentNamespace": words.get(NAMESPACE, ""),
            "annotations": {key: value for key, value in words.items() if key not in OWN},
            "files": [f"{repository}/files/{digest}" for digest in files_of(version)],
        }
        body: dict[str, Any] = {
            "name": f"{repository}/attachments/{version.attachment_id}",
            "target": f"{package}/versions/{version.facts.subject}",
            "createTime": version.uploaded,
            "updateTime": version.updated,
            "ociVersionName": f"{package}/versions/{version.digest}",
        }
        return body | {name: value for name, value in told.items() if value}


def _hash(digest: Digest) -> dict[str, str]:
    """Bytes travel as base64 in Google's JSON."""
    return {"type": "SHA256", "value": base64.b64encode(bytes.fromhex(digest.hex)).decode()}
