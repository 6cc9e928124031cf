"""Calls of a face without a socket: the application with its middleware takes the request as if it had been parsed."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson
from aiohttp import HttpVersion11, StreamReader, web
from aiohttp.http_parser import RawRequestMessage
from multidict import CIMultiDict, CIMultiDictProxy
from yarl import URL

_PEER = ("192.0.2.7", 40_000)


class _Transport:
    """Where a call came from."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return _PEER if name == "peername" else default


class _Connection:
    """As much of a connection as requests look at. Nobody reads from it or writes to it."""

    transport = _Transport()
    peername = _PEER
    sockname = None
    ssl_context = None
    _reading_paused = False
    output_size = 0

    async def drain(self) -> None:
        return

    def pause_reading(self) -> None:
        return

    def resume_reading(self, **_: bool) -> None:
        return


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    content: bytes

    @property
    def json(self) -> Any:
        return orjson.loads(self.content)


@dataclass(frozen=True)
class Call:
    """A request of the client."""

    verb: str
    path: str
    content: bytes = b""
    kind: str = "application/json"

    async def answered(self, app: web.Application, member: str) -> Answer:
        """What the face answers, to whomever it thinks `member` is."""
        headers = CIMultiDict({"Host": "registry.test", "Authorization": f"Bearer as:{member}"})
        if self.content:
            headers.update({"Content-Type": self.kind, "Content-Length": str(len(self.content))})
        message = RawRequestMessage(
            self.verb,
            self.path,
            HttpVersion11,
            CIMultiDictProxy(headers),
            (),
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=False,
            url=URL(self.path, encoded=True),
        )
        loop, connection = asyncio.get_running_loop(), _Connection()
        body = StreamReader(connection, 2**16, loop=loop)  # type: ignore[arg-type]
        body.feed_data(self.content)
        body.feed_eof()
        task = asyncio.current_task()
        request = web.Request(message, body, connection, connection, task, loop)  # type: ignore[arg-type]
        response = await app._handle(request)
        assert isinstance(response, web.Response)
        return Answer(response.status, response.headers, bytes(response.body or b""))  # type: ignore[arg-type]
