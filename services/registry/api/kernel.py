"""Handing parts of files to the kernel, on any loop: the one that is fastest for small answers has no sendfile."""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from io import FileIO
from typing import Final

_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes that one call hands over at most, so that other clients have their turn."""
_USUAL_LIMIT: Final = 64 * 1024
_UNSENT: Final = 4 * 1024 * 1024
"""Unsent bytes of a connection beyond which it takes no more; that is about the kernel's own limit.

It is called ready again only when less than half of them are left, so that each wake-up is worth more.
"""


def takes_files(transport: asyncio.Transport) -> bool:
    """Whether a connection's bytes are the file's own; where they are encrypted, only we can do that."""
    return transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None


async def send_file(
    transport: asyncio.Transport, drain: Callable[[], Awaitable[None]], file: FileIO, start: int, size: int
) -> None:
    """Send `size` bytes of a file. Raises ConnectionError when the client has gone, or the file is too short.

    `drain` waits until the transport may be written to again.
    """
    transport.set_write_buffer_limits(0)  # what was written before must have left
    try:
        await drain()
        connection = transport.get_extra_info("socket")
        with suppress(OSError):  # a kernel that does not know it wakes us more often
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
        handover = _Handover(connection.fileno(), file, start, start + size)
        try:
            await handover.end
        finally:
            handover.close()
    finally:
        transport.set_write_buffer_limits(_USUAL_LIMIT)


class _Handover:
    """One file on its way: whenever the connection takes more, it is given more, without a task in between."""

    def __init__(self, connection: int, file: FileIO, start: int, end: int) -> None:
        self._loop = asyncio.get_running_loop()
        self._to = os.dup(connection)  # loops watch no descriptor that a transport has
        self._file = file.fileno()
        self._next, self._last = start, end
        self.end: asyncio.Future[None] = self._loop.create_future()
        self._loop.add_writer(self._to, self._go_on)

    def close(self) -> None:
        """Wait for nothing any more."""
        self._loop.remove_writer(self._to)
        os.close(self._to)

    def _go_on(self) -> None:
        if self.end.done():
            return
        try:
            sent = os.sendfile(self._to, self._file, self._next, min(self._last - self._next, _AT_ONCE))
        except BlockingIOError:
            return
        except OSError as error:
            self.end.set_exception(error)
            return
        self._next += sent
        if not sent:
            self.end.set_exception(ConnectionAbortedError("the file ends too early: only the connection's end is left"))
        elif self._next == self._last:
            self.end.set_result(None)
