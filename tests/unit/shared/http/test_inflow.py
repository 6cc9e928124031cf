"""Large bodies that are read past aiohttp: whole, in order, and nothing of them is ever taken for a request."""

import asyncio
import hashlib
import itertools
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

import pytest
from aiohttp import web

from shared.http import inflow
from shared.http.bodies import streamed
from shared.http.framing import Chunked
from shared.http.inflow import inflow_of
from shared.http.routes import Audit, Route
from shared.http.serve import Place, Server
from shared.http.translation import json_answer
from tests.support.clock import FakeClock
from tests.support.parts import memory_parts

CONTENT = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(100_000))
SHA = hashlib.sha256(CONTENT).hexdigest()
SECOND = b"GET /second HTTP/1.1\r\nHost: h\r\n\r\n"


@dataclass
class Things:
    """A face that takes bodies, and remembers how."""

    past: list[bool] = field(default_factory=list[bool])
    """Of each body, whether it was read past aiohttp."""
    seen: list[str] = field(default_factory=list[str])
    broken: list[str] = field(default_factory=list[str])

    def routes(self) -> list[Route]:
        handlers = {"/take": self.take, "/late": self.late, "/part": self.part, "/second": self.second}
        return [
            Route(verb, path, handler, "", open_because="a test", audit=Audit.NONE, body=0, seconds=0)
            for path, handler in handlers.items()
            for verb in ("GET", "PUT")
        ]

    async def take(self, request: web.Request) -> web.Response:
        hashed, size = hashlib.sha256(), 0
        try:
            async for piece in streamed(request, stall=0.5):
                hashed.update(piece)
                size += len(piece)
        except Exception as error:
            self.broken.append(str(error))
            raise
        return json_answer({"size": size, "sha": hashed.hexdigest()})

    async def late(self, request: web.Request) -> web.Response:
        """By then more has come than aiohttp's queue takes."""
        await asyncio.sleep(0.2)
        return await self.take(request)

    async def part(self, request: web.Request) -> web.Response:
        async for _ in streamed(request):
            break
        return json_answer({"part": True})

    async def second(self, request: web.Request) -> web.Response:
        self.seen.append(request.path)
        return json_answer({"second": True})


@pytest.fixture
def things(monkeypatch: pytest.MonkeyPatch) -> Things:
    found = Things()

    def noted(request: web.BaseRequest) -> inflow.Inflow | None:
        past = inflow_of(request)
        found.past.append(past is not None)
        return past

    monkeypatch.setattr("shared.http.bodies.inflow_of", noted)
    return found


@asynccontextmanager
async def serving(things: Things) -> AsyncGenerator[Server]:
    server = Server(memory_parts("cleanup").parts.face(things.routes()), Place(), FakeClock().monotonic)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def wire(server: Server) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def answer(reader: asyncio.StreamReader) -> str:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    size = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("Content-Length"))
    return head + (await reader.readexactly(size)).decode()


def counted(path: str = "/take", content: bytes = CONTENT) -> bytes:
    return f"PUT {path} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(content)}\r\n\r\n".encode() + content


def chunked(path: str = "/take", content: bytes = CONTENT, size: int = 32 * 1024) -> bytes:
    pieces = [content[start : start + size] for start in range(0, len(content), size)]
    body = b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces)
    return f"PUT {path} HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n".encode() + body + b"0\r\n\r\n"


Form = Callable[..., bytes]
FORMS = pytest.mark.parametrize("form", [counted, chunked])


@FORMS
@pytest.mark.parametrize("path", ["/take", "/late"])
async def test_a_large_body_is_read_past_aiohttp_whole_and_the_connection_goes_on(
    things: Things, form: Form, path: str
) -> None:
    async with serving(things) as server, wire(server) as (reader, writer):
        for _ in range(3):
            writer.write(form(path))
            assert SHA in await answer(reader)
        writer.write(SECOND)
        assert "second" in await answer(reader)
    assert things.past == [True] * 3


@FORMS
async def test_a_request_behind_a_large_body_is_answered_behind_it(things: Things, form: Form) -> None:
    async with serving(things) as server, wire(server) as (reader, writer):
        writer.write(form() + SECOND + form() + SECOND)
        for expected in (SHA, "second", SHA, "second"):
            assert expected in await answer(reader)


@FORMS
async def test_a_body_that_trickles_in_is_whole(things: Things, form: Form) -> None:
    content = CONTENT[:1_200_000]
    sent = form(content=content)
    async with serving(things) as server, wire(server) as (reader, writer):
        head = sent.index(b"\r\n\r\n") + 4
        places = [0, head, head + 1, head + 7, head + 40_000, head + 40_003, len(sent) - 9, len(sent) - 3, len(sent)]
        for start, end in itertools.pairwise(places):
            writer.write(sent[start:end])
            await asyncio.sleep(0.01)
        assert hashlib.sha256(content).hexdigest() in await answer(reader)
    assert things.past == [True]


@FORMS
async def test_what_a_handler_leaves_of_a_body_is_passed_over_and_the_connection_goes_on(
    things: Things, form: Form
) -> None:
    async with serving(things) as server, wire(server) as (reader, writer):
        for _ in range(2):
            writer.write(form("/part", SECOND * 100_000) + SECOND)
            assert "part" in await answer(reader)
            assert "second" in await answer(reader)
    assert things.seen == ["/second"] * 2


@FORMS
async def test_a_body_that_nobody_wants_and_that_does_not_end_ends_its_connection(things: Things, form: Form) -> None:
    async with serving(things) as server, wire(server) as (reader, writer):
        writer.write(form("/part", SECOND * 100_000)[:-1000])
        assert "part" in await answer(reader)
        assert await reader.read() == b""
    assert not things.seen


@FORMS
async def test_a_body_whose_sender_goes_away_or_falls_silent_breaks_off(things: Things, form: Form) -> None:
    sent = form()
    async with serving(things) as server:
        async with wire(server) as (reader, writer):
            writer.write(sent[:2_000_000])
            assert " 503 " in await answer(reader)
        async with wire(server) as (_, writer):
            writer.write(sent[:2_000_000])
            await writer.drain()
        for _ in range(100):
            if len(things.broken) == 2:
                break
            await asyncio.sleep(0.02)
    assert things.broken == ["The body stopped coming.", "The body broke off."]


async def test_chunks_that_go_wrong_half_way_end_the_connection(things: Things) -> None:
    sent = chunked()
    broken = sent[:2_000_000] + b"\r\nzz\r\n" * 20_000 + SECOND
    async with serving(things) as server, wire(server) as (reader, writer):
        writer.write(broken)
        assert " 400 " in await answer(reader)
        assert await reader.read() == b""
    assert things.past == [True]
    assert not things.seen


async def test_empty_lines_before_a_request_do_not_move_its_body(things: Things) -> None:
    """A reader that looks for the head's end would find it in front of the head."""
    async with serving(things) as server, wire(server) as (reader, writer):
        sent = b"\r\n\r\n" + counted()
        head = sent.index(b"\r\n\r\n", 4) + 4
        for part in (sent[:head], sent[head:]):
            writer.write(part)
            await asyncio.sleep(0.05)
        assert SHA in await answer(reader)
        writer.write(SECOND)
        assert "second" in await answer(reader)


async def test_small_bodies_are_left_to_aiohttp(things: Things) -> None:
    async with serving(things) as server, wire(server) as (reader, writer):
        for form in (counted, chunked):
            writer.write(form(content=b"abc"))
            assert '"size":3' in await answer(reader)
    assert things.past == [False, False]


async def test_a_stop_while_a_body_comes_in_ends_its_connection(things: Things) -> None:
    server = Server(memory_parts("cleanup").parts.face(things.routes()), Place(stop_seconds=0.1), FakeClock().monotonic)
    await server.start()
    async with wire(server) as (reader, writer):
        writer.write(counted()[:2_000_000])
        await asyncio.sleep(0.1)
        await server.stop()
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.readexactly(10_000)


async def test_an_end_that_comes_by_itself_is_the_end_and_nothing_more_is_read() -> None:
    behind: list[bytes] = []
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(0)
        body = inflow.Inflow(ours.fileno(), Chunked(), b"", behind.append)
        theirs.sendall(b"5\r\nhello")
        assert await body.readany() == b"hello"
        theirs.sendall(b"\r\n0\r\n\r\n")
        assert body.read_nowait() == b""
        assert body.at_eof()
        assert behind == [b""]
        assert await body.readany() == b""
