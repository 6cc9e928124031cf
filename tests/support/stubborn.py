"""A client that pushes as docker does and does not give up: what it is told to retry, it retries."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Literal, Self

import orjson

from tests.performance.load import Answer, Connection, must, path_of
from tests.support.images import MANIFEST, Image, digest_of

RETRYABLE = frozenset({429, 502, 503, 504})
LOST = (OSError, EOFError, TimeoutError, IndexError, ValueError)
CHUNK = 3 * 1024 * 1024
How = Literal["in chunks", "in chunks, the last of which closes", "whole"]
SMALL = 1024 * 1024
_BYTES = {"Content-Type": "application/octet-stream"}


class Refused(Exception):
    """An answer that says to come back; whoever wants to know of it asks for it."""

    def __init__(self, answer: Answer) -> None:
        super().__init__(f"{answer.status} {answer.body[:200]!r}")
        self.answer = answer


@dataclass
class Stubborn:
    """One client on one connection."""

    connection: Connection
    patience: float = 60.0
    """Seconds for which a request is repeated."""
    call_seconds: float = 70.0
    """Seconds after which an answer is given up."""
    refusals: Counter[str] = field(default_factory=Counter[str])
    chunk: int = CHUNK
    """Bytes of a chunk."""
    go: asyncio.Event = field(default_factory=asyncio.Event)
    """Cleared, and no further request is sent."""
    resumed: int = 0
    """Chunks behind which it had to be asked where the upload stands."""
    longest: float = 0.0
    """Seconds that the slowest request took until it was done."""

    @classmethod
    @asynccontextmanager
    async def at(cls, port: int, member: str) -> AsyncGenerator[Self]:
        connection = Connection(port, {"Authorization": f"Bearer as:{member}"})
        try:
            made = cls(connection)
            made.go.set()
            yield made
        finally:
            with contextlib.suppress(*LOST):
                connection.drop()

    async def once(self, verb: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """One request; a connection that breaks is dropped. An answer to retry must say when."""
        await self.go.wait()
        try:
            async with asyncio.timeout(self.call_seconds):
                answer = await self.connection.call(verb, path, body, headers)
        except LOST as error:
            self.connection.drop()
            self.refusals[type(error).__name__] += 1
            raise ConnectionError(f"{verb} {path}") from error
        if answer.status in RETRYABLE:
            assert "retry-after" in answer.headers, f"{verb} {path}: {answer}"
            self.refusals[str(answer.status)] += 1
            if answer.headers.get("connection") == "close":
                self.connection.drop()
        assert answer.status < 500 or answer.status in RETRYABLE, f"{verb} {path}: {answer}"
        return answer

    async def ask(self, verb: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None) -> Answer:
        """A request that may be repeated, until it is answered."""
        began = time.monotonic()
        while True:
            try:
                answer = await self.once(verb, path, body, headers)
            except ConnectionError:
                answer = None
            if answer is not None and answer.status not in RETRYABLE:
                self.longest = max(self.longest, time.monotonic() - began)
                return answer
            assert time.monotonic() < began + self.patience, f"{verb} {path}: {answer} {self.refusals}"
            await asyncio.sleep(0.2)

    async def push(self, name: str, tag: str, image: Image, how: How = "in chunks") -> None:
        """Blobs, then the manifest."""
        for content in image.blobs.values():
            await self.blob(name, content, how)
        await self.manifest(name, tag, image)

    async def manifest(self, name: str, tag: str, image: Image) -> None:
        """Only the manifest."""
        must(await self.ask("PUT", f"/v2/{name}/manifests/{tag}", image.manifest, {"Content-Type": MANIFEST}), 201)

    async def blob(self, name: str, content: bytes, how: How = "in chunks") -> None:
        """One blob, unless it is there; a small one in the request that closes the upload."""
        place, until = f"/v2/{name}/blobs/{digest_of(content)}", time.monotonic() + self.patience
        while (await self.ask("HEAD", place)).status != 200:
            assert time.monotonic() < until, f"{place} never arrived"
            begun = await self.ask("POST", f"/v2/{name}/blobs/uploads/")
            must(begun, 202)
            upload = path_of(begun.headers["location"])
            first = 0 if how == "whole" or len(content) <= SMALL else len(content)
            if first and how != "in chunks":
                first -= SMALL
            if upload := await self._chunks(upload, content[:first]):
                await self._close(upload, content, first)

    async def _close(self, upload: str, content: bytes, first: int) -> None:
        """Send what is left behind `first`; where it came already, though no answer did, nothing."""
        rest = content[first:]
        span = {"Content-Range": f"{first}-{len(content) - 1}"} if first and rest else {}
        closing = f"&digest={digest_of(content)}"
        closed = await self.ask("PUT", upload + closing, rest, {**_BYTES, **span})
        if closed.status == 416:
            closed = await self.ask("PUT", path_of(closed.headers["location"]) + closing)
        assert closed.status in {201, 404}, closed

    async def _chunks(self, upload: str, content: bytes) -> str:
        """The address behind the last chunk; empty where the upload is gone."""
        sent, until = 0, time.monotonic() + self.patience
        while sent < len(content):
            assert time.monotonic() < until, f"{upload} never ended"
            piece = content[sent : sent + self.chunk]
            span = {"Content-Range": f"{sent}-{sent + len(piece) - 1}", **_BYTES}
            with contextlib.suppress(ConnectionError):
                answer = await self.once("PATCH", upload, piece, span)
                if answer.status == 202:
                    upload, sent = path_of(answer.headers["location"]), sent + len(piece)
                    continue
            await asyncio.sleep(0.1)
            status = await self.ask("GET", upload)
            if status.status == 404:
                return ""
            must(status, 204)
            self.resumed += 1
            upload, stands = path_of(status.headers["location"]), int(status.headers["range"].partition("-")[2])
            sent = stands + 1 if stands else 0
        return upload

    async def seen(self, name: str, tag: str, image: Image) -> bool:
        """Whether an image is there; half of one must not be, nor other bytes than its own."""
        wanted = image.blobs
        for digest, content in wanted.items():
            found = await self.ask("GET", f"/v2/{name}/blobs/{digest}")
            assert (found.status, found.body) == (200, content) or found.status == 404, f"{digest}: {found.status}"
        found = await self.ask("GET", f"/v2/{name}/manifests/{tag}", headers={"Accept": MANIFEST})
        listed = await self.ask("GET", f"/v2/{name}/tags/list?n=10000")
        tags: list[str] = orjson.loads(listed.body)["tags"] or [] if listed.status == 200 else []
        assert (tag in tags) == (found.status == 200), f"{name}:{tag} is listed: {tags}, and {found.status}"
        if found.status == 404:
            return False
        assert (found.status, found.body) == (200, image.manifest)
        for digest, content in wanted.items():
            blob = await self.ask("GET", f"/v2/{name}/blobs/{digest}")
            assert (blob.status, blob.body) == (200, content), f"{name}:{tag} lacks {digest}"
        return True
