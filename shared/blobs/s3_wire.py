"""Requests to an S3 store: the minio SDK signs each address, aiohttp carries the bytes.

The SDK's own calls block and cost more than the request itself, and it has no conditional create; what only it can do
(listing, deleting many) runs on a thread.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from html import unescape
from typing import TypeVar
from urllib.parse import quote, urlsplit

import aiohttp
import urllib3
from minio import Minio
from minio.credentials.credentials import Credentials
from minio.deleteobjects import DeleteObject
from minio.error import MinioException, S3Error
from minio.signer import sign_v4_s3
from yarl import URL

from shared.blobs.face import PIECE, BlobExists, BlobMissing, BucketUnavailable, RangeInvalid

T = TypeVar("T")

_SIGNED_FOR = timedelta(minutes=15)
_NOTHING = sha256(b"").hexdigest()
_PATIENCE = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)
_REFUSALS: Mapping[int, type[Exception]] = {404: BlobMissing, 412: BlobExists, 416: RangeInvalid}


@dataclass(frozen=True)
class Answer:
    """What a request without a streamed answer brought."""

    headers: Mapping[str, str]
    content: bytes

    def element(self, name: str) -> str:
        """The text of the first XML element of that name. Raises BucketUnavailable when there is none."""
        found = re.search(rf"<{name}>([^<]*)</{name}>", self.content.decode(errors="replace"))
        if found is None:
            raise BucketUnavailable(f"the store's answer has no {name}")
        return unescape(found[1])


class S3Wire:
    """Speaks to one bucket."""

    def __init__(self, client: Minio, bucket: str, region: str, credentials: Credentials) -> None:
        """`client` knows its region, so that signing asks nobody."""
        self.client = client
        self.bucket = bucket
        self._region = region
        self._credentials = credentials
        self._session: aiohttp.ClientSession | None = None

    def signed(
        self, verb: str, name: str, query: Mapping[str, str] | None = None, lasts: timedelta = _SIGNED_FOR
    ) -> str:
        """An address that allows one kind of request on one object for a while."""
        return self.client.get_presigned_url(verb, self.bucket, name, lasts, extra_query_params=dict(query or {}))

    async def ask(
        self,
        verb: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> Answer:
        """One request, its answer whole."""
        async with self.answer(verb, name, query=query, headers=headers, body=body) as response:
            return Answer(response.headers, await response.read())

    @asynccontextmanager
    async def answer(
        self,
        verb: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        body: bytes | bytearray = b"",
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        """One request, its answer to be read piece by piece; refusals are raised as the face names them."""
        sent = dict(headers or {})
        if verb in {"PUT", "POST"}:
            sent["Content-Length"] = str(len(body))
        async with self._sent(verb, self.signed(verb, name, query), name, sent, body) as response:
            yield response

    @asynccontextmanager
    async def _sent(
        self, verb: str, address: str, name: str, headers: Mapping[str, str], body: bytes | bytearray = b""
    ) -> AsyncGenerator[aiohttp.ClientResponse]:
        try:
            async with self._connected().request(
                verb, URL(address, encoded=True), headers=headers, data=_body(body)
            ) as response:
                if response.status >= 300:
                    raise await _refusal(response, name)
                yield response
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise BucketUnavailable(f"{verb}: {type(error).__name__}") from error

    async def in_thread(self, work: Callable[[], T]) -> T:
        """A call of the SDK."""
        try:
            return await asyncio.to_thread(work)
        except S3Error as error:
            if error.code in {"NoSuchKey", "NoSuchUpload"}:
                raise BlobMissing(error.object_name or "") from error
            raise BucketUnavailable(error.code or "S3Error") from error
        except (MinioException, urllib3.exceptions.HTTPError, OSError) as error:
            raise BucketUnavailable(type(error).__name__) from error

    async def remove(self, names: Sequence[str]) -> None:
        """Remove many objects: the SDK puts a thousand into one request."""
        doomed = [DeleteObject(name) for name in names]
        failed = await self.in_thread(lambda: list(self.client.remove_objects(self.bucket, doomed)))
        if failed:
            raise BucketUnavailable(f"{len(failed)} objects stay: {failed[0].code}")

    # A multipart upload, for what is large or of unknown size.

    async def begin(self, name: str) -> str:
        """Begin a multipart upload and return its id."""
        return (await self.ask("POST", name, query={"uploads": ""})).element("UploadId")

    async def part(self, name: str, upload: str, number: int, content: bytes | bytearray) -> str:
        """Send a part, counted from 1, and return its etag."""
        query = {"partNumber": str(number), "uploadId": upload}
        return (await self.ask("PUT", name, query=query, body=content)).headers.get("ETag", "")

    async def copied_part(self, name: str, upload: str, number: int, source: str) -> str:
        """Let the store copy an object as a part, and return the part's etag."""
        query = {"partNumber": str(number), "uploadId": upload}
        address, _, _ = self.signed("PUT", name, query).partition("&X-Amz-Algorithm=")
        # S3 wants headers of its own kind signed, which a presigned address does not do.
        headers = {
            "Host": urlsplit(address).netloc,
            "x-amz-copy-source": f"/{self.bucket}/{quote(source)}",
        }
        async with self._sent("PUT", address, name, self._signing("PUT", address, headers)) as response:
            answer = Answer(response.headers, await response.read())
        _refuse_late(answer)
        return answer.element("ETag")

    def _signing(self, verb: str, address: str, headers: Mapping[str, str]) -> dict[str, str]:
        """Headers with a signature over them, for a request without a body."""
        now = datetime.now(UTC)
        told = {**headers, "x-amz-content-sha256": _NOTHING, "x-amz-date": now.strftime("%Y%m%dT%H%M%SZ")}
        signed = sign_v4_s3(
            method=verb,
            url=urlsplit(address),
            region=self._region,
            headers=dict(told),
            credentials=self._credentials,
            content_sha256=_NOTHING,
            date=now,
        )
        return {name: str(value) for name, value in signed.items()}

    async def complete(self, name: str, upload: str, etags: Sequence[str], headers: Mapping[str, str]) -> None:
        """Make the parts an object."""
        parts = "".join(
            f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag></Part>" for number, etag in enumerate(etags, 1)
        )
        body = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        _refuse_late(await self.ask("POST", name, query={"uploadId": upload}, headers=headers, body=body))

    async def abort(self, name: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        await self.ask("DELETE", name, query={"uploadId": upload})

    async def close(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _connected(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(timeout=_PATIENCE, auto_decompress=False)
        return self._session


def _body(content: bytes | bytearray) -> bytes | bytearray | AsyncIterator[bytes] | None:
    return content or None if len(content) <= PIECE else _in_pieces(content)


async def _in_pieces(content: bytes | bytearray) -> AsyncIterator[bytes]:
    """A large body piece by piece, so that other connections have their turn between."""
    view = memoryview(content)
    for offset in range(0, len(content), PIECE):
        yield bytes(view[offset : offset + PIECE])


def _refuse_late(answer: Answer) -> None:
    """Where something takes long S3 says 200 before it knows."""
    if b"<Error>" in answer.content:
        raise BucketUnavailable(answer.element("Code"))


async def _refusal(response: aiohttp.ClientResponse, name: str) -> Exception:
    known = _REFUSALS.get(response.status)
    if known is not None:
        return known(name)
    content = await response.content.read(4096)
    code = re.search(rb"<Code>(\w+)</Code>", content)
    return BucketUnavailable(f"{response.status} {code[1].decode() if code else ''}".strip())
