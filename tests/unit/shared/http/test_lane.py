"""The lane on a connection: what waits, who has gone, how it ends, and that aiohttp still has the parts it leans on."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from aiohttp import web

from shared.http.connection import fits
from shared.http.limits import Limits
from shared.http.routes import Audit, Glance, Prepared, Route
from shared.http.serve import Place, Server
from shared.identity.caller import Caller
from tests.support.clock import FakeClock
from tests.support.parts import memory_parts

ADA = "user:ada@example.org"
THING = "projects/demo/things/one"
HEAD = f"GET /v1/{THING} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer as:{ADA}\r\n\r\n".encode()
OTHER = HEAD.replace(b"things/one", b"things/two")
QUICK = Prepared(b"Content-Type: text/plain\r\n", b"quick")

Told = Callable[[Prepared | None], None]


@dataclass
class Things:
    """A glance that answers when the test says so."""

    resource: str = THING
    waiting: list[Told] = field(default_factory=list[Told])
    open: bool = True

    def reaches(self, caller: Caller) -> bool:
        del caller
        return True

    def look(self, told: Told) -> bool:
        if self.open:
            self.waiting.append(told)
        return self.open

    def read(self, path: str) -> Glance | None:
        return self if path == f"/v1/{THING}" else None

    async def asked(self, count: int = 1) -> None:
        """Wait until so many have come."""
        async with asyncio.timeout(5):
            while len(self.waiting) < count:  # noqa: ASYNC110 - sockets tell nobody
                await asyncio.sleep(0.005)

    def tell(self, found: Prepared | None = QUICK) -> None:
        self.waiting.pop(0)(found)


async def _slow(request: web.Request) -> web.Response:
    del request
    return web.Response(text="slow")


@asynccontextmanager
async def serving(things: Things, place: Place | None = None, limits: Limits | None = None) -> AsyncGenerator[Server]:
    memory = memory_parts("cleanup", grants={"projects/demo": {ADA: ["things.get"]}})
    route = Route(
        "GET", "/v1/projects/{project}/things/{thing}", _slow, "things.get", method="Get", audit=Audit.DATA_READ
    )
    route = Route(**{**route.__dict__, "glance": things.read})
    server = Server(memory.parts.face([route], limits=limits), place or Place(), FakeClock().monotonic)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@asynccontextmanager
async def client(server: Server) -> AsyncGenerator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    await asyncio.sleep(0.01)
    try:
        yield reader, writer
    finally:
        writer.close()


async def body(reader: asyncio.StreamReader) -> tuple[int, bytes]:
    async with asyncio.timeout(5):
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        size = int(head.split(b"content-length: ")[1].split(b"\r\n")[0])
        return int(head.split()[1]), await reader.readexactly(size)


def test_the_pinned_aiohttp_has_what_the_lane_leans_on() -> None:
    assert fits()


async def test_an_answer_that_is_not_found_is_looked_for_by_the_handler() -> None:
    things = Things()
    async with serving(things) as server, client(server) as (reader, writer):
        for _ in range(3):
            writer.write(HEAD)
            await things.asked()
            things.tell(None)
            assert await body(reader) == (200, b"slow")
        things.open = False
        writer.write(HEAD)
        assert await body(reader) == (200, b"slow")


async def test_what_comes_while_an_answer_is_looked_for_waits_and_is_answered_in_order() -> None:
    things = Things()
    async with serving(things) as server, client(server) as (reader, writer):
        for found, said in ((QUICK, b"quick"), (None, b"slow"), (QUICK, b"quick")):
            writer.write(HEAD)
            await things.asked()
            writer.write(OTHER)
            await asyncio.sleep(0.02)
            assert len(things.waiting) == 1
            things.tell(found)
            assert await body(reader) == (200, said)
            assert await body(reader) == (200, b"slow")


async def test_who_hangs_up_is_not_missed_and_leaves_its_turn_to_others() -> None:
    things = Things()
    async with serving(things, limits=Limits(at_once=1)) as server:
        for found in (QUICK, None) * 3:
            async with client(server) as (_, writer):
                writer.write(HEAD)
                await things.asked()
            await asyncio.sleep(0.02)
            things.tell(found)
        async with client(server) as (reader, writer):
            writer.write(HEAD)
            await things.asked()
            things.tell()
            assert await body(reader) == (200, b"quick")


async def test_calls_of_one_caller_wait_for_each_other_and_too_many_are_told_to_come_again() -> None:
    things, limits = Things(), Limits(at_once=1, waiting=1)
    async with serving(things, limits=limits) as server, client(server) as one, client(server) as two:
        one[1].write(HEAD)
        await things.asked()
        two[1].write(HEAD)
        await asyncio.sleep(0.05)
        assert len(things.waiting) == 1
        async with client(server) as (reader, writer):
            writer.write(HEAD)
            assert (await body(reader))[0] == 429
        things.tell()
        assert await body(one[0]) == (200, b"quick")
        await things.asked()
        things.tell()
        assert await body(two[0]) == (200, b"quick")


async def test_a_turn_that_does_not_come_in_time_is_waited_for_by_the_handler_and_refused() -> None:
    things, limits = Things(), Limits(at_once=1, wait_seconds=0.1)
    async with serving(things, limits=limits) as server, client(server) as one, client(server) as two:
        one[1].write(HEAD)
        await things.asked()
        two[1].write(HEAD)
        assert (await body(two[0]))[0] == 429
        things.tell()
        assert await body(one[0]) == (200, b"quick")


async def test_a_stop_waits_for_answers_that_are_looked_for() -> None:
    things = Things()
    async with serving(things, Place(stop_seconds=5)) as server, client(server) as (reader, writer):
        writer.write(HEAD)
        await things.asked()
        stopping = asyncio.create_task(server.stop())
        await asyncio.sleep(0.1)
        assert not stopping.done()
        things.tell()
        assert await body(reader) == (200, b"quick")
        await asyncio.wait_for(stopping, 5)


async def test_a_connection_is_not_idle_while_its_answer_is_looked_for_but_is_closed_when_it_is() -> None:
    things = Things()
    async with serving(things, Place(idle_seconds=0.2)) as server, client(server) as (reader, writer):
        writer.write(HEAD)
        await things.asked()
        await asyncio.sleep(0.5)
        things.tell()
        assert await body(reader) == (200, b"quick")
        assert await asyncio.wait_for(reader.read(), 5) == b""
