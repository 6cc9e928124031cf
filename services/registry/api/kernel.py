"""Handing parts of files to the kernel, on any loop: the one that is fastest for small answers has no sendfile.

A large part begins on a thread that waits in the kernel itself: each wake-up of the event loop costs more there than
all that is done about it, as what it needs is in no cache any more once megabytes have been sent. Who takes little in
all that time is no reason to keep a thread: the event loop sends the rest.
"""

import asyncio
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from io import FileIO
from typing import Final

from services.registry.ranges import Span
from shared.threads import Threads

_AT_ONCE: Final = 4 * 1024 * 1024
"""Bytes that one call hands over at most, so that other clients have their turn."""
_AT_ONCE_BY_THREAD: Final = 4 * _AT_ONCE
"""The same for a thread, which keeps nobody waiting; but the processor's caches, too, are cold after each call."""
_USUAL_LIMIT: Final = 64 * 1024
_UNSENT: Final = 4 * 1024 * 1024
"""Unsent bytes of a connection beyond which it takes no more; that is about the kernel's own limit.

It is called ready again only when less than half of them are left, so that each wake-up is worth more.
"""
_LARGE_AT_ONCE: Final = 16
"""Threads: large parts that come while all are busy are sent by the event loop alone."""
_PATIENCE: Final = 0.5
"""Seconds for which a thread waits until a connection takes more, and for which one call may last to be worth it."""


def takes_files(transport: asyncio.Transport) -> bool:
    """Whether a connection's bytes are the file's own; where they are encrypted, only we can do that."""
    return transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None


@dataclass(frozen=True)
class Kernel:
    """Sends parts of files."""

    monotonic: Callable[[], float]
    threads: Threads = field(default_factory=lambda: Threads(_LARGE_AT_ONCE, "sending"))

    async def send(
        self, transport: asyncio.Transport, drain: Callable[[], Awaitable[None]], file: FileIO, span: Span
    ) -> None:
        """Send a part of a file. Raises ConnectionError when the client has gone, or the file is too short.

        `drain` waits until the transport may be written to again.
        """
        transport.set_write_buffer_limits(0)  # what was written before must have left
        try:
            await drain()
            if transport.is_closing():
                raise ConnectionResetError("the client has gone")
            with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as connection:
                with suppress(OSError):  # a kernel that does not know it wakes us more often
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT)
                part = _Part(connection, file.fileno(), span)
                if span.size > _AT_ONCE and self.threads.free:
                    await self._on_a_thread(part, transport)
                if part.left:
                    await _on_the_loop(part)
        finally:
            transport.set_write_buffer_limits(_USUAL_LIMIT)

    async def _on_a_thread(self, part: "_Part", transport: asyncio.Transport) -> None:
        # The loop must not read meanwhile: the descriptor is its own but for the number, and would block it, too.
        reads = transport.is_reading()
        transport.pause_reading()
        part.block_for(_PATIENCE)
        sending = asyncio.ensure_future(self.threads.run(lambda: part.hand_over_while_it_is_taken(self.monotonic)))
        try:
            await asyncio.shield(sending)
        except asyncio.CancelledError:
            part.hang_up()  # the thread is woken, and the answer is cut off anyway
            await asyncio.gather(sending, return_exceptions=True)
            raise
        finally:
            part.block_no_more()
            if reads and not transport.is_closing():
                transport.resume_reading()


class _Part:
    """What is left to send of a file, and where it goes."""

    def __init__(self, connection: socket.socket, file: int, span: Span) -> None:
        self.connection = connection
        self._file = file
        self._next, self._end = span.start, span.end

    @property
    def left(self) -> int:
        """Bytes that are not handed over yet."""
        return self._end - self._next

    def hand_over(self, most: int = _AT_ONCE) -> None:
        """Give the connection what it takes. Raises BlockingIOError where that is nothing, ConnectionError."""
        sent = os.sendfile(self.connection.fileno(), self._file, self._next, min(self.left, most))
        if not sent:
            raise ConnectionAbortedError("the file ends too early: only the connection's end is left")
        self._next += sent

    def block_for(self, seconds: float) -> None:
        """Let calls wait so long until the connection takes more."""
        limit = struct.pack("@ll", int(seconds), int(seconds % 1 * 1e6))
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
        self.connection.setblocking(True)  # noqa: FBT003 - its only parameter

    def block_no_more(self) -> None:
        """Be for the loop again."""
        self.connection.setblocking(False)  # noqa: FBT003 - its only parameter

    def hang_up(self) -> None:
        """End the connection, for whoever waits for it, too."""
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)

    def hand_over_while_it_is_taken(self, monotonic: Callable[[], float]) -> None:
        """The same again and again on a connection that blocks, for as long as its client takes much at a time."""
        quick = True
        while self.left and quick:
            began = monotonic()
            try:
                self.hand_over(_AT_ONCE_BY_THREAD)
            except BlockingIOError:
                return  # after all the patience that there was
            quick = monotonic() - began < _PATIENCE


async def _on_the_loop(part: _Part) -> None:
    """Whenever the connection takes more, it is given more, without a task in between."""
    loop, to = asyncio.get_running_loop(), part.connection.fileno()
    end: asyncio.Future[None] = loop.create_future()

    def go_on() -> None:
        if end.done():
            return  # who waits for it, or does so no more, goes on in the loop's next round
        try:
            part.hand_over()
        except BlockingIOError:
            return
        except OSError as error:
            end.set_exception(error)
        else:
            if not part.left:
                end.set_result(None)

    loop.add_writer(to, go_on)  # loops watch no descriptor that a transport has: this is another for the same
    try:
        await end
    finally:
        loop.remove_writer(to)
