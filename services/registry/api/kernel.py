"""Handing parts of files to the kernel, also on a loop that has no sendfile of its own."""

import asyncio
import os
from collections.abc import Awaitable, Callable
from io import BufferedReader
from typing import Any, Final

_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes that one call hands over at most, so that other clients have their turn."""
_USUAL_LIMIT: Final = 64 * 1024
_TOO_SHORT: Final = "the file ends too early: nothing but the connection's end can be sent"


def takes_files(transport: asyncio.Transport) -> bool:
    """Whether a connection's bytes are the file's own; where they are encrypted, only we can do that."""
    return isinstance(asyncio.get_running_loop(), asyncio.BaseEventLoop) or (
        transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None
    )


async def send_file(
    transport: asyncio.Transport, drain: Callable[[], Awaitable[None]], file: BufferedReader, start: int, size: int
) -> None:
    """Send `size` bytes of a file. Raises ConnectionError when the client has gone, or the file is too short.

    `drain` waits until the transport may be written to again.
    """
    loop = asyncio.get_running_loop()
    if isinstance(loop, asyncio.BaseEventLoop):
        if await loop.sendfile(transport, file, start, size) < size:
            raise ConnectionAbortedError(_TOO_SHORT)
        return
    transport.set_write_buffer_limits(0)  # what was written before must have left
    try:
        await drain()
        await _hand_over(loop, transport.get_extra_info("socket"), file, start, size)
    finally:
        transport.set_write_buffer_limits(_USUAL_LIMIT)


async def _hand_over(loop: asyncio.AbstractEventLoop, socket: Any, file: BufferedReader, start: int, size: int) -> None:
    """The loop watches no descriptor that a transport has: the connection is waited for by another name."""
    to, end = os.dup(socket.fileno()), start + size
    try:
        while start < end:
            try:
                sent = os.sendfile(to, file.fileno(), start, min(end - start, _AT_ONCE))
            except BlockingIOError:
                sent = -1
            if not sent:
                raise ConnectionAbortedError(_TOO_SHORT)
            start += max(sent, 0)
            if start < end:
                await _writable(loop, to)
    finally:
        os.close(to)


async def _writable(loop: asyncio.AbstractEventLoop, descriptor: int) -> None:
    ready = loop.create_future()
    loop.add_writer(descriptor, _be_ready, ready)
    try:
        await ready
    finally:
        loop.remove_writer(descriptor)


def _be_ready(ready: "asyncio.Future[None]") -> None:
    if not ready.done():
        ready.set_result(None)
