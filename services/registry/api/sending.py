"""Sending a blob: from a file by the kernel where there is one, in small pieces where there is none.

A small one leaves with its head in one piece: each call to the kernel costs more than copying that much does.
"""

import os
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Final

from aiohttp import hdrs, web

from services.registry.api.kernel import Kernel, takes_files
from services.registry.holdings import Held
from services.registry.ranges import Span, Unsatisfiable, asked
from shared.blobs import BlobMissing, Blobs
from shared.http.errors import Unavailable
from shared.http.shortcuts import LARGEST_ANSWER

_BYTES: Final = "application/octet-stream"
_GONE: Final = "the bucket does not have this blob"


@dataclass(frozen=True)
class Sending:
    """Sends the blobs of a bucket."""

    blobs: Blobs
    kernel: Kernel

    async def send(self, request: web.Request, held: Held, headers: dict[str, str]) -> web.StreamResponse:
        """Answer with the blob, or with the part of it that the request asks for."""
        tag = f'"{held.digest}"'
        headers = {**headers, hdrs.ACCEPT_RANGES: "bytes", hdrs.ETAG: tag, hdrs.CONTENT_TYPE: _BYTES}
        if request.method == "HEAD":
            return _empty(200, held.size, headers)
        try:
            span = _span(request, held.size, tag)
        except Unsatisfiable:
            return web.Response(status=416, headers={**headers, hdrs.CONTENT_RANGE: f"bytes */{held.size}"})
        if span:
            headers[hdrs.CONTENT_RANGE] = span.content_range(held.size)
        status, span, path = 206 if span else 200, span or Span(0, held.size), self.blobs.path(held.object)
        if path is not None and 0 < span.size <= LARGEST_ANSWER:
            return web.Response(status=status, headers=headers, body=_part(path, span))
        return await self._stream(request, web.StreamResponse(status=status, headers=headers), held, span, path)

    async def _stream(
        self, request: web.Request, response: web.StreamResponse, held: Held, span: Span, path: Path | None
    ) -> web.StreamResponse:
        response.content_length, transport = span.size, request.transport
        try:
            if path is not None and span.size and transport is not None and takes_files(transport):
                return await self._send_file(request, response, path, span)
            return await self._send_pieces(request, response, held, span)
        except ConnectionError:
            # The client has gone, which is its good right. Nobody waits for the rest.
            response.force_close()
            return response

    async def _send_file(
        self, request: web.Request, response: web.StreamResponse, path: Path, span: Span
    ) -> web.StreamResponse:
        with _opened(path) as file:
            await response.prepare(request)
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("the client has gone")
            await self.kernel.send(transport, request.writer.drain, file, span)
            await response.write_eof()
        return response

    async def _send_pieces(
        self, request: web.Request, response: web.StreamResponse, held: Held, span: Span
    ) -> web.StreamResponse:
        if span.size:
            pieces = self.blobs.read(held.object, span.start, span.end)
            try:
                first = await anext(pieces)
            except BlobMissing as error:
                raise Unavailable(_GONE) from error
            await response.prepare(request)
            await response.write(first)
            async for piece in pieces:
                await response.write(piece)
        else:
            await response.prepare(request)
        await response.write_eof()
        return response

    async def close(self) -> None:
        """End the threads."""
        self.kernel.threads.close()


def _span(request: web.Request, size: int, tag: str) -> Span | None:
    header = request.headers.get(hdrs.RANGE, "")
    if not header or request.headers.get(hdrs.IF_RANGE, tag) != tag:
        return None
    return asked(header, size)


def _empty(status: int, size: int, headers: dict[str, str]) -> web.Response:
    """The head of an answer whose body would have `size` bytes."""
    return web.Response(status=status, headers={**headers, hdrs.CONTENT_LENGTH: str(size)})


def _part(path: Path, span: Span) -> bytes:
    with _opened(path) as file:
        found = os.pread(file.fileno(), span.size, span.start)
    if len(found) != span.size:
        raise Unavailable(_GONE)
    return found


def _opened(path: Path) -> FileIO:
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise Unavailable(_GONE) from error
