"""Large bodies read straight from their connection: no loop, parser or queue between makes copies of the bytes."""

import asyncio
import os
from collections.abc import Callable
from typing import Final, Protocol, runtime_checkable

from aiohttp import web
from aiohttp.http_exceptions import PayloadEncodingError

from shared.http.framing import Framing, WronglyFramed

PIECE: Final = 512 * 1024
"""Bytes that are read at a time."""


class Inflow:
    """A body on its way in, from a connection whose transport does not read meanwhile.

    It is read as aiohttp's own stream is: `at_eof`, `read_nowait`, `readany`.
    """

    def __init__(self, connection: int, framing: Framing, begun: bytes, at_end: Callable[[bytes], None]) -> None:
        """`begun` is content that came already; `at_end` is told once what came behind the body's end."""
        self._loop = asyncio.get_running_loop()
        self._from = os.dup(connection)  # loops watch no descriptor that a transport has
        self._framing, self._begun, self._at_end = framing, begun, at_end
        self._waiter: asyncio.Future[None] | None = None
        self._open = True

    def at_eof(self) -> bool:
        """Whether everything was read."""
        return self._framing.ended and not self._begun

    def read_nowait(self) -> bytes:
        """What is there; nothing where nothing is. Raises ConnectionError, PayloadEncodingError."""
        if self._begun:
            begun, self._begun = self._begun, b""
            return begun
        if self._framing.ended:
            return b""
        if not self._open:
            raise ConnectionResetError("the client has gone")
        try:
            data = os.read(self._from, min(self._framing.most, PIECE))
        except BlockingIOError:
            return b""
        if not data:
            raise ConnectionResetError("the body ends too early")
        return self._content(data)

    async def readany(self) -> bytes:
        """Wait until something is there, and read it; empty where a chunk has but begun, or the body has ended."""
        if not self._open:
            return self.read_nowait()
        waiter = self._waiter = self._loop.create_future()
        self._loop.add_reader(self._from, _wake, waiter)
        try:
            await waiter
        finally:
            self._waiter = None
            if self._open:
                self._loop.remove_reader(self._from)
        return self.read_nowait()

    def pass_over(self, broken: Callable[[], object]) -> None:
        """Nobody wants the rest: it is read as it comes and thrown away; `broken` is told when it ends too early."""
        if self._open:
            self._loop.add_reader(self._from, self._throw_away, broken)

    def _throw_away(self, broken: Callable[[], object]) -> None:
        try:
            self.read_nowait()
        except (OSError, PayloadEncodingError):
            self.close()
            broken()

    def close(self) -> None:
        """Read nothing any more."""
        if not self._open:
            return
        self._open = False
        self._loop.remove_reader(self._from)
        os.close(self._from)
        if self._waiter is not None:
            _wake(self._waiter)

    def _content(self, data: bytes) -> bytes:
        try:
            content = self._framing.take(data)
        except WronglyFramed as error:
            raise PayloadEncodingError(str(error)) from error
        if self._framing.ended:
            self.close()
            self._at_end(self._framing.rest)
        return content


@runtime_checkable
class Carrier(Protocol):
    """A connection that can let a body be read past it."""

    def take_body(self, request: web.BaseRequest) -> Inflow | None:
        """The body under way, which from now on only the inflow reads; None where it is better read as it comes."""
        ...


def inflow_of(request: web.BaseRequest) -> Inflow | None:
    """The body of a request past its connection, where that is worth it."""
    carrier = request.protocol
    if request.content.is_eof() or not isinstance(carrier, Carrier):
        return None
    return carrier.take_body(request)


def _wake(waiter: asyncio.Future[None]) -> None:
    if not waiter.done():
        waiter.set_result(None)
