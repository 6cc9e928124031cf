"""A connection with a lane: what arrives on an idle one is offered to the lane before aiohttp wakes a task for it.

This leans on private parts of aiohttp, whose version is pinned. Where a part is missing there is no lane, and every
request takes the way that aiohttp has; `tests/unit/shared/http/test_lane.py` says that none is missing.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, cast

from aiohttp import hdrs, web
from aiohttp.http import HttpRequestParser, RawRequestMessage
from aiohttp.http_exceptions import PayloadEncodingError
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from multidict import CIMultiDict, CIMultiDictProxy

from shared.http.face import LANE
from shared.http.framing import Chunked, Counted, Framing, WronglyFramed
from shared.http.health import ALWAYS, READY
from shared.http.inflow import Inflow
from shared.http.lane import Asked, Lane
from shared.http.shortcuts import PRIVATE_ANSWER, SHORTCUTS, at_hand

PRIVATE: Final = (
    "_waiter",
    "_messages",
    "_parser",
    "_paused",
    "_upgraded",
    "_payload_parser",
    "_buffer_paused",
    "_request_in_progress",
    "_request_count",
    "_close",
    "_current_request",
    "_force_close",
    "_next_keepalive_close_time",
    "_keepalive_timeout",
    "_max_msg_queue_size",
    "_read_bufsize",
    "finish_response",
)
"""What is used of aiohttp's connection beside what it offers."""

MOST: Final = 2048
"""Heads that are remembered; when there are more, all are forgotten."""
LONGEST: Final = 4096
"""Bytes of a head that is remembered."""

LARGE: Final = 1024 * 1024
"""Bytes of a body from which on it is worth reading past aiohttp."""

Waiting = asyncio.Future[None]


class LaneConnection(web.RequestHandler):
    """aiohttp's connection, with a lane beside it."""

    __slots__ = (
        "_app",
        "_asking",
        "_between",
        "_decompress",
        "_heads",
        "_held",
        "_inflow",
        "_lane",
        "_large",
        "_remote",
    )

    def __init__(self, manager: "LaneServer", **options: Any) -> None:
        """`options` are aiohttp's."""
        super().__init__(manager, **options)
        self._app = manager.app
        self._lane: Lane = manager.app[LANE]
        self._heads = manager.heads
        self._asking: Any = None
        """The request that is in the lane; until it is answered nothing else of this connection is read."""
        self._between = True
        """Whether aiohttp's parser stands between two requests, so that what comes next begins one."""
        self._held: list[bytes] = []
        self._decompress = bool(options.get("auto_decompress", True))
        self._large: _Large | None = None
        """The body under way, where it may be a large one."""
        self._inflow: Inflow | None = None
        """Reads the body under way; what the transport brings meanwhile belongs to a body that nobody wants."""

    @property
    def remote(self) -> str | None:
        """The other end, as requests name it."""
        name = self.peername
        return str(name[0]) if isinstance(name, (list, tuple)) else None if name is None else str(name)

    @property
    def busy(self) -> bool:
        """Whether a request is under way, or waits."""
        return self._asking is not None or self._request_in_progress or bool(self._messages)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        waiter = self._waiter
        if self._inflow is not None:
            return
        if self._asking is not None:
            self._hold(data)
        elif waiter is None or waiter.done() or self._messages or self._paused or self._is_upgraded():
            self._read_on(data)
            if self._is_broken() and (len(self._messages) > 1 or self._current_request is not None):
                self._break_off()
        elif not (self._between and self._is_known(data)):
            self._look_at(data, waiter)

    def answer(self, content: bytes) -> None:
        """Called by the lane, once for each request that it took, or else `leave_lane`."""
        asking, self._asking = self._asking, None
        if self._parser is not None and not isinstance(asking, bytes):
            self._parser.message_consumed()
        transport = self.transport
        if transport is not None and not transport.is_closing():
            transport.write(content)
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        if self._held:
            self._go_on()

    def leave_lane(self) -> None:
        """Called by the lane instead of `answer`: the request takes aiohttp's way, and so does what came behind it."""
        asking, self._asking = self._asking, None
        if isinstance(asking, bytes):
            super().data_received(asking)
        elif asking is not None:
            self._messages.append(asking)
            self._wake()
        if self._held:
            self._go_on()

    def take_body(self, request: web.BaseRequest) -> Inflow | None:
        """Let the body under way be read past aiohttp, whose parser begins anew behind it."""
        (large, self._large), transport, content = (self._large, None), self.transport, request.content
        if large is None or large.body is not content or transport is None or not _is_plain(transport):
            return None
        begun, queued = large.begun(), content.total_bytes
        if begun is None or large.framing.ended or (queued != len(begun) and queued < self._read_bufsize):
            return None
        self._parser = self._new_parser()  # the old one holds back what did not go into a queue that is full
        if not begun.startswith(content.read_nowait()):
            raise PayloadEncodingError("the body is framed wrongly")
        transport.pause_reading()
        descriptor = transport.get_extra_info("socket").fileno()
        self._inflow = Inflow(descriptor, large.framing, begun, lambda rest: self._body_ended(content, rest))
        return self._inflow

    def _body_ended(self, content: StreamReader, rest: bytes) -> None:
        self._inflow, self._between = None, True
        content.feed_eof()  # and the transport reads again
        if rest:
            self.data_received(rest)

    def _new_parser(self) -> Any:
        """A parser such as aiohttp gives to a connection that begins."""
        return HttpRequestParser(
            self,
            self._loop,
            self._read_bufsize,
            max_line_size=self.max_line_size,
            max_field_size=self.max_field_size,
            max_headers=self.max_headers,
            payload_exception=web.RequestPayloadError,
            auto_decompress=self._decompress,
            max_msg_queue_size=self._max_msg_queue_size,
        )

    async def finish_response(
        self, request: web.BaseRequest, resp: web.StreamResponse, start_time: float | None
    ) -> tuple[web.StreamResponse, bool]:
        """Called by aiohttp with each answer: one that is at hand leaves in one piece.

        What nobody read of a large body is passed over, for as long as aiohttp waits for its end; then the connection
        goes on, or is closed.
        """
        transport = self.transport
        if self._inflow is not None:
            self._inflow.pass_over(self._resume_transport_reading)
        elif transport is not None and not (transport.is_closing() or self._paused or self._is_upgraded()):
            content = at_hand(request, resp)
            if content is not None:
                cast("Any", request)._finish()  # noqa: SLF001 - as aiohttp does
                transport.write(content)
                return resp, False
        return await super().finish_response(request, resp, start_time)

    def connection_lost(self, exc: BaseException | None) -> None:
        """Called by the loop."""
        if self._inflow is not None:
            self._inflow.close()
        super().connection_lost(exc)

    def _process_keepalive(self) -> None:
        """A connection is not idle while the lane looks for its answer."""
        if self._asking is not None:
            self._next_keepalive_close_time = self._loop.time() + self._keepalive_timeout
        super()._process_keepalive()

    def _is_broken(self) -> bool:
        return bool(self._messages) and not isinstance(self._messages[-1][0], RawRequestMessage)

    def _break_off(self) -> None:
        """What came behind something else cannot be read. aiohttp leaves whoever reads that body waiting for ever.

        What cannot be read from the start, such as a greeting in TLS, is refused by aiohttp itself.
        """
        self._messages.pop()
        bodies = [body for _, body in self._messages]
        if self._current_request is not None:
            bodies.insert(0, self._current_request.content)
        if bodies and not bodies[-1].is_eof():
            bodies[-1].set_exception(PayloadEncodingError("the body is framed wrongly"))
        self.close()  # once what came before it is answered: nothing more of this connection is read

    def _is_upgraded(self) -> bool:
        upgraded = cast("bool", self._upgraded)  # pyright: ignore[reportUnknownMemberType] - parsers have no types
        return upgraded or self._payload_parser is not None

    def _is_known(self, data: bytes) -> bool:
        """Whether exactly these bytes have been a whole request before, and the lane takes it again.

        What aiohttp's parser made of them then it would make of them now, so it is not asked.
        """
        asked = self._heads.get(data)
        if asked is None or self._close or self._force_close:
            return False
        self._asking = data
        if not self._lane.take(asked, self, self._app.get(READY, ALWAYS)):
            self._asking = None
            return False
        self._request_count += 1
        return True

    def _look_at(self, data: bytes, waiter: Waiting) -> None:
        """Let aiohttp read the request, but wake nobody for it unless the lane will not have it."""
        began_anew, messages = self._between, self._messages
        self._waiter = None
        try:
            self._read_on(data)
        finally:
            self._waiter = waiter
        ended = len(messages) == 1 and messages[0][1] is EMPTY_PAYLOAD and data.endswith(b"\r\n\r\n")
        self._between = ended and not self._is_upgraded()
        if messages and not self._is_taken(data if began_anew and self._between else b""):
            self._wake()

    def _read_on(self, data: bytes) -> None:
        """Let aiohttp read what arrived, and remember of a body that may become large what came of it."""
        began_anew, before = self._between, len(self._messages)
        self._between = False
        super().data_received(data)
        if began_anew and len(self._messages) == before + 1:
            self._large = _large(self._messages[-1], data)
        elif self._large is not None:
            self._large.came.append(data)

    def _is_taken(self, head: bytes) -> bool:
        """Whether the lane takes what arrived; `head` are its bytes, if these were exactly one request."""
        message, body = found = self._messages[0]
        alone = len(self._messages) == 1 and body is EMPTY_PAYLOAD and isinstance(message, RawRequestMessage)
        asked = self._lane.read(message) if alone and isinstance(message, RawRequestMessage) else None
        if asked is None or self._close or self._force_close:
            return False
        if head and asked.repeats:
            self._heads.keep(head, asked)
        self._messages.clear()
        self._asking = found
        if self._lane.take(asked, self, self._app.get(READY, ALWAYS)):
            return True
        self._asking = None
        self._messages.append(found)
        return False

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _hold(self, data: bytes) -> None:
        """Keep what came meanwhile, and take no more: a client cannot fill memory by asking on."""
        self._held.append(data)
        if not self._buffer_paused:
            self._pause_reading_for_buffer()

    def _go_on(self) -> None:
        data = b"".join(self._held)
        self._held.clear()
        self._resume_reading_for_buffer()
        self.data_received(data)


@dataclass(frozen=True)
class _Large:
    """A body that may become large, and what came of it so far, as it came."""

    body: StreamReader
    framing: Framing
    came: list[bytes]

    def begun(self) -> bytes | None:
        """The content that came; None where that cannot be told."""
        try:
            return self.framing.take(b"".join(self.came))
        except WronglyFramed:
            return None  # aiohttp finds that, too


def _large(found: tuple[Any, StreamReader], data: bytes) -> _Large | None:
    """The body behind a head, where both began with `data` and more is to come."""
    message, body = found
    if not isinstance(message, RawRequestMessage) or body.is_eof() or message.upgrade or data[:1].isspace():
        return None
    length = message.headers.get(hdrs.CONTENT_LENGTH, "")
    size = int(length) if length.isdecimal() else 0
    if not message.chunked and size < LARGE:
        return None
    return _Large(body, Chunked() if message.chunked else Counted(size), [data[data.find(b"\r\n\r\n") + 4 :]])


def _is_plain(transport: asyncio.Transport) -> bool:
    """Whether what arrives is what was sent; where it is encrypted, only the transport can read it."""
    return transport.get_extra_info("sslcontext") is None and transport.get_extra_info("socket") is not None


class Heads:
    """Whole heads of requests that came lately, byte by byte, and what they ask for. They hold tokens: see `MOST`."""

    def __init__(self) -> None:
        self._known: dict[bytes, Asked] = {}
        self.get = self._known.get

    def keep(self, head: bytes, asked: Asked) -> None:
        """Remember a head, for as long as there is room."""
        if len(head) > LONGEST:
            return
        if len(self._known) >= MOST:
            self._known.clear()
        self._known[head] = asked


class LaneServer(web.Server):
    """Makes a connection with a lane for each client."""

    def __init__(self, app: web.Application, handler: Any, **options: Any) -> None:
        """`options` are aiohttp's."""
        super().__init__(handler, **options)
        self.app = app
        self.heads = Heads()

    def __call__(self) -> LaneConnection:
        """A connection for a client that has come."""
        return LaneConnection(self, loop=self._loop, **self._kwargs)


class LaneRunner(web.AppRunner):
    """Runs an application, with its lane."""

    async def _make_server(self) -> web.Server:
        made: Any = await super()._make_server()
        if LANE not in self.app or not fits():
            return made
        options = {"request_factory": _readable(made.request_factory), "loop": made._loop, **made._kwargs}  # noqa: SLF001 - as above
        shortcuts = self.app.get(SHORTCUTS)
        return LaneServer(self.app, shortcuts.handle if shortcuts else made.request_handler, **options)


def _readable(make: Callable[..., Any]) -> Callable[..., Any]:
    """Make requests whose expectation is text: aiohttp repeats an unknown one in its refusal, and breaks on others."""

    def made(message: RawRequestMessage, *rest: Any) -> Any:
        expected = message.headers.get(hdrs.EXPECT)
        if expected is None or expected.isascii():
            return make(message, *rest)
        headers = CIMultiDict(message.headers)
        headers[hdrs.EXPECT] = "unreadable"
        return make(message._replace(headers=CIMultiDictProxy(headers)), *rest)

    return made


def fits() -> bool:
    """Whether aiohttp's connection and answers have the parts that the lane and the shortcuts use."""
    answer = web.Response()
    return all(hasattr(web.RequestHandler, part) for part in PRIVATE) and all(
        hasattr(answer, part) for part in PRIVATE_ANSWER
    )
