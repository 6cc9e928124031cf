"""How a face is served: heads, bodies, connections and their ends, as bytes on a socket."""

import asyncio
import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiohttp import ClientSession, web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from shared.http.bodies import body_of, streamed
from shared.http.routes import Audit, Route
from shared.http.serve import Place, Server
from shared.http.translation import json_answer
from tests.support.clock import FakeClock
from tests.support.parts import memory_parts
from tests.support.ports import free_port


async def _read(request: web.Request) -> web.Response:
    return json_answer({"size": len(await body_of(request, 100_000_000))})


async def _patient(request: web.Request) -> web.Response:
    return json_answer({"size": sum([len(piece) async for piece in streamed(request, stall=0.2)])})


ROUTES = [
    Route("PUT", "/read", _read, "", open_because="a test", audit=Audit.NONE, body=0),
    Route("PUT", "/small", _read, "", open_because="a test", audit=Audit.NONE, body=1000),
    Route("PUT", "/patient", _patient, "", open_because="a test", audit=Audit.NONE, body=0, seconds=0),
    Route("PUT", "/v1/projects/{project}/guarded", _read, "things.put", audit=Audit.NONE, body=0),
]


@asynccontextmanager
async def serving(place: Place | None = None, clock: FakeClock | None = None) -> AsyncGenerator[Server]:
    app = memory_parts("cleanup").parts.face(ROUTES)
    server = Server(app, place or Place(), (clock or FakeClock()).monotonic)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


class Wire:
    """One connection, byte by byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def send(self, content: bytes) -> None:
        self.writer.write(content)
        await self.writer.drain()

    async def head(self) -> str:
        async with asyncio.timeout(10):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def answer(self) -> str:
        head = await self.head()
        size = next(int(line.partition(":")[2]) for line in head.split("\r\n") if line.startswith("Content-Length"))
        return head + (await self.reader.readexactly(size)).decode()

    async def closed(self) -> bool:
        async with asyncio.timeout(10):
            try:
                return await self.reader.read() == b""
            except ConnectionError:
                return True


@asynccontextmanager
async def wire(server: Server) -> AsyncGenerator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.close()


def put(path: str, size: int, *headers: str) -> bytes:
    lines = [f"PUT {path} HTTP/1.1", "Host: h", f"Content-Length: {size}", *headers]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


async def test_a_connection_lives_on_after_a_refused_small_body() -> None:
    async with serving() as server, wire(server) as connection:
        for _ in range(3):
            await connection.send(put("/v1/projects/demo/guarded", 5000) + b"x" * 5000)
            assert " 401 " in await connection.answer()
        await connection.send(put("/small", 2000) + b"x" * 2000)
        assert " 413 " in await connection.answer()
        await connection.send(put("/read", 3) + b"abc")
        assert '{"size":3}' in await connection.answer()


async def test_a_connection_is_closed_after_a_refused_large_body() -> None:
    async with serving() as server, wire(server) as connection:
        await connection.send(put("/v1/projects/demo/guarded", 10_000_000) + b"x" * 1000)
        answer = await connection.answer()
        assert " 401 " in answer
        assert "Connection: close" in answer


async def test_leave_to_send_is_given_only_to_who_is_let_in() -> None:
    async with serving() as server:
        async with wire(server) as connection:
            await connection.send(put("/v1/projects/demo/guarded", 5000, "Expect: 100-continue"))
            assert (await connection.answer()).startswith("HTTP/1.1 401 ")
            assert await connection.closed()
        async with wire(server) as connection:
            await connection.send(put("/read", 5000, "Expect: 100-continue"))
            assert (await connection.head()).startswith("HTTP/1.1 100 ")
            await connection.send(b"x" * 5000)
            assert '{"size":5000}' in await connection.answer()


async def test_another_expectation_is_refused() -> None:
    async with serving() as server, wire(server) as connection:
        await connection.send(put("/read", 3, "Expect: miracles") + b"abc")
        assert " 417 " in await connection.answer()


@pytest.mark.parametrize("path", ["/read", "/nowhere", "/healthz"])
async def test_an_expectation_that_is_no_text_is_refused_too(path: str) -> None:
    async with serving() as server, wire(server) as connection:
        await connection.send(
            f"PUT {path} HTTP/1.1\r\nHost: h\r\nExpect: ".encode() + b"\xf8\r\nContent-Length: 0\r\n\r\n"
        )
        assert " 417 " in await connection.head()


async def test_a_chunked_body_is_counted_as_it_comes() -> None:
    async with serving() as server, wire(server) as connection:
        head = b"PUT /read HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
        await connection.send(head + b"3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n")
        assert '{"size":7}' in await connection.answer()


async def test_a_compressed_body_is_not_unpacked() -> None:
    async with serving() as server, wire(server) as connection:
        await connection.send(put("/read", 3, "Content-Encoding: gzip") + b"abc")
        assert " 415 " in await connection.answer()


async def test_a_body_that_stops_coming_ends_the_call() -> None:
    async with serving() as server, wire(server) as connection:
        await connection.send(put("/patient", 10) + b"abc")
        assert " 503 " in await connection.answer()


@pytest.mark.parametrize(
    "head",
    [
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: h\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nX: " + b"a" * 20_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\n" + b"X: a\r\n" * 200 + b"\r\n",
        b"GET / HTTP/1.1\r\nHost: h\r\nBad Name: a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
    ],
)
async def test_a_head_that_is_too_large_or_none_is_refused(head: bytes) -> None:
    async with serving() as server:
        async with wire(server) as connection:
            await connection.send(head)
            assert " 400 " in await connection.head()
        async with wire(server) as connection:
            await connection.send(put("/read", 0))
            assert " 200 " in await connection.answer()


async def test_a_head_that_never_ends_is_cut_off_and_others_are_not() -> None:
    clock = FakeClock()
    async with serving(Place(header_seconds=20), clock) as server, wire(server) as slow, wire(server) as used:
        await slow.send(b"GET / HTTP/1.1\r\nHo")
        await used.send(put("/read", 0))
        await used.answer()
        server.sweep()
        await clock.advance(19)
        server.sweep()
        assert not slow.reader.at_eof()
        await clock.advance(2)
        server.sweep()
        assert await slow.closed()
        await used.send(put("/read", 0))
        assert " 200 " in await used.answer()


async def test_an_idle_connection_is_closed() -> None:
    async with serving(Place(idle_seconds=0.1)) as server, wire(server) as connection:
        await connection.send(put("/read", 0))
        await connection.answer()
        assert await connection.closed()


async def test_a_stop_lets_no_new_connection_in_and_finishes_what_runs() -> None:
    server = Server(memory_parts("cleanup").parts.face(ROUTES), Place(), FakeClock().monotonic)
    await server.start()
    async with wire(server) as running, wire(server) as idle:
        port = server.port
        await running.send(put("/read", 6) + b"abc")
        await asyncio.sleep(0.05)
        stopping = asyncio.create_task(server.stop())
        assert await idle.closed()
        with pytest.raises(OSError, match=str(port)):
            await asyncio.open_connection("127.0.0.1", port)
        assert not stopping.done()
        await running.send(b"def")
        assert '{"size":6}' in await running.answer()
        async with asyncio.timeout(10):
            await stopping


async def test_a_call_that_does_not_end_does_not_hold_up_the_end() -> None:
    server = Server(memory_parts("cleanup").parts.face(ROUTES), Place(stop_seconds=0.1), time.monotonic)
    await server.start()
    async with wire(server) as running:
        await running.send(put("/read", 6) + b"abc")
        await asyncio.sleep(0.05)
        async with asyncio.timeout(10):
            await server.stop()


async def test_tls_is_served_by_certificate_files(tmp_path: Path) -> None:
    certificate, key = _self_signed(tmp_path)
    trust = ssl.create_default_context(cafile=certificate)
    async with serving(Place(certificate=certificate, key=key)) as server, ClientSession() as client:
        answer = await client.get(f"https://localhost:{server.port}/healthz", ssl=trust)
        assert await answer.json() == {"alive": True}


def _self_signed(folder: Path) -> tuple[Path, Path]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "tls.crt").write_bytes(certificate.public_bytes(Encoding.PEM))
    (folder / "tls.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "tls.crt", folder / "tls.key"


async def test_servers_that_share_a_port_are_each_met_alone_at_one_of_their_own() -> None:
    shared = free_port()
    own = [free_port(), free_port()]
    async with (
        serving(Place(port=shared, own_port=own[0])),
        serving(Place(port=shared, own_port=own[1])),
        ClientSession() as session,
    ):
        for port in (shared, *own):
            async with session.put(f"http://127.0.0.1:{port}/read", data=b"abc") as answer:
                assert await answer.json() == {"size": 3}


async def test_a_port_that_is_not_shared_is_refused_to_a_second() -> None:
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            async with serving(Place(port=server.port)):
                pass
