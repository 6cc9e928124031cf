"""Requests whose end could be read in two ways: refused, and nothing in them is ever taken for another request.

A gateway in front may see one request where a server sees two. Each shape below carries a second request where one of
the two readings would find it; the face counts what it is asked there.
"""

import asyncio
import re
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from shared.http.bodies import body_of
from shared.http.routes import Audit, Glance, Prepared, Route
from shared.http.serve import Place, Server
from shared.http.translation import json_answer
from shared.identity.caller import Caller
from tests.support.clock import FakeClock
from tests.support.parts import memory_parts

ADA = "user:ada@example.org"
BEARER = f"Authorization: Bearer as:{ADA}\r\n".encode()
QUICK = "/v1/projects/demo/quick"


@dataclass
class Quick:
    """A read that the lane answers."""

    seen: list[str]
    resource: str = "projects/demo"

    def reaches(self, caller: Caller) -> bool:
        return caller.member == ADA

    def look(self, told: Callable[[Prepared | None], None]) -> bool:
        self.seen.append("quick")
        told(Prepared(b"Content-Type: text/plain\r\n", b"quick"))
        return True


@dataclass
class Asked:
    """A face that remembers what it was asked."""

    seen: list[str] = field(default_factory=list[str])

    def routes(self) -> list[Route]:
        return [
            Route("POST", "/read", self.read, "", open_because="a test", audit=Audit.NONE, body=1000),
            Route("GET", "/second", self.second, "", open_because="a test", audit=Audit.NONE),
            Route("POST", "/second", self.second, "", open_because="a test", audit=Audit.NONE),
            Route(
                "GET",
                QUICK.replace("demo", "{project}"),
                self.slow,
                "things.get",
                method="t.Get",
                audit=Audit.DATA_READ,
                glance=self.glance,
            ),
        ]

    def glance(self, path: str) -> Glance | None:
        return Quick(self.seen) if path == QUICK else None

    async def read(self, request: web.Request) -> web.Response:
        self.seen.append("read")
        return json_answer({"size": len(await body_of(request, 1000))})

    async def slow(self, request: web.Request) -> web.Response:
        del request
        self.seen.append("slow")
        return json_answer({})

    async def second(self, request: web.Request) -> web.Response:
        del request
        self.seen.append("second")
        return json_answer({})


@asynccontextmanager
async def serving(place: Place | None = None) -> AsyncGenerator[tuple[Asked, Server]]:
    asked = Asked()
    app = memory_parts("cleanup", grants={"projects/demo": {ADA: ["things.get"]}}).parts.face(asked.routes())
    server = Server(app, place or Place(idle_seconds=0.3), FakeClock().monotonic)
    await server.start()
    try:
        yield asked, server
    finally:
        await server.stop()


async def answers(server: Server, content: bytes, pieces: int = 1) -> list[int]:
    """The statuses of everything that comes back until the connection is closed, in which the bytes came in pieces."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    step = -(-len(content) // pieces)
    try:
        for start in range(0, len(content), step):
            writer.write(content[start : start + step])
            await writer.drain()
            await asyncio.sleep(0.005 if pieces > 1 else 0)
        async with asyncio.timeout(5):
            back = await reader.read()
    except ConnectionError:
        return []
    finally:
        writer.close()
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", back)]


SECOND = b"GET /second HTTP/1.1\r\nHost: h\r\n\r\n"
TAIL = b"0\r\n\r\n" + SECOND


def post(*headers: bytes, body: bytes = TAIL, line: bytes = b"POST /read HTTP/1.1", host: bytes = b"Host: h") -> bytes:
    return b"\r\n".join((line, *([host] if host else []), *headers)) + b"\r\n\r\n" + body


CHUNKED = b"Transfer-Encoding: chunked"
REFUSED = {
    "a length and chunks": post(b"Content-Length: 6", CHUNKED),
    "chunks and a length": post(CHUNKED, b"Content-Length: 6"),
    "two lengths": post(b"Content-Length: 0", b"Content-Length: 39", body=SECOND),
    "two equal lengths": post(b"Content-Length: 0", b"Content-Length: 0", body=SECOND),
    "two lengths in one": post(b"Content-Length: 0, 39", body=SECOND),
    "a negative length": post(b"Content-Length: -1", body=SECOND),
    "a length with a sign": post(b"Content-Length: +0", body=SECOND),
    "a length in hexadecimal": post(b"Content-Length: 0x0", body=SECOND),
    "a length with an underscore": post(b"Content-Length: 0_0", body=SECOND),
    "a length beyond all": post(b"Content-Length: " + b"9" * 40, body=SECOND),
    "a length of other digits": post(b"Content-Length: \xd9\xa0", body=SECOND),
    "a length that is empty": post(b"Content-Length:", body=SECOND),
    "a length in a folded line": post(b"Content-Length:\r\n 0", body=SECOND),
    "a space before the colon": post(b"Content-Length : 0", body=SECOND),
    "a space before the name": post(b" Content-Length: 39", body=SECOND),
    "chunks with a space before the colon": post(b"Transfer-Encoding : chunked"),
    "chunks spelt otherwise": post(b"Transfer-Encoding: xchunked"),
    "chunks behind a tab and something": post(b"Transfer-Encoding: \x0bchunked"),
    "chunks, twice": post(b"Transfer-Encoding: chunked, chunked"),
    "chunks in two headers": post(CHUNKED, CHUNKED),
    "chunks and identity": post(CHUNKED, b"Transfer-Encoding: identity"),
    "chunks that are not last": post(b"Transfer-Encoding: chunked, gzip"),
    "chunks in quotes": post(b'Transfer-Encoding: "chunked"'),
    "another encoding alone": post(b"Transfer-Encoding: gzip"),
    "chunks in a folded line": post(b"Transfer-Encoding:\r\n chunked"),
    "a bare line feed ends a header": post(b"X: a\nTransfer-Encoding: chunked"),
    "a bare carriage return ends a header": post(b"X: a\rTransfer-Encoding: chunked"),
    "a zero in a header": post(b"X: a\x00b", CHUNKED),
    "a chunk of negative size": post(CHUNKED, body=b"-1\r\n" + TAIL),
    "a chunk with a sign": post(CHUNKED, body=b"+1\r\na\r\n" + TAIL),
    "a chunk with a prefix": post(CHUNKED, body=b"0x1\r\na\r\n" + TAIL),
    "a chunk with an underscore": post(CHUNKED, body=b"1_0\r\n" + b"a" * 16 + b"\r\n" + TAIL),
    "a chunk beyond all": post(CHUNKED, body=b"f" * 40 + b"\r\n" + TAIL),
    "a chunk without a size": post(CHUNKED, body=b"\r\na\r\n" + TAIL),
    "a chunk longer than it says": post(CHUNKED, body=b"1\r\nabc\r\n" + TAIL),
    "a chunk that a bare line feed ends": post(CHUNKED, body=b"1\na\n0\n\n" + SECOND),
    "a chunk extension with a line feed": post(CHUNKED, body=b"1;a\nb\r\na\r\n" + TAIL),
    "no host": post(CHUNKED, host=b"", body=b"zz" + TAIL),
    "another protocol": post(line=b"POST /read HTTP/2.0", body=SECOND),
    "no such protocol": post(line=b"POST /read HTTPS/1.1", body=SECOND),
    "a version of more digits": post(line=b"POST /read HTTP/1.10", body=SECOND),
    "no version": b"GET /read\r\n" + SECOND,
    "two spaces in the line": post(line=b"POST  /read HTTP/1.1", body=b"zz" + TAIL),
    "a tab in the line": post(line=b"POST\t/read\tHTTP/1.1", body=SECOND),
    "HTTP 2 from the start": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SECOND,
    "a verb that is none": post(line=b"PO(ST /read HTTP/1.1", body=SECOND),
    "a tunnel": post(line=b"CONNECT h:443 HTTP/1.1", body=SECOND),
}
"""Nothing in these is a request that may be answered otherwise than by a refusal."""


@pytest.mark.parametrize("pieces", [1, 7])
@pytest.mark.parametrize("shape", REFUSED)
async def test_a_request_with_two_meanings_is_refused_and_nothing_behind_it_is_read(shape: str, pieces: int) -> None:
    async with serving() as (asked, server):
        for _ in range(2):
            statuses = await answers(server, REFUSED[shape], pieces)
            assert "second" not in asked.seen
            assert all(400 <= status < 500 for status in statuses), statuses
            assert len(statuses) <= 1
        assert await answers(server, SECOND) == [200]


ALONE = {
    "a chunk extension": (post(CHUNKED, body=b"1;a=b\r\na\r\n" + b"0;c\r\n\r\n"), [200]),
    "an address for a target": (post(CHUNKED, line=b"POST http://other/read HTTP/1.1", body=b"0\r\n\r\n"), [200]),
    "a length with spaces around it": (post(b"Content-Length:  3 ", body=b"abc"), [200]),
    "HTTP 1.0": (post(b"Content-Length: 3", line=b"POST /read HTTP/1.0", body=b"abc"), [200]),
    "an upgrade": (post(b"Connection: upgrade", b"Upgrade: websocket", b"Content-Length: 0", body=b""), [200]),
    "an upgrade to HTTP 2": (
        post(
            b"Connection: Upgrade, HTTP2-Settings",
            b"Upgrade: h2c",
            b"HTTP2-Settings: AAMAAABkAAQ",
            CHUNKED,
            body=b"0\r\n\r\n",
        ),
        [200],
    ),
    "a star for a target": (b"OPTIONS * HTTP/1.1\r\nHost: h\r\n\r\n", [404]),
    "dots in the path": (post(b"Content-Length: 0", line=b"POST /x/../second HTTP/1.1", body=b""), [404]),
    "escaped dots in the path": (post(b"Content-Length: 0", line=b"POST /x/%2e%2e/second HTTP/1.1", body=b""), [404]),
    "an escaped line's end in the path": (
        post(b"Content-Length: 0", line=b"POST /read%0d%0aX:%20y HTTP/1.1", body=b""),
        [404],
    ),
}
"""These are whole requests, each of them one."""


@pytest.mark.parametrize("pieces", [1, 5])
@pytest.mark.parametrize("shape", ALONE)
async def test_an_unusual_request_is_one_request(shape: str, pieces: int) -> None:
    content, expected = ALONE[shape]
    async with serving() as (asked, server):
        assert await answers(server, content, pieces) in (expected, [])  # closing may overtake the answer
        assert "second" not in asked.seen


BODIES = {
    "a length": (b"Content-Length: 33\r\n", SECOND),
    "chunks": (b"Transfer-Encoding: chunked\r\n", b"21\r\n" + SECOND + b"\r\n0\r\n\r\n"),
}


@pytest.mark.parametrize("pieces", [1, 6])
@pytest.mark.parametrize("kind", BODIES)
async def test_the_body_of_a_read_that_the_lane_would_answer_is_no_request(kind: str, pieces: int) -> None:
    framing, body = BODIES[kind]
    assert len(SECOND) == 33
    read = b"GET " + QUICK.encode() + b" HTTP/1.1\r\nHost: h\r\n" + BEARER
    async with serving() as (asked, server):
        for _ in range(2):
            content = read + b"\r\n" + read + framing + b"\r\n" + body + read + b"\r\n"
            assert await answers(server, content, pieces) == [200, 200, 200]
        assert asked.seen.count("slow") >= 2
        assert "second" not in asked.seen
        assert len(asked.seen) == 6


@pytest.mark.parametrize("shape", ["a chunk longer than it says", "two lengths", "a bare line feed ends a header"])
async def test_what_is_refused_behind_reads_of_the_lane_ends_the_connection(shape: str) -> None:
    read = b"GET " + QUICK.encode() + b" HTTP/1.1\r\nHost: h\r\n" + BEARER + b"\r\n"
    async with serving() as (asked, server):
        for pieces in (1, 4):
            statuses = await answers(server, read + read + REFUSED[shape], pieces)
            assert set(statuses) <= {200, 400}
            assert statuses.count(400) <= 1
            assert "second" not in asked.seen


async def test_a_body_whose_frame_breaks_is_told_to_its_reader_at_once_and_is_never_half_taken() -> None:
    async with serving() as (asked, server):
        content = post(CHUNKED, body=b"3\r\nabc\r\nzz\r\n" + TAIL)
        assert await answers(server, content, 9) in ([400], [])
        assert "second" not in asked.seen


async def test_a_connection_answers_as_many_requests_as_it_was_sent_in_their_order() -> None:
    async with serving() as (asked, server):
        read = b"GET " + QUICK.encode() + b" HTTP/1.1\r\nHost: h\r\n" + BEARER + b"\r\n"
        unknown = b"GET /unknown HTTP/1.1\r\nHost: h\r\n\r\n"
        statuses = await answers(server, (read + SECOND + unknown) * 200)
        assert statuses == [200, 200, 404] * 200
        assert len(asked.seen) == 400


@pytest.mark.parametrize("closing", [b"POST /read HTTP/1.0", b"POST /read HTTP/1.1"])
async def test_nothing_is_read_behind_the_last_request_of_a_connection(closing: bytes) -> None:
    async with serving() as (asked, server):
        for pieces in (1, 5):
            content = post(b"Content-Length: 0", b"Connection: close", line=closing, body=SECOND)
            assert await answers(server, content, pieces) in ([200], [400], [])
        assert "second" not in asked.seen


async def test_a_greeting_in_tls_is_answered_at_once_because_docker_waits_for_that() -> None:
    greeting = bytes.fromhex("1603010200010001fc0303") + bytes(506)
    async with serving() as (_, server):
        with socket.create_connection(("127.0.0.1", server.port)) as client:
            client.sendall(greeting)  # it is there before the server has taken the connection
            client.setblocking(False)  # noqa: FBT003 - the socket's own signature
            async with asyncio.timeout(3):
                assert (await asyncio.get_running_loop().sock_recv(client, 100)).startswith(b"HTTP/1.0 400")
