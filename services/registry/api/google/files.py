"""Files as Artifact Registry's v1 API shows them: the blobs that a repository holds."""

import base64
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

from aiohttp import web

from services.registry import names
from services.registry.api.google.listing import Kind, Row, listed, wanted
from services.registry.api.google.places import REPOSITORY, Places, digest_of, read
from services.registry.api.sending import send
from services.registry.errors import BlobUnknown
from services.registry.holdings import Held
from services.registry.names import ImageName
from services.registry.records import RepositoryRecord
from shared.blobs import Blobs
from shared.digest import Digest
from shared.http.errors import InvalidArgument
from shared.http.routes import Route
from shared.http.translation import json_answer

_KIND = Kind("files", ("name", "owner"), ("name", "sizeBytes"))
_FILE = f"{REPOSITORY}/files/{{file:[^/]+}}"


@dataclass(frozen=True)
class FileFace:
    """Answers for `files`."""

    places: Places
    blobs: Blobs

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            read(f"{REPOSITORY}/files", self.page, "files.list", "ListFiles"),
            read(f"{_FILE}:download", self.download, "files.download", "DownloadFile"),
            read(_FILE, self.get, "files.get", "GetFile"),
        ]

    async def page(self, request: web.Request) -> web.Response:
        """A page of blobs; those of one version come from its record."""
        record = await self.places.repository(request)
        owner = wanted(request, _KIND).exact("owner")

        async def rows(after: str, limit: int) -> list[Row]:
            digests = await self._of_owner(record, owner) if "/versions/" in owner else None
            if digests is None:
                digests = await self.places.registry.store.held(record.project, record.repository, after, limit)
            found = [digest for digest in digests if digest > after][:limit]
            return [(digest, await self._json(record, Digest(digest))) for digest in found]

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One blob."""
        record = await self.places.repository(request)
        held = await self._held(request, record)
        return json_answer(await self._json(record, held.digest) or {})

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The bytes themselves, as `alt=media` asks for them."""
        if request.query.get("alt", "") != "media":
            raise InvalidArgument("A file is downloaded with alt=media.")
        held = await self._held(request, await self.places.repository(request))
        return await send(request, self.blobs, held, {})

    async def _held(self, request: web.Request, record: RepositoryRecord) -> Held:
        """The blob that a path names; a file that is no digest cannot exist."""
        try:
            digest = names.digest(unquote(request.match_info["file"]))
        except InvalidArgument as error:
            raise BlobUnknown("There is no such file.") from error
        # Any image's name will do: blobs belong to the repository.
        return await self.places.registry.standard.blob(ImageName(record.project, record.repository, "any"), digest)

    async def _of_owner(self, record: RepositoryRecord, owner: str) -> list[str]:
        package, _, version = owner.rpartition("/versions/")
        image = unquote(package.rpartition("/packages/")[2])
        name = ImageName(record.project, record.repository, image)
        found = await self.places.registry.store.version(name, digest_of(unquote(version)))
        return sorted(found.facts.blobs) if found else []

    async def _json(self, record: RepositoryRecord, digest: Digest) -> dict[str, Any] | None:
        store = self.places.registry.store
        size = await store.blob_size(record.project, record.repository, digest)
        if size is None:
            return None
        repository = self.places.registry.voice.resource(record.project, record.repository)
        body: dict[str, Any] = {
            "name": f"{repository}/files/{digest}",
            "sizeBytes": str(size),
            "hashes": [_hash(digest)] if digest.algorithm == "sha256" else [],
        }
        holders = await store.blob_holders(record.project, record.repository, digest, 1)
        if holders:
            image, _, version = holders[0].rpartition("@")
            body["owner"] = f"{repository}/packages/{quote(image, safe='')}/versions/{version}"
        return body


def _hash(digest: Digest) -> dict[str, str]:
    """Bytes travel as base64 in Google's JSON."""
    return {"type": "SHA256", "value": base64.b64encode(bytes.fromhex(digest.hex)).decode()}
