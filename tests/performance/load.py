"""Load on loopback: plain HTTP/1.1 over kept connections, bounded in count; its own cost is not measured."""

import asyncio
import hashlib
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass

PIECE = 1024 * 1024


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    body: bytes
    size: int
    """Bytes of the body, also where it was thrown away."""


class Connection:
    """One kept connection."""

    def __init__(self, port: int, headers: Mapping[str, str]) -> None:
        self._port = port
        self._fixed = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    async def call(
        self, verb: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, keep: bool = True
    ) -> Answer:
        """One request; with `keep` off the body is read and thrown away."""
        if self._writer is None:
            self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port, limit=4 * PIECE)
        more = "".join(f"{name}: {value}\r\n" for name, value in (headers or {}).items())
        length = f"Content-Length: {len(body)}\r\n" if body or verb in {"POST", "PUT", "PATCH"} else ""
        head = f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{self._fixed}{more}{length}\r\n"
        self._writer.write(head.encode())
        for start in range(0, len(body), PIECE):
            self._writer.write(body[start : start + PIECE])
            await self._writer.drain()
        return await self._answer(verb, keep=keep)

    async def stream(self, verb: str, path: str, body: bytes, piece: int) -> Answer:
        """One request whose body has no length and comes in chunks of `piece` bytes."""
        assert self._writer is not None
        head = (
            f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1:{self._port}\r\n{self._fixed}Transfer-Encoding: chunked\r\n\r\n"
        )
        self._writer.write(head.encode())
        view = memoryview(body)
        for start in range(0, len(body), piece):
            part = view[start : start + piece]
            self._writer.write(b"%x\r\n%b\r\n" % (len(part), part))
            if start % PIECE == 0:
                await self._writer.drain()
        self._writer.write(b"0\r\n\r\n")
        return await self._answer(verb, keep=True)

    async def close(self) -> None:
        """Hang up."""
        if self._writer is not None:
            self._writer.close()
            await self._writer.wait_closed()

    def drop(self) -> None:
        """Forget a connection that broke; the next call opens another."""
        if self._writer is not None:
            self._writer.transport.abort()
            self._writer = None

    async def _answer(self, verb: str, *, keep: bool) -> Answer:
        assert self._reader is not None
        head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.split("\r\n")
        fields = (line.partition(":") for line in lines if line)
        headers = {name.lower(): value.strip() for name, _, value in fields}
        status = int(first.split()[1])
        if verb == "HEAD" or status in {204, 304}:
            return Answer(status, headers, b"", 0)
        if headers.get("transfer-encoding", "").lower() == "chunked":
            body = await self._chunked()
            return Answer(status, headers, body, len(body))
        size = int(headers.get("content-length", "0"))
        if keep:
            return Answer(status, headers, await self._reader.readexactly(size), size)
        left = size
        while left:
            left -= len(await self._reader.read(min(left, PIECE)))
        return Answer(status, headers, b"", size)

    async def _chunked(self) -> bytes:
        assert self._reader is not None
        body = b""
        while size := int((await self._reader.readline()).strip() or b"0", 16):
            body += await self._reader.readexactly(size)
            await self._reader.readline()
        await self._reader.readline()
        return body


async def spread(
    ports: Sequence[int],
    headers: Mapping[str, str],
    connections: int,
    total: int,
    one: Callable[[Connection, int], Awaitable[None]],
) -> None:
    """Do `one` `total` times over so many connections, which take the ports in turn."""
    numbers = iter(range(total))

    async def work(port: int) -> None:
        connection = Connection(port, headers)
        try:
            for number in numbers:
                await one(connection, number)
        finally:
            await connection.close()

    await asyncio.gather(*(work(ports[number % len(ports)]) for number in range(connections)))


async def push_blob(connection: Connection, name: str, content: bytes) -> str:
    """POST, then the whole blob in the PUT; returns its digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = await connection.call("POST", f"/v2/{name}/blobs/uploads/")
    must(begun, 202)
    place = path_of(begun.headers["location"])
    joint = "&" if "?" in place else "?"
    stored = await connection.call(
        "PUT", f"{place}{joint}digest={digest}", content, {"Content-Type": "application/octet-stream"}
    )
    must(stored, 201)
    return digest


async def push_in_chunks(connection: Connection, name: str, content: bytes) -> str:
    """As docker: POST, one PATCH of unknown length in chunks of 32 KiB, and a PUT with nothing; returns the digest."""
    digest = f"sha256:{hashlib.sha256(content).hexdigest()}"
    begun = await connection.call("POST", f"/v2/{name}/blobs/uploads/")
    must(begun, 202)
    patched = await connection.stream("PATCH", path_of(begun.headers["location"]), content, 32 * 1024)
    must(patched, 202)
    place = path_of(patched.headers["location"])
    must(await connection.call("PUT", f"{place}{'&' if '?' in place else '?'}digest={digest}"), 201)
    return digest


async def push_manifest(connection: Connection, name: str, reference: str, manifest: bytes, media_type: str) -> None:
    """PUT a manifest."""
    must(await connection.call("PUT", f"/v2/{name}/manifests/{reference}", manifest, {"Content-Type": media_type}), 201)


def must(answer: Answer, status: int) -> None:
    """Stop the run at the first answer that is not what is measured."""
    if answer.status != status:
        raise AssertionError(f"{answer.status} instead of {status}: {answer.body[:300]!r}")


def path_of(location: str) -> str:
    """The path of an absolute or relative Location."""
    return "/" + location.split("/", 3)[3] if location.startswith("http") else location
