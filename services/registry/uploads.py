"""Uploads of blobs: in one piece or in many, at one replica or at several, each byte hashed once on its way in.

Nothing of an upload stands in state but that it was cancelled, or what its bytes were found to be where its address
cannot tell: they are staged in the bucket from the first on, what else is known travels in the signed address. A blob
is durable under its digest before the repository holds it.
"""

from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, replace

from services.registry.acts import Act
from services.registry.errors import (
    ChunkOutOfOrder,
    DigestInvalid,
    QuotaExceeded,
    SizeInvalid,
    UploadInvalid,
    UploadTooLarge,
    UploadUnknown,
)
from services.registry.hashing import Hashes, Running, hashed, verified
from services.registry.holdings import Arrival, Holdings
from services.registry.names import ImageName
from services.registry.ranges import Span
from services.registry.resending import behind, not_twice
from services.registry.sessions import Session
from shared.blobs import BlobMissing, Blobs, StagingMoved
from shared.clock import Clock, Ids
from shared.digest import ALGORITHMS, Digest
from shared.names import blob_object, partition_of
from shared.state import Put, Step

FINISH = "Docker-FinishUpload"
"""The method's name in audit entries, as at Google."""

SMALL = 1024 * 1024
"""Bytes up to which a blob that comes in one piece is held in memory: it is whole if its digest says so."""

PATIENCE = 40
"""How often a chunk knocks, twenty times a second, where another is still being written."""


@dataclass(frozen=True)
class UploadLimits:
    """What one upload may take."""

    seconds: int
    """How long an upload may be under way."""
    blob: int | None = None
    """Bytes of a blob; None: no limit."""


@dataclass(frozen=True)
class Body:
    """What a request brings: the pieces, how many bytes were announced, and where they say they belong."""

    pieces: AsyncIterator[bytes]
    size: int | None = None
    span: Span | None = None


@dataclass(frozen=True)
class Uploads:
    """Takes blobs."""

    blobs: Blobs
    holdings: Holdings
    limits: UploadLimits
    hashes: Hashes
    clock: Clock
    ids: Ids

    def begin(self, name: ImageName, actor: str, algorithm: str = "sha256", life: str = "") -> Session:
        """Open an upload, which costs nothing but its address; raises UploadInvalid for an unknown algorithm."""
        if algorithm not in ALGORITHMS:
            raise UploadInvalid(f"digests are made with {' or '.join(ALGORITHMS)}")
        expires = int(self.clock.now()) + self.limits.seconds
        place = (name.project, name.repository, name.image)
        return Session(self.ids.new(), *place, expires, actor, algorithm, life=life)

    async def whole(self, name: ImageName, digest: Digest, body: Body, act: Act, life: str = "") -> None:
        """Take a blob that comes in one request; raises DigestInvalid, SizeInvalid, UploadTooLarge, QuotaExceeded."""
        size = await self._stored(name, digest, await self._roomy(name, body, digest=digest))
        await self.holdings.keep(Arrival(name, digest, size, life), act, FINISH)

    async def _stored(self, name: ImageName, digest: Digest, body: Body) -> int:
        self._refuse_too_large(body.size or 0)
        async with aclosing(verified(body.pieces, digest, self.limits.blob, body.size)) as pieces:
            return await self.blobs.put(blob_object(name.project, digest), pieces)

    async def require_room(self, name: ImageName) -> None:
        """Raises QuotaExceeded where there is no room for a single byte: before anybody sends any."""
        await self.holdings.quotas.require(name.project, name.repository, 1)

    async def _roomy(self, name: ImageName, body: Body, *, stands: int = 0, digest: str = "") -> Body:
        """The body, refused at once where more is announced than there is room for, else behind what there is."""
        quotas, place = self.holdings.quotas, (name.project, name.repository)
        room = await quotas.room(*place)
        if room is None:
            return body
        if body.size is None:
            return replace(body, pieces=self._measured(name, body.pieces, stands, room))
        await quotas.require(*place, stands + body.size, digest)
        return body

    async def _measured(
        self, name: ImageName, pieces: AsyncIterator[bytes], stands: int, room: int
    ) -> AsyncIterator[bytes]:
        async for piece in pieces:
            stands += len(piece)
            if stands > room:
                raise await self.holdings.quotas.exceeded(name.project, name.repository, stands)
            yield piece

    async def status(self, session: Session) -> Session:
        """Where the upload stands; raises UploadUnknown."""
        offset = await self._staged(session)
        return session if offset == session.offset else replace(session, offset=offset, hashed="")

    async def append(self, session: Session, body: Body) -> Session:
        """Take a chunk. Raises ChunkOutOfOrder, SizeInvalid, UploadUnknown, UploadTooLarge, QuotaExceeded.

        When the connection breaks the bytes that came are kept, and `status` tells how many; beyond a quota none is.
        """
        try:
            return await self._appended(session, body)
        except QuotaExceeded:
            await self._give_up(session)
            raise

    async def _give_up(self, session: Session) -> None:
        self.hashes.forget(session.id)
        await self.blobs.abandon(session.id)

    async def _appended(self, session: Session, body: Body) -> Session:
        offset = await self._staged(session)
        self._refuse_misplaced(offset, body)
        self._refuse_too_large(offset + (body.size or 0))
        body = await self._roomy(session.name, body, stands=offset)
        running = self.hashes.take(session.id, session.algorithm, offset)
        if not offset:
            await self.blobs.stage(session.id)
        try:
            after = await self._staged_behind(session.id, offset, running, body)
        except BlobMissing as error:
            raise _unknown() from error
        if running is not None:
            self.hashes.keep(session.id, running)
        _refuse_wrong_size(after - offset, body)
        return replace(session, offset=after, hashed=running.hex if running else "")

    async def _staged_behind(self, upload: str, offset: int, running: Running | None, body: Body) -> int:
        """A connection that broke may still be writing its last bytes: its successor waits for it a little."""
        left = None if self.limits.blob is None else self.limits.blob - offset
        tap = _Tap(body.pieces)
        for attempt in range(PATIENCE):
            try:
                async with aclosing(hashed(tap.flow(), running, left)) as pieces:
                    return await self.blobs.append(upload, offset, pieces)
            except StagingMoved as error:
                if error.offset != offset or tap.opened or attempt == PATIENCE - 1:
                    raise ChunkOutOfOrder(error.offset) from error
                await self.clock.sleep(0.05)
        raise AssertionError("the last attempt returns or raises")

    async def finish(self, session: Session, digest: Digest, body: Body, act: Act) -> None:
        """Take the last bytes, if any, and close the upload as the blob `digest`.

        Raises DigestInvalid and keeps the upload, ChunkOutOfOrder, UploadUnknown, QuotaExceeded. Twice is as good as
        once, also where the first time broke off with some of the last bytes staged.
        """
        whole, body = await self._small(session, digest, body)
        if whole is not None:
            await self.blobs.put(blob_object(session.project, digest), whole)
            await self._keep(session, digest, len(whole), act)
            return
        first = await _first(body.pieces)
        body = replace(body, pieces=_again(first, body.pieces))
        try:
            stands = await self._staged(session)
        except UploadUnknown:
            await self._finished_before(session, digest, act)
            return
        if not stands and body.span is None:
            if first or not await self.holdings.holds_on(session.name, digest):
                body = await self._roomy(session.name, body, digest=digest)
                await self._keep(session, digest, await self._stored(session.name, digest, body), act)
            return
        whole = session
        if first or body.span is not None:
            whole = await self.append(session, await self._not_twice(session, stands, body))
        await self._commit(session, await self.status(whole), digest, act)

    async def _not_twice(self, session: Session, stands: int, body: Body) -> Body:
        """More is staged than the address knows, and the body does not say where it belongs: it may have come before.

        Clients that use one address for all their chunks send it where the others end; the bytes tell one from the
        other.
        """
        if body.span is not None or stands <= session.offset:
            return body
        rest = not_twice(body.pieces, lambda: behind(session.offset, self.blobs.staged_bytes(session.id)))
        try:
            first = await _first(rest)
        except BlobMissing as error:
            raise _unknown() from error
        return Body(_again(first, rest))

    async def _small(self, session: Session, digest: Digest, body: Body) -> tuple[bytes | None, Body]:
        """The blob, where the body alone is all of it, whatever may be staged; else None and the body as it was."""
        self._refuse_expired(session)
        if session.offset or body.span is not None or not body.size or body.size > SMALL:
            return None, body
        self._refuse_too_large(body.size)
        await self._roomy(session.name, body, digest=digest)
        content = b"".join([piece async for piece in body.pieces])
        if len(content) == body.size and Digest.of(content, digest.algorithm) == digest:
            return content, body
        return None, replace(body, pieces=_again(content, _nothing()))

    async def _keep(self, session: Session, digest: Digest, size: int, act: Act) -> None:
        blob = Arrival(session.name, digest, size, session.life, unless=self._cancelled(session))
        await self.holdings.keep(blob, act, FINISH)

    async def cancel(self, session: Session) -> None:
        """Forget an upload and its bytes. Its address still opens: what remembers the cancellation lives as long."""
        self.hashes.forget(session.id)
        await self._remember(session, "cancel", self._cancelled(session), "")
        await self.blobs.abandon(session.id)

    async def forget_expired(self) -> int:
        """Clear uploads to which nothing was added for as long as any may live; how many there were."""
        before = self.clock.now() - self.limits.seconds
        old = [upload.name async for upload in self.blobs.uploads() if upload.modified < before]
        for upload in old:
            await self.blobs.abandon(upload)
        return len(old)

    async def _remember(self, session: Session, what: str, key: str, value: str) -> None:
        """For as long as the upload's address opens."""
        left = max(1, session.expires - int(self.clock.now()) + 1)
        step = Step(partition_of(session.project), f"{what} {session.id}", writes=(Put(key, value, seconds=left),))
        await self.holdings.steps.state.apply(step)

    async def _commit(self, asked: Session, session: Session, digest: Digest, act: Act) -> None:
        """Make the staged bytes the blob; `asked` is what the client's address knew of them."""
        actual, size = await self._digest(session, digest.algorithm)
        if actual != digest:
            raise DigestInvalid(f"the content has the digest {actual}, not {digest}")
        if (asked.digest, asked.offset) != (digest, size):
            # Should we die between the commit and the record, nothing but this tells that these bytes came.
            await self._remember(session, f"vouch {digest}", self._vouched(session), f"{digest} {size}")
        try:
            await self._roomy(session.name, Body(_nothing(), size), digest=digest)
        except QuotaExceeded:
            await self._give_up(session)
            raise
        try:
            await self.blobs.commit(session.id, blob_object(session.project, digest), size)
        except BlobMissing as error:
            raise _unknown() from error
        except StagingMoved as error:
            raise ChunkOutOfOrder(error.offset) from error
        self.hashes.forget(session.id)
        await self._keep(session, digest, size, act)

    async def _digest(self, session: Session, algorithm: str) -> tuple[Digest, int]:
        """Of how many bytes: from the address where it is known there, else from the bytes."""
        if session.digest is not None and session.algorithm == algorithm:
            return session.digest, session.offset
        running = Running.begun(algorithm)
        try:
            async for piece in self.blobs.staged_bytes(session.id):
                running.update(piece)
        except BlobMissing as error:
            raise _unknown() from error
        return running.digest, running.offset

    async def _finished_before(self, session: Session, digest: Digest, act: Act) -> None:
        """The bytes are staged no more. What vouches for them closes what a crash left open: the address, or state."""
        if await self.holdings.holds_on(session.name, digest):
            return
        stored = blob_object(session.project, digest)
        try:
            size = (await self.blobs.stat(stored)).size
        except BlobMissing:
            raise _unknown() from None
        if (session.digest, session.offset) != (digest, size):
            found = await self.holdings.store.state.value(self._vouched(session))
            if found != f"{digest} {size}":
                raise _unknown()
        await self._keep(session, digest, size, act)

    async def _staged(self, session: Session) -> int:
        """How many bytes are staged; none of an upload that has only just begun."""
        self._refuse_expired(session)
        try:
            return await self.blobs.staged(session.id)
        except BlobMissing as error:
            cancelled = await self.holdings.store.state.value(self._cancelled(session)) is not None
            if session.offset or cancelled:
                raise _unknown() from error
            return 0

    def _cancelled(self, session: Session) -> str:
        return self.holdings.store.layout.cancelled(session.project, session.id)

    def _vouched(self, session: Session) -> str:
        return self.holdings.store.layout.vouched(session.project, session.id)

    def _refuse_expired(self, session: Session) -> None:
        if session.expires < self.clock.now():
            raise _unknown()

    def _refuse_misplaced(self, offset: int, body: Body) -> None:
        if body.span is None:
            return
        if body.span.start != offset:
            raise ChunkOutOfOrder(offset)
        if body.size is not None and body.size != body.span.size:
            raise SizeInvalid(f"the range has {body.span.size} bytes, the body {body.size}")

    def _refuse_too_large(self, size: int) -> None:
        if self.limits.blob is not None and size > self.limits.blob:
            raise UploadTooLarge(f"a blob may have at most {self.limits.blob} bytes")


def _refuse_wrong_size(came: int, body: Body) -> None:
    expected = body.size if body.size is not None else body.span.size if body.span else None
    if expected is not None and came != expected:
        raise SizeInvalid(f"{came} bytes came, {expected} were announced")


@dataclass
class _Tap:
    """The pieces of a body, and whether any was taken."""

    pieces: AsyncIterator[bytes]
    opened: bool = False

    async def flow(self) -> AsyncIterator[bytes]:
        async for piece in self.pieces:
            self.opened = True
            yield piece


async def _first(pieces: AsyncIterator[bytes]) -> bytes:
    async for piece in pieces:
        if piece:
            return piece
    return b""


async def _nothing() -> AsyncIterator[bytes]:
    return
    yield


async def _again(first: bytes, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first:
        yield first
    async for piece in rest:
        yield piece


def _unknown() -> UploadUnknown:
    return UploadUnknown("there is no such upload: it was finished, cancelled, or has expired")
