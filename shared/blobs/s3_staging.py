"""Staged uploads on S3: full parts are objects of their own, and one object keeps the list of them and the tail.

S3 cannot append, refuses parts below 5 MiB when objects are composed, and shows the bytes of a multipart upload to
nobody before it is completed; staged bytes must be readable, and any replica must be able to go on. The object with
the tail is replaced under a condition on its etag, so of two replicas that append at once one is told to look again.
"""

import asyncio
import secrets
from collections.abc import AsyncIterable, AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

import orjson
from minio.deleteobjects import DeleteObject

from shared.blobs.face import PIECE, BlobExists, BlobMissing, StagingMoved, Stat
from shared.blobs.names import checked_upload
from shared.blobs.s3_wire import S3Wire

PREFIX = "uploads/"
PART = 8 * 1024 * 1024
"""Bytes from which on a part becomes an object; S3 takes 10,000 of them, so an upload may have 78 GiB."""
_COPIES = 8
"""Parts that the store copies at the same time."""

_SIZE_DIGITS = 20


@dataclass(frozen=True)
class _Standing:
    """Where an upload stands: its object is a line with the size, a line with the parts, and the tail."""

    parts: tuple[tuple[str, int], ...] = ()
    tail: bytes = b""
    etag: str = ""

    @property
    def size(self) -> int:
        return sum(size for _, size in self.parts) + len(self.tail)

    def written(self) -> bytes:
        return b"%0*d\n%b\n%b" % (_SIZE_DIGITS, self.size, orjson.dumps(self.parts), self.tail)

    @classmethod
    def read(cls, content: bytes, etag: str) -> Self:
        _, parts, tail = content.split(b"\n", 2)
        return cls(tuple((name, size) for name, size in orjson.loads(parts)), tail, etag)


class S3Staging:
    """The part of the blobs face about staged uploads."""

    def __init__(self, wire: S3Wire) -> None:
        """`wire` leads to the bucket."""
        self._wire = wire

    async def stage(self, upload: str) -> None:
        """Begin a staged upload; one that is there already stays as it is."""
        with suppress(BlobExists):
            await self._wire.ask("PUT", _standing(upload), headers={"If-None-Match": "*"}, body=_Standing(()).written())

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        """Add bytes at `offset`."""
        found = await self._load(upload)
        if found.size != offset:
            raise StagingMoved(found.size)
        parts, tail = list(found.parts), bytearray(found.tail)
        try:
            async for piece in body:
                tail += piece
                if len(tail) >= PART:
                    parts.append(await self._part(upload, tail))
                    tail = bytearray()
        finally:
            now = _Standing(tuple(parts), bytes(tail), found.etag)
            if now.size != offset:
                await self._save(upload, now)
        return now.size

    async def staged(self, upload: str) -> int:
        """How many bytes an upload holds."""
        answer = await self._wire.ask("GET", _standing(upload), headers={"Range": f"bytes=0-{_SIZE_DIGITS - 1}"})
        return int(answer.content)

    async def staged_bytes(self, upload: str) -> AsyncIterator[bytes]:
        """The bytes that an upload holds, part by part."""
        found = await self._load(upload)
        for name, _ in found.parts:
            async with self._wire.answer("GET", name) as response:
                async for piece in response.content.iter_chunked(PIECE):
                    yield piece
        if found.tail:
            yield found.tail

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        """Make the staged bytes an object: a small one is put, a large one composed by the store from its parts."""
        try:
            found = await self._load(upload)
        except BlobMissing:
            await self._wire.ask("HEAD", name)
            return
        if size not in {None, found.size}:
            raise StagingMoved(found.size)
        if not found.parts:
            with suppress(BlobExists):
                await self._wire.ask("PUT", name, headers={"If-None-Match": "*"}, body=found.tail)
        elif not await self._exists(name):
            found = await self._compose(upload, found, name)
        await self._forget(upload, found)

    async def abandon(self, upload: str) -> None:
        """Forget an upload: its parts, also those that a lost race left, and its standing last."""
        try:
            small = not (await self._load(upload)).parts
        except BlobMissing:
            small = False
        if not small:
            prefix = f"{PREFIX}{checked_upload(upload)}/"
            await self._remove([item.name async for item in self._objects(prefix) if item.name != _standing(upload)])
        await self._wire.ask("DELETE", _standing(upload))

    async def uploads(self) -> AsyncIterator[Stat]:
        """Staged uploads by id, with 0 bytes where nothing but parts of a lost race is left."""
        changed: dict[str, float] = {}
        async for item in self._objects(PREFIX):
            upload = item.name.split("/")[1]
            changed[upload] = max(item.modified, changed.get(upload, 0.0))
        for upload, modified in sorted(changed.items()):
            try:
                size = await self.staged(upload)
            except BlobMissing:
                size = 0
            yield Stat(upload, size, modified)

    async def _load(self, upload: str) -> _Standing:
        answer = await self._wire.ask("GET", _standing(upload))
        return _Standing.read(answer.content, answer.headers.get("ETag", ""))

    async def _save(self, upload: str, now: _Standing) -> None:
        try:
            await self._wire.ask("PUT", _standing(upload), headers={"If-Match": now.etag}, body=now.written())
        except BlobExists as error:
            raise StagingMoved(await self.staged(upload)) from error

    async def _part(self, upload: str, content: bytes | bytearray) -> tuple[str, int]:
        # A name of its own, so that a replica that loses a race never overwrites a part of the one that wins it.
        name = f"{PREFIX}{checked_upload(upload)}/part-{secrets.token_hex(8)}"
        await self._wire.ask("PUT", name, body=content)
        return name, len(content)

    async def _exists(self, name: str) -> bool:
        try:
            await self._wire.ask("HEAD", name)
        except BlobMissing:
            return False
        return True

    async def _forget(self, upload: str, found: _Standing) -> None:
        """The standing goes first: parts without one are cleared in time, as those that a lost race left."""
        await self._wire.ask("DELETE", _standing(upload))
        if found.parts:
            await self._remove([name for name, _ in found.parts])

    async def _compose(self, upload: str, found: _Standing, name: str) -> _Standing:
        """Let the store copy the parts into one object, unless somebody else was faster; with the tail as a part."""
        if found.tail:
            found = _Standing((*found.parts, await self._part(upload, found.tail)), etag=found.etag)
        multipart, turns = await self._wire.begin(name), asyncio.Semaphore(_COPIES)

        async def copied(number: int, part: str) -> str:
            async with turns:
                return await self._wire.copied_part(name, multipart, number, part)

        copies = [asyncio.ensure_future(copied(number, part)) for number, (part, _) in enumerate(found.parts, 1)]
        try:
            etags = await asyncio.gather(*copies)
            await self._wire.complete(name, multipart, etags, {"If-None-Match": "*"})
        except BaseException as error:
            await _ended(copies)
            await self._wire.abort(name, multipart)
            if not isinstance(error, BlobExists):
                raise
        return found

    async def _objects(self, prefix: str) -> AsyncIterator[Stat]:
        client, bucket = self._wire.client, self._wire.bucket
        for item in await self._wire.in_thread(lambda: list(client.list_objects(bucket, prefix, recursive=True))):
            modified = item.last_modified.timestamp() if item.last_modified else 0.0
            yield Stat(item.object_name or "", item.size or 0, modified)

    async def _remove(self, names: list[str]) -> None:
        client, bucket = self._wire.client, self._wire.bucket
        doomed = [DeleteObject(name) for name in names]
        await self._wire.in_thread(lambda: list(client.remove_objects(bucket, doomed)))


async def _ended(copies: Sequence["asyncio.Future[str]"]) -> None:
    for copy in copies:
        copy.cancel()
    await asyncio.gather(*copies, return_exceptions=True)


def _standing(upload: str) -> str:
    return f"{PREFIX}{checked_upload(upload)}/standing"
