"""The bucket on any S3 store, reached with the minio SDK's signatures.

Objects are visible whole or not at all by S3's own rule. How durable they are is the store's doing. Listing is in byte
order on S3, but not on every store where one name is a folder of another: names of one fixed shape avoid that.
"""

from collections.abc import AsyncIterable, AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from email.utils import parsedate_to_datetime
from itertools import islice
from pathlib import Path

from minio import Minio
from minio.credentials.credentials import Credentials
from minio.datatypes import Object
from minio.error import S3Error

from shared.blobs.face import PIECE, RangeInvalid, Stat
from shared.blobs.names import checked
from shared.blobs.s3_staging import PART as STAGED_PART
from shared.blobs.s3_staging import PREFIX, S3Staging
from shared.blobs.s3_wire import S3Wire

PART = 8 * 1024 * 1024
"""Bytes held of an object whose size is not known before: from here on it goes up in parts."""
_PAGE = 1000


@dataclass(frozen=True)
class S3Store:
    """Where a store is and who we are there."""

    endpoint: str
    """Host and port."""
    bucket: str
    access_key: str
    secret_key: str = field(repr=False)
    region: str = "us-east-1"
    secure: bool = True
    public_endpoint: str = ""
    """Host and port, or `http://` or `https://` and these, at which clients outside reach the store: presigned
    addresses begin so. Empty: the same."""

    def client(self) -> Minio:
        """The SDK's client, which signs for the endpoint."""
        return self._signing_for(self.endpoint, secure=self.secure)

    def client_outside(self) -> Minio:
        """The same for clients outside."""
        scheme, _, host = (self.public_endpoint or self.endpoint).rpartition("://")
        return self._signing_for(host.rstrip("/"), secure=scheme == "https" if scheme else self.secure)

    def _signing_for(self, host: str, *, secure: bool) -> Minio:
        return Minio(host, access_key=self.access_key, secret_key=self.secret_key, region=self.region, secure=secure)


class S3Blobs:
    """The blobs face over one bucket of an S3 store."""

    presigns = True
    least_chunk = STAGED_PART

    def __init__(self, store: S3Store) -> None:
        """Connects at the first request, not here."""
        credentials = Credentials(store.access_key, store.secret_key)
        self._wire = S3Wire(store.client(), store.bucket, store.region, credentials)
        self._outside = S3Wire(store.client_outside(), store.bucket, store.region, credentials)
        self._staging = S3Staging(self._wire)

    async def make_bucket(self) -> None:
        """Make the bucket where it is missing; for the launcher and tests, a deployment makes its own."""
        client, bucket = self._wire.client, self._wire.bucket
        if not await self._wire.in_thread(lambda: client.bucket_exists(bucket)):
            await self._wire.in_thread(lambda: client.make_bucket(bucket))

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        """Store an object, in one request while it is small."""
        headers = {"If-None-Match": "*"} if if_absent else {}
        if isinstance(body, bytes):
            await self._wire.ask("PUT", checked(name), headers=headers, body=body)
            return len(body)
        return await self._put_stream(checked(name), body, headers)

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        """Stream an object or a range of it."""
        if end is not None and end <= start:
            if start > 0 and start >= (await self.stat(name)).size:
                raise RangeInvalid(name)
            return
        headers = {"Range": f"bytes={start}-{'' if end is None else end - 1}"} if start or end is not None else {}
        async with self._wire.answer("GET", checked(name), headers=headers) as response:
            async for piece in response.content.iter_chunked(PIECE):
                yield piece

    async def content(self, name: str, limit: int = 8 * 1024 * 1024) -> bytes:
        """A small object whole."""
        async with self._wire.answer("GET", checked(name)) as response:
            if (response.content_length or 0) > limit:
                raise ValueError(f"{name} is larger than {limit} bytes")
            return await response.read()

    async def stat(self, name: str) -> Stat:
        """Size and time of an object."""
        headers = (await self._wire.ask("HEAD", checked(name))).headers
        return Stat(name, int(headers["Content-Length"]), parsedate_to_datetime(headers["Last-Modified"]).timestamp())

    async def delete(self, name: str) -> None:
        """Remove an object."""
        await self._wire.ask("DELETE", checked(name))

    async def delete_all(self, names: Sequence[str]) -> None:
        """Remove several objects, up to a thousand in one request."""
        await self._wire.remove([checked(name) for name in names])

    async def names(self, prefix: str, after: str = "") -> AsyncIterator[Stat]:
        """Objects by prefix, a page at a time; none where the bucket was not made yet, as some stores do at a write."""
        client, bucket = self._wire.client, self._wire.bucket
        listing = client.list_objects(bucket, prefix or None, recursive=True, start_after=after or None)
        while page := await self._wire.in_thread(lambda: _listed(listing)):
            for item in page:
                name = item.object_name or ""
                if not name.startswith(PREFIX) and name > after:
                    modified = item.last_modified.timestamp() if item.last_modified else 0.0
                    yield Stat(name, item.size or 0, modified)

    async def presigned(self, name: str, seconds: int) -> str | None:
        """An address at which the store itself serves the object for a while."""
        # Whatever is in it, a browser that follows the address must show none of it.
        kind = {"response-content-type": "application/octet-stream"}
        return self._outside.signed("GET", checked(name), kind, timedelta(seconds=seconds))

    def path(self, name: str) -> Path | None:
        """There is no such file."""
        del name

    async def stage(self, upload: str) -> None:
        """Begin a staged upload."""
        await self._staging.stage(upload)

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        """Add bytes at `offset`."""
        return await self._staging.append(upload, offset, body)

    async def staged(self, upload: str) -> int:
        """How many bytes an upload holds."""
        return await self._staging.staged(upload)

    def staged_bytes(self, upload: str) -> AsyncIterator[bytes]:
        """The bytes that an upload holds."""
        return self._staging.staged_bytes(upload)

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        """Make the staged bytes an object."""
        await self._staging.commit(upload, checked(name), size)

    async def abandon(self, upload: str) -> None:
        """Forget an upload."""
        await self._staging.abandon(upload)

    def uploads(self) -> AsyncIterator[Stat]:
        """Staged uploads by id."""
        return self._staging.uploads()

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _put_stream(self, name: str, body: AsyncIterable[bytes], headers: dict[str, str]) -> int:
        upload, etags, size = "", list[str](), 0
        try:
            async for part, last in _parts(body):
                size += len(part)
                if last and not upload:
                    await self._wire.ask("PUT", name, headers=headers, body=part)
                    return size
                upload = upload or await self._wire.begin(name)
                etags.append(await self._wire.part(name, upload, len(etags) + 1, part))
            await self._wire.complete(name, upload, etags, headers)
        except BaseException:
            if upload:
                await self._wire.abort(name, upload)
            raise
        return size


async def _parts(body: AsyncIterable[bytes]) -> AsyncIterator[tuple[bytearray, bool]]:
    """Parts of at least PART bytes, and whether it is the last, which may be shorter."""
    gathered = bytearray()
    async for piece in body:
        if len(gathered) >= PART:
            yield gathered, False
            gathered = bytearray()
        gathered += piece
    yield gathered, True


def _listed(listing: Iterator[Object]) -> list[Object]:
    """The next page."""
    try:
        return list(islice(listing, _PAGE))
    except S3Error as error:
        if error.code == "NoSuchBucket":
            return []
        raise
