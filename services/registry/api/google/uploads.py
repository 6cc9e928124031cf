"""Uploads of files over Artifact Registry's v1 API: in one request, or resumable in chunks."""

import re
from dataclasses import dataclass, replace
from urllib.parse import urlencode

from aiohttp import hdrs, web
from pydantic import BaseModel, ConfigDict, Field

from services.registry import names
from services.registry.acts import Act
from services.registry.api.google.media import Multipart
from services.registry.api.google.operations import Operations
from services.registry.api.google.places import REPOSITORY, TYPE, Places, write
from services.registry.api.google.shelves import FileShelf
from services.registry.errors import ChunkOutOfOrder, Unsupported, UploadUnknown
from services.registry.filing import Filing
from services.registry.ranges import Span
from services.registry.records import RepositoryRecord
from services.registry.sessions import Session
from services.registry.uploads import Body
from shared.digest import Digest
from shared.http.bodies import body_of, json_object, streamed, validated
from shared.http.call import call_of
from shared.http.errors import InvalidArgument
from shared.http.routes import Audit, Handler, Route
from shared.http.translation import UnsupportedMediaType, json_answer

FILE = "file"
"""The kind of operation."""

_FILES = f"{REPOSITORY}/files:upload"
_MOST_ASKED = 64 * 1024
_RANGE = re.compile(r"bytes (?:([0-9]{1,18})-([0-9]{1,18})|\*)/([0-9]{1,18}|\*)", re.ASCII)


class UploadBody(BaseModel):
    """What is said of a file that comes."""

    model_config = ConfigDict(extra="forbid", populate_by_name=True)

    file_id: str = Field("", alias="fileId", max_length=256)
    file_type: str = Field("ATTACHMENT", alias="fileType")

    def expected(self) -> Digest | None:
        """The digest that the file must have; None where nobody says. Raises InvalidArgument, Unsupported."""
        if self.file_type != "ATTACHMENT":
            raise Unsupported("fileType: what images are made of is pushed by clients of the OCI protocol.")
        return names.digest(self.file_id) if self.file_id else None


@dataclass(frozen=True)
class Chunk:
    """What a request of a resumable upload says of its place."""

    span: Span | None
    """None: it brings nothing and asks how far the upload has come."""
    total: int | None
    """Bytes of the whole file; None where the client does not know yet."""

    @classmethod
    def of(cls, header: str, size: int | None) -> "Chunk":
        """Read a Content-Range; without one the body is all there is. Raises InvalidArgument."""
        if not header:
            return cls(Span(0, size or 0), size or 0)
        found = _RANGE.fullmatch(header.strip())
        if found is None:
            raise InvalidArgument(f"Content-Range: not a chunk's: {header[:100]!r}")
        span = Span(int(found[1]), int(found[2]) + 1) if found[1] else None
        total = None if found[3] == "*" else int(found[3])
        if span and (span.size < 1 or (total is not None and span.end > total)):
            raise InvalidArgument(f"Content-Range: not a chunk's: {header[:100]!r}")
        return cls(span, total)

    def ends(self, offset: int) -> bool:
        """Whether the file is whole once so many bytes are there."""
        return self.total == offset


@dataclass(frozen=True)
class FileUploadFace:
    """Answers for `files:upload`."""

    places: Places
    operations: Operations
    shelf: FileShelf
    filing: Filing
    key: bytes
    """What the addresses of resumable uploads are signed with, the same in all replicas."""

    def routes(self) -> list[Route]:
        """Its paths."""
        # Google's description has two paths; its client for Python takes the first one for everything.
        paths = (f"/upload{_FILES}", f"/resumable/upload{_FILES}")
        verbs = (("POST", self.upload), ("PUT", self.go_on))
        return [_streamed(verb, path, handler) for path in paths for verb, handler in verbs]

    async def upload(self, request: web.Request) -> web.Response:
        """Take a file that comes whole, alone or behind its description, or open a resumable upload."""
        record, kind = await self.places.repository(request), request.query.get("uploadType", "")
        _refuse_encoding(request)
        if kind == "resumable":
            return await self._begin(request, record)
        if kind == "media":
            return await self._take(
                request, record, validated(UploadBody, {}), Body(streamed(request), request.content_length)
            )
        if kind == "multipart":
            parts = Multipart.of(request.headers.get(hdrs.CONTENT_TYPE, ""), streamed(request))
            asked = validated(UploadBody, json_object(await parts.description()))
            return await self._take(request, record, asked, Body(parts.media()))
        raise InvalidArgument("uploadType is one of media, multipart and resumable.")

    async def go_on(self, request: web.Request) -> web.Response:
        """Take a chunk, or tell how far the upload has come; with the last byte the file is there."""
        record = await self.places.repository(request)
        _refuse_encoding(request)
        session = self._session(request, record)
        expected = validated(UploadBody, {"fileId": request.query.get("fileId", "")}).expected()
        chunk = Chunk.of(request.headers.get(hdrs.CONTENT_RANGE, ""), request.content_length)
        try:
            session = await self._further(request, session, chunk)
        except ChunkOutOfOrder:
            return await self._incomplete(request, await self.filing.uploads.status(session))
        if not chunk.ends(session.offset):
            return await self._incomplete(request, session)
        digest = await self.filing.close(session, self._act(request), expected)
        return await self._taken(request, record, digest)

    async def _further(self, request: web.Request, session: Session, chunk: Chunk) -> Session:
        uploads = self.filing.uploads
        if chunk.span is None and chunk.total != 0:
            return await uploads.status(session)
        span = chunk.span if chunk.span and chunk.span.size else None
        return await uploads.append(session, Body(streamed(request), request.content_length, span))

    async def _begin(self, request: web.Request, record: RepositoryRecord) -> web.Response:
        call, content = call_of(request), await body_of(request, _MOST_ASKED)
        asked = validated(UploadBody, json_object(content))
        asked.expected()
        session = self.filing.begin(record, call.caller.member)
        query = {"uploadType": "resumable", "upload_id": session.seal(self.key), "fileId": asked.file_id}
        # Clients of Google's take absolute addresses only.
        origin = request.url.origin()
        if request.headers.get("X-Forwarded-Proto", "").lower() == "https":
            origin = origin.with_scheme("https")
        call.changed_nothing()
        return web.Response(headers={hdrs.LOCATION: f"{origin}{request.path}?{urlencode(query)}"})

    def _session(self, request: web.Request, record: RepositoryRecord) -> Session:
        session = Session.unseal(request.query.get("upload_id", ""), self.key)
        mine = session.actor == call_of(request).caller.member
        if not mine or (session.project, session.repository) != (record.project, record.repository):
            raise UploadUnknown("There is no such upload.")
        return session

    async def _take(
        self, request: web.Request, record: RepositoryRecord, asked: UploadBody, body: Body
    ) -> web.Response:
        expected = asked.expected()
        session = self.filing.begin(record, call_of(request).caller.member)
        digest = await self.filing.take(session, body, self._act(request), expected)
        return await self._taken(request, record, digest)

    def _act(self, request: web.Request) -> Act:
        return self.places.act(request, "UploadFile", "files.upload")

    async def _taken(self, request: web.Request, record: RepositoryRecord, digest: Digest) -> web.Response:
        call = call_of(request)
        call.changed_nothing()  # where the repository held the same bytes already
        file = await self.shelf.one(record.project, record.repository, digest)
        operation = self.operations.made(request, FILE, record.repository, digest, (file, f"{TYPE}.File"))
        return json_answer({"operation": operation})

    async def _incomplete(self, request: web.Request, session: Session) -> web.Response:
        call_of(request).changed_nothing()
        headers = {hdrs.RANGE: f"bytes=0-{session.offset - 1}"} if session.offset else {}
        return web.Response(status=308, headers=headers)


def _streamed(verb: str, path: str, handler: Handler) -> Route:
    route = write(verb, path, handler, "files.upload", "UploadFile")
    return replace(route, audit=Audit.DATA_WRITE, body=0, seconds=0.0)


def _refuse_encoding(request: web.Request) -> None:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("Files are taken without a Content-Encoding only.")
