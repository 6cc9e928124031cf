"""HTTP written by hand, for requests that no library writes: every byte on the connection is the test's."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from tests.support.registry import RegistryClient

_SECONDS = 10


@dataclass(frozen=True)
class Reply:
    """What came back; header names in small letters."""

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True)
class Wire:
    """One connection."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    authorization: str

    async def ask(self, line: str, *headers: str, content: bytes = b"", authorised: bool = True) -> Reply:
        """Send a request and read the answer."""
        await self.send(line, *headers, content=content, authorised=authorised)
        return await self.reply(has_body=not line.startswith("HEAD "))

    async def send(self, line: str, *headers: str, content: bytes = b"", authorised: bool = True) -> None:
        """Send these bytes and no others, but for Host and, if wanted, Authorization."""
        who = (self.authorization,) if authorised else ()
        head = "\r\n".join((f"{line} HTTP/1.1", "Host: registry.example:5000", *who, *headers, "", ""))
        self.writer.write(head.encode() + content)
        await self.writer.drain()

    async def reply(self, *, has_body: bool = True) -> Reply:
        """The next answer."""
        async with asyncio.timeout(_SECONDS):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode()
            first, *rest = head.strip().split("\r\n")
            pairs = (line.split(": ", 1) for line in rest)
            headers = {name.lower(): value for name, value in pairs}
            size = int(headers.get("content-length", "0")) if has_body else 0
            return Reply(int(first.split()[1]), headers, await self.reader.readexactly(size))


@asynccontextmanager
async def wire(oci: RegistryClient) -> AsyncGenerator[Wire]:
    """A connection to the registry."""
    server = oci.client.server
    reader, writer = await asyncio.open_connection(server.host, server.port)
    try:
        yield Wire(reader, writer, f"Authorization: Bearer as:{oci.member}")
    finally:
        writer.close()
        await writer.wait_closed()
