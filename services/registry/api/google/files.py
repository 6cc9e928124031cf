"""Files over Artifact Registry's v1 API: the blobs that a repository holds, with what people note of them."""

from dataclasses import dataclass, replace
from urllib.parse import unquote

from aiohttp import web

from services.registry import names
from services.registry.api.google.annotations import annotated
from services.registry.api.google.listing import Kind, Row, listed, wanted
from services.registry.api.google.operations import Operations
from services.registry.api.google.places import REPOSITORY, Places, digest_of, read, write
from services.registry.api.google.shelves import FileShelf
from services.registry.api.sending import Sending
from services.registry.errors import BlobUnknown
from services.registry.filing import ANY, Filing
from services.registry.names import ImageName
from services.registry.records import RepositoryRecord
from shared.digest import Digest
from shared.http.call import call_of
from shared.http.errors import InvalidArgument
from shared.http.routes import Route
from shared.http.translation import json_answer

_KIND = Kind("files", ("name", "owner", "annotations"), ("name", "sizeBytes", "createTime", "updateTime"))
_FILE = f"{REPOSITORY}/files/{{file:[^/]+}}"


@dataclass(frozen=True)
class FileFace:
    """Answers for `files`."""

    places: Places
    operations: Operations
    shelf: FileShelf
    filing: Filing
    sending: Sending

    def routes(self) -> list[Route]:
        """Its paths."""
        return [
            read(f"{REPOSITORY}/files", self.page, "files.list", "ListFiles"),
            read(f"{_FILE}:download", self.download, "files.download", "DownloadFile"),
            read(_FILE, self.get, "files.get", "GetFile"),
            write("PATCH", _FILE, self.patch, "files.update", "UpdateFile"),
            write("DELETE", _FILE, self.delete, "files.delete", "DeleteFile"),
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
            return list(zip(found, await self.shelf.all(record.project, record.repository, found), strict=True))

        return await listed(request, _KIND, rows)

    async def get(self, request: web.Request) -> web.Response:
        """One blob."""
        record = await self.places.repository(request)
        return json_answer(await self.shelf.one(record.project, record.repository, _digest(request)))

    async def download(self, request: web.Request) -> web.StreamResponse:
        """The bytes themselves, as `alt=media` asks for them."""
        if request.query.get("alt", "") != "media":
            raise InvalidArgument("A file is downloaded with alt=media.")
        record = await self.places.repository(request)
        registry = self.places.registry
        held = await registry.standard.blob(_any(record), _digest(request))
        await registry.downloads.require_blob(call_of(request), replace(_any(record), image=""), held)
        return await self.sending.send(request, held, {})

    async def patch(self, request: web.Request) -> web.Response:
        """Change a file's annotations."""
        record, changed = await self.places.repository(request), await annotated(request)
        act = self.places.act(request, "UpdateFile", "files.update")
        await self.filing.annotate(record, _digest(request), changed, act)
        return await self.get(request)

    async def delete(self, request: web.Request) -> web.Response:
        """Let the repository forget a blob that no manifest refers to."""
        record = await self.places.repository(request)
        act = self.places.act(request, "DeleteFile", "files.delete")
        name = _any(record)
        await self.places.registry.repository(name).drop(name, _digest(request), act)
        return self.operations.done(request)

    async def _of_owner(self, record: RepositoryRecord, owner: str) -> list[str]:
        package, _, version = owner.rpartition("/versions/")
        image = unquote(package.rpartition("/packages/")[2])
        name = ImageName(record.project, record.repository, image)
        found = await self.places.registry.store.version(name, digest_of(unquote(version)))
        return sorted(found.facts.blobs) if found else []


def _digest(request: web.Request) -> Digest:
    """The blob that a path names; a file that is no digest cannot exist."""
    try:
        return names.digest(unquote(request.match_info["file"]))
    except InvalidArgument as error:
        raise BlobUnknown("There is no such file.") from error


def _any(record: RepositoryRecord) -> ImageName:
    return ImageName(record.project, record.repository, ANY)
