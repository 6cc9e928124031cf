"""Uploads over HTTP, in every style that clients have: one request, two, or chunks."""

from dataclasses import dataclass

from aiohttp import hdrs, web

from services.registry import names
from services.registry.api.asked import image, require_scope, written
from services.registry.api.oci_errors import VERSION, spoken_error
from services.registry.errors import ChunkOutOfOrder, UploadUnknown
from services.registry.mounts import Mounts
from services.registry.names import ImageName
from services.registry.ranges import chunk
from services.registry.registry import Registry
from services.registry.sessions import Session
from services.registry.uploads import Body
from shared.digest import Digest
from shared.http.bodies import streamed
from shared.http.call import Call, call_of
from shared.http.gate import Authenticate
from shared.http.translation import UnsupportedMediaType
from shared.identity.caller import ANONYMOUS, Caller

STATE = "_state"
SESSION: web.RequestKey[Session] = web.RequestKey("session", Session)


def sessions_speak_for_themselves(authenticate: Authenticate, key: bytes) -> Authenticate:
    """Do not look at the bearer of an upload under way: its address authorises it, and a token may expire meanwhile.

    Its requests are those of the account that began it, and wait in that one's line.
    """

    async def spared(request: web.Request) -> Caller:
        if "upload" not in request.match_info:
            return await authenticate(request)
        try:
            return Caller(_opened(request, key).actor)
        except UploadUnknown:
            return ANONYMOUS  # which is what its face answers

    return spared


def _opened(request: web.Request, key: bytes) -> Session:
    """The session of an upload's address; raises UploadUnknown."""
    known: Session | None = request.get(SESSION)
    if known is None:
        known = request[SESSION] = Session.unseal(request.query.get(STATE, ""), key)
    return known


@dataclass(frozen=True)
class UploadFace:
    """Answers for `/v2/NAME/blobs/uploads/` and the addresses it gives out."""

    registry: Registry
    mounts: Mounts
    key: bytes

    async def begin(self, request: web.Request) -> web.Response:
        """Open an upload, or be done at once: by a mount, or with the blob as the body."""
        name, call = image(request), call_of(request)
        require_scope(call, name, "push")
        life = await self.registry.open_for_push(call, name)
        query = request.query
        if "mount" in query and await self._mounted(call, name, query["mount"], query.get("from", "")):
            call.changed_nothing()
            return _created(request, names.digest(query["mount"]))
        if "digest" in query and "mount" not in query:
            return await self._whole(request, name, names.digest(query["digest"]), life)
        await self.registry.uploads.require_room(name)
        session = self.registry.uploads.begin(name, call.caller.member, _algorithm(request), life)
        call.changed_nothing()
        return self._begun(request, session)

    async def status(self, request: web.Request) -> web.Response:
        """How far the upload has come."""
        session = await self.registry.uploads.status(self._session(request))
        return web.Response(status=204, headers=self._progress(request, session))

    async def append(self, request: web.Request) -> web.Response:
        """Take a chunk."""
        session = self._session(request)
        try:
            session = await self.registry.uploads.append(session, _body(request))
        except ChunkOutOfOrder as error:
            return await self._out_of_order(request, session, error)
        return self._accepted(request, session)

    async def finish(self, request: web.Request) -> web.Response:
        """Take the last chunk, or all of it, and close the upload."""
        session, call = self._session(request), call_of(request)
        digest = names.digest(request.query.get("digest", ""))
        call.caller = Caller(session.actor)
        act = self.registry.act(call, session.project)
        try:
            await self.registry.uploads.finish(session, digest, _body(request), act)
        except ChunkOutOfOrder as error:
            return await self._out_of_order(request, session, error)
        call.changed_nothing()
        return _created(request, digest)

    async def cancel(self, request: web.Request) -> web.Response:
        """Forget an upload."""
        session = self._session(request)
        await self.registry.uploads.status(session)
        await self.registry.uploads.cancel(session)
        return web.Response(status=204, headers=VERSION)

    async def _mounted(self, call: Call, name: ImageName, digest: str, source: str) -> bool:
        """Every refusal means an upload, because clients stop at any other answer."""
        act = self.registry.act(call, name.project)
        return await self.mounts.mount(call, name, names.digest(digest), source, act)

    async def _whole(self, request: web.Request, name: ImageName, digest: Digest, life: str) -> web.Response:
        call = call_of(request)
        await self.registry.uploads.whole(name, digest, _body(request), self.registry.act(call, name.project), life)
        call.changed_nothing()
        return _created(request, digest)

    def _session(self, request: web.Request) -> Session:
        session = _opened(request, self.key)
        if session.id != request.match_info["upload"] or session.name != image(request):
            raise UploadUnknown("there is no such upload")
        return session

    async def _out_of_order(self, request: web.Request, session: Session, error: ChunkOutOfOrder) -> web.Response:
        answer = spoken_error(request, error)
        answer.headers.update(self._progress(request, await self.registry.uploads.status(session)))
        return answer

    def _begun(self, request: web.Request, session: Session) -> web.Response:
        """Smaller chunks than the bucket likes are taken all the same: they are gathered."""
        answer, least = self._accepted(request, session), self.registry.uploads.blobs.least_chunk
        if least:
            answer.headers["OCI-Chunk-Min-Length"] = str(least)
        return answer

    def _accepted(self, request: web.Request, session: Session) -> web.Response:
        return web.Response(status=202, headers=self._progress(request, session))

    def _progress(self, request: web.Request, session: Session) -> dict[str, str]:
        address = f"/v2/{written(request)}/blobs/uploads/{session.id}?{STATE}={session.seal(self.key)}"
        # `0-0` is what clients know for an upload that has no bytes yet.
        return {
            **VERSION,
            hdrs.LOCATION: address,
            hdrs.RANGE: f"0-{max(session.offset - 1, 0)}",
            "Docker-Upload-UUID": session.id,
        }


def _algorithm(request: web.Request) -> str:
    return request.query.get("digest-algorithm", "sha256")


def _body(request: web.Request) -> Body:
    if request.headers.get(hdrs.CONTENT_ENCODING, "identity").lower() != "identity":
        raise UnsupportedMediaType("Blobs are taken without a Content-Encoding only.")
    span = request.headers.get(hdrs.CONTENT_RANGE)
    size = request.content_length
    return Body(streamed(request), size, chunk(span) if span and size != 0 else None)


def _created(request: web.Request, digest: Digest) -> web.Response:
    headers = {hdrs.LOCATION: f"/v2/{written(request)}/blobs/{digest}", "Docker-Content-Digest": digest}
    return web.Response(status=201, headers={**VERSION, **headers})
