"""Shortcuts through aiohttp: they are taken, and nobody can tell."""

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import pytest
from aiohttp import ClientSession, web
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from shared.clock import SystemClock, SystemIds
from shared.http import connection, shortcuts
from shared.http.face import face
from shared.http.routes import Audit, Route
from shared.identity.directory import Directory
from tests.support.parts import Tokens, client_of_app


async def echoed(request: web.Request) -> web.Response:
    told = ",".join(f"{name}={text}" for name, text in request.match_info.items())
    return web.Response(text=f"{request.method} {told} {request.query_string} {request.app is not None}")


def closing() -> web.Response:
    found = web.Response(body=b"abc")
    found.force_close()
    return found


def with_cookie() -> web.Response:
    found = web.Response(body=b"abc")
    found.set_cookie("a", "b")
    return found


def compressed() -> web.Response:
    found = web.Response(body=b"abc" * 1000)
    found.enable_compression()
    return found


ANSWERS = {
    "bytes": lambda: web.Response(body=b"abc", headers={"X-One": "1"}),
    "typed": lambda: web.Response(body=b"{}", headers={"Content-Type": "application/json", "Date": "never"}),
    "nothing": lambda: web.Response(status=201, headers={"Location": "/x"}),
    "empty": lambda: web.Response(status=204),
    "large": lambda: web.Response(body=b"x" * 100_000),
    "length": lambda: web.Response(body=b"abc", headers={"Content-Length": "3"}),
    "reason": lambda: web.Response(status=299, reason="odd", body=b"abc"),
    "closing": closing,
    "cookie": with_cookie,
    "compressed": compressed,
}


async def answered(request: web.Request) -> web.StreamResponse:
    made = ANSWERS.get(request.match_info["kind"])
    if made is None:
        raise web.HTTPNotFound
    return made()


def application() -> web.Application:
    open_to_all = {"permission": "", "open_because": "test", "audit": Audit.NONE}
    shape = re.compile(r"/shaped/(?P<name>[a-z]+)/(?P<end>[0-9]+)")
    routes = [
        Route("GET", "/answers/{kind}", answered, **open_to_all),
        Route("HEAD", "/answers/{kind}", answered, **open_to_all),
        Route("GET", "/names/{name:.+}/end", echoed, **open_to_all),
        Route("GET", "/shaped/{name}/{end}", echoed, **open_to_all, shape=shape),
        Route("GET", "/shaped/{name}/{end}/more", echoed, **open_to_all),
    ]
    clock = SystemClock()
    return face(
        "test", routes, directory=Directory(clock.now), verifier=Tokens(), journal=None, clock=clock, ids=SystemIds()
    )


@asynccontextmanager
async def wires() -> AsyncGenerator[list[tuple[asyncio.StreamReader, asyncio.StreamWriter]]]:
    """Connections to the same face with shortcuts and without."""
    async with client_of_app(application()) as quick, client_of_app(application(), lane=False) as plain:
        opened = [await asyncio.open_connection(each.server.host, each.server.port) for each in (quick, plain)]
        try:
            yield opened
        finally:
            for _, writer in opened:
                writer.close()


async def asked(wire: tuple[asyncio.StreamReader, asyncio.StreamWriter], head: bytes) -> bytes:
    """The raw answer, but for what no two share."""
    wire[1].write(head)
    found = await wire[0].readuntil(b"\r\n\r\n")
    length = re.search(rb"Content-Length: (\d+)", found)
    body = b"" if head.startswith(b"HEAD") or not length else await wire[0].readexactly(int(length[1]))
    return re.sub(rb"(Date|X-Request-Id): [^\r]*", rb"\1", found) + body


@pytest.mark.parametrize("verb", ["GET", "HEAD"])
@pytest.mark.parametrize("version", [b"1.1", b"1.0"])
@pytest.mark.parametrize("kind", [*ANSWERS, "unknown"])
async def test_an_answer_is_the_same_letter_by_letter(kind: str, verb: str, version: bytes) -> None:
    head = b"%s /answers/%s HTTP/%s\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n"
    async with wires() as (quick, plain):
        whole = head % (verb.encode(), kind.encode(), version)
        assert await asked(quick, whole) == await asked(plain, whole)


PATHS = (
    "/names/a/end",
    "/names/a/b%2Fc/end",
    "/names/%61/end?x=1",
    "/names/a%20b/end",
    "/names/%C3%A9/end",
    "/shaped/abc/12",
    "/shaped/abc/12?q=%20",
    "/shaped/%61bc/12",
    "/shaped/ABC/12",
    "/shaped/abc/12/more",
    "/shaped/abc/12/",
    "//shaped/abc/12",
    "/shaped//12",
    "/nowhere",
    "/healthz",
    "/names/a/end#part",
)


@pytest.mark.parametrize("path", PATHS)
async def test_a_path_means_the_same_however_often_it_comes(path: str) -> None:
    async with wires() as (quick, plain):
        head = f"GET {path} HTTP/1.1\r\nHost: h\r\n\r\n".encode("latin-1")
        expected = await asked(plain, head)
        assert [await asked(quick, head) for _ in range(3)] == [expected] * 3
        other = head.replace(b"GET", b"PUT", 1)
        assert await asked(quick, other) == await asked(plain, other)


async def test_what_is_known_is_not_routed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    routed: list[str] = []
    resolve = web.UrlDispatcher.resolve

    async def counted(self: web.UrlDispatcher, request: web.Request) -> UrlMappingMatchInfo:
        routed.append(request.path)
        return await resolve(self, request)

    monkeypatch.setattr(web.UrlDispatcher, "resolve", counted)
    async with client_of_app(application()) as client:
        for path in ("/names/a/end", "/names/a/end", "/shaped/abc/1", "/shaped/abc/2", "/nowhere", "/nowhere"):
            await client.get(path)
    assert routed == ["/names/a/end", "/nowhere", "/nowhere"]


async def test_no_more_paths_are_remembered_than_there_is_room_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shortcuts, "REMEMBERED", 3)
    app = application()
    async with client_of_app(app) as client:
        for number in range(10):
            assert (await client.get(f"/names/{number}/end")).status == 200
            assert (await client.get(f"/names/{number}{'x' * 600}/end")).status == 200
            assert len(app[shortcuts.SHORTCUTS]._routed) <= 3


async def test_a_client_that_does_not_read_holds_up_nobody_and_gets_everything() -> None:
    async with client_of_app(application()) as client:
        reader, writer = await asyncio.open_connection(client.server.host, client.server.port)
        writer.write(b"GET /answers/bytes HTTP/1.1\r\nHost: h\r\n\r\n" * 50)
        async with ClientSession() as session, session.get(client.make_url("/answers/bytes")) as other:
            assert await other.read() == b"abc"
        found = b""
        while found.count(b"\r\n\r\nabc") < 50:
            found += await asyncio.wait_for(reader.read(65_536), 5)
        writer.close()


def test_aiohttp_has_the_parts_that_are_used() -> None:
    assert connection.fits()
