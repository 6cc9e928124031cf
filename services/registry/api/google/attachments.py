"""Attachments over Artifact Registry's v1 API: manifests that refer to a version, whoever pushed them."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from pydantic import BaseModel, ConfigDict, Field, field_validator

from services.registry import names
from services.registry.annotating import Annotating
from services.registry.api.google.listing import Kind, Row, listed, wanted
from services.registry.api.google.operations import Operations
from services.registry.api.google.places import REPOSITORY, TYPE, Places, digest_of, read, write
from services.registry.api.google.shelves import AttachmentShelf
from services.registry.attachments import OWN, Attachment, Attachments
from services.registry.names import ImageName, is_image
from services.registry.records import RepositoryRecord, Version
from shared.digest import Digest
from shared.http.bodies import json_body
from shared.http.errors import InvalidArgument, NotFound
from shared.http.routes import Route
from shared.http.translation import json_answer

ATTACHMENT = "attachment"
"""The kind of operation."""

_FILTERED = ("name", "target", "type", "attachmentNamespace", "ociVersionName")
_KIND = Kind("attachments", _FILTERED, ("name", "createTime", "updateTime"))
_ONE = f"{REPOSITORY}/attachments/{{attachment:[^/]+}}"
_MOST_FILES = 1000
_LONGEST = 255
_ANNOTATIONS = 8 * 1024


class AttachmentBody(BaseModel):
    """An attachment as clients write it; what only the registry can know is passed over."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    name: str = ""
    target: str
    kind: str = Field(alias="type", min_length=1, max_length=_LONGEST)
    namespace: str = Field("", alias="attachmentNamespace", max_length=_LONGEST)
    annotations: dict[str, str] = {}
    files: list[str] = Field(min_length=1, max_length=_MOST_FILES)
    create_time: str = Field("", alias="createTime")
    update_time: str = Field("", alias="updateTime")
    oci_version_name: str = Field("", alias="ociVersionName")

    @field_validator("annotations")
    @classmethod
    def _annotations(cls, annotations: dict[str, str]) -> dict[str, str]:
        if sum(len(text.encode()) for pair in annotations.items() for text in pair) > _ANNOTATIONS:
            raise ValueError(f"annotations have at most {_ANNOTATIONS} bytes")
        if set(annotations) & set(OWN):
            raise ValueError(f"annotations: {' and '.join(OWN)} are the registry's own")
        return Annotating.checked(annotations)


@dataclass(frozen=True)
class AttachmentFace:
    """Answers for `attachments`."""

    places: Places
    operations: Operations
    shelf: AttachmentShelf
    attachments: Attachments

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            read(f"{REPOSITORY}/attachments", self.page, "attachments.list", "ListAttachments"),
            write("POST", f"{REPOSITORY}/attachments", self.create, "attachments.create", "CreateAttachment"),
            read(_ONE, self.get, "attachments.get", "GetAttachment"),
            write("DELETE", _ONE, self.delete, "attachments.delete", "DeleteAttachment"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of attachments; those of one target, and the one that is a version, are found by an index."""
        record, chosen = await self.places.repository(request), wanted(request, _KIND)
        target, itself = chosen.exact("target"), chosen.exact("ociVersionName")

        async def rows(after: str, limit: int) -> list[Row]:
            found = await self._found(record, target, itself, after, limit)
            return [(place, await self._shown(version)) for place, version in found]

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One attachment."""
        return json_answer(await self.shelf.json(await self._asked(request)))

    async def create(self, request: web.Request) -> web.Response:
        """Attach files of the repository to one of its versions."""
        record = await self.places.repository(request)
        body = await json_body(request, AttachmentBody)
        attachment = request.query.get("attachmentId", request.query.get("attachment_id", ""))
        name, subject = self._version(record, body.target, "target")
        files = tuple(dict.fromkeys(self._file(record, file) for file in body.files))
        asked = Attachment(attachment, subject, body.kind, files, body.namespace, body.annotations)
        act = self.places.act(request, "CreateAttachment", "attachments.create")
        made = await self.shelf.json(await self.attachments.create(name, asked, act))
        told = (made, f"{TYPE}.Attachment")
        return json_answer(self.operations.made(request, ATTACHMENT, record.repository, attachment, told))

    async def delete(self, request: web.Request) -> web.Response:
        """Delete the manifest that the attachment is; its files stay."""
        version = await self._asked(request)
        act = self.places.act(request, "DeleteAttachment", "attachments.delete")
        await self.places.registry.repository(version.name).delete(version.name, version.digest, act)
        return self.operations.done(request)

    async def _asked(self, request: web.Request) -> Version:
        record, attachment = await self.places.repository(request), unquote(request.match_info["attachment"])
        return await self.attachments.get(record.project, record.repository, attachment)

    async def _found(
        self, record: RepositoryRecord, target: str, itself: str, after: str, limit: int
    ) -> list[tuple[str, Version | None]]:
        try:
            if itself:
                name, digest = self._version(record, itself, "ociVersionName")
                found = await self.places.registry.store.version(name, digest)
                return [(digest, found)] if digest > after else []
            if target:
                name, digest = self._version(record, target, "target")
                return await self.attachments.of(name, digest, after, limit)
        except (InvalidArgument, NotFound):
            return []  # what cannot be here has no attachments
        return await self.attachments.page(record.project, record.repository, after, limit)

    async def _shown(self, version: Version | None) -> dict[str, Any] | None:
        return await self.shelf.json(version) if version and version.facts.subject else None

    def _version(self, record: RepositoryRecord, text: str, field: str) -> tuple[ImageName, Digest]:
        """Raises InvalidArgument, ManifestUnknown."""
        here = f"{self.places.registry.voice.resource(record.project, record.repository)}/packages/"
        package, _, version = text.removeprefix(here).rpartition("/versions/")
        image = unquote(package)
        if not text.startswith(here) or not is_image(image):
            raise InvalidArgument(f"{field} must be a version in this repository: {here}PACKAGE/versions/DIGEST")
        return ImageName(record.project, record.repository, image), digest_of(unquote(version))

    def _file(self, record: RepositoryRecord, text: str) -> Digest:
        here = f"{self.places.registry.voice.resource(record.project, record.repository)}/files/"
        if not text.startswith(here):
            raise InvalidArgument(f"files must be of this repository: {here}DIGEST")
        return names.digest(unquote(text.removeprefix(here)))
