"""Blobs leave by the kernel on either loop: whole, in parts, to slow readers and to those who hang up."""

import asyncio
import os
import socket
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop

from services.registry.api import kernel
from services.registry.ranges import Span
from shared.threads import Threads
from tests.performance.load import Connection, must
from tests.support.parts import bearer
from tests.support.registry import ADA, NAME, RegistryClient, registry

BLOB = os.urandom(20_000_000)
LOOPS: dict[str, Callable[[], asyncio.AbstractEventLoop] | None] = {"asyncio": None, "uvloop": uvloop.new_event_loop}

OF_ADA = f"Authorization: Bearer as:{ADA}\r\n"

Test = Callable[[RegistryClient, str], Coroutine[Any, Any, None]]


@pytest.fixture(params=LOOPS)
def on_a_loop(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[Test], None]:
    """Runs a test of a registry on a directory, on that loop; it is given the path of the blob."""

    def run(test: Test) -> None:
        async def main() -> None:
            async with registry(tmp_path / "bucket") as oci:
                digest = await oci.blob(BLOB)
                await asyncio.wait_for(test(oci, f"/v2/{NAME}/blobs/{digest}"), 60)

        with asyncio.Runner(loop_factory=LOOPS[request.param]) as runner:
            runner.run(main())

    return run


def connection(oci: RegistryClient) -> Connection:
    assert oci.client.server.port is not None
    return Connection(oci.client.server.port, bearer(ADA))


def test_the_whole_and_every_part_are_the_blobs_own_bytes(on_a_loop: Callable[[Test], None]) -> None:
    async def test(oci: RegistryClient, path: str) -> None:
        reader = connection(oci)
        for start, end in (
            (0, 0),
            (0, 1),
            (4095, 4097),
            (7, 65_543),
            (7, 65_544),
            (1, 9_999_999),
            (19_999_999, 20_000_000),
            (0, 0),
        ):
            part = {"Range": f"bytes={start}-{end - 1}"} if end else {}
            answer = await reader.call("GET", path, headers=part)
            must(answer, 206 if end else 200)
            assert answer.body == (BLOB[start:end] if end else BLOB)
        await reader.close()

    on_a_loop(test)


def test_many_who_read_at_once_get_each_the_whole(on_a_loop: Callable[[Test], None]) -> None:
    async def read(oci: RegistryClient, path: str) -> None:
        reader = connection(oci)
        for _ in range(3):
            assert (await reader.call("GET", path)).body == BLOB
        await reader.close()

    async def test(oci: RegistryClient, path: str) -> None:
        await asyncio.gather(*(read(oci, path) for _ in range(8)))

    on_a_loop(test)


def test_who_hangs_up_leaves_no_descriptor_behind(on_a_loop: Callable[[Test], None]) -> None:
    async def hang_up(oci: RegistryClient, path: str, after: int) -> None:
        _, writer = await asyncio.open_connection(oci.client.server.host, oci.client.server.port, limit=1024)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{OF_ADA}\r\n".encode())
        await asyncio.sleep(after / 100)
        writer.transport.abort()

    async def test(oci: RegistryClient, path: str) -> None:
        reader = connection(oci)
        must(await reader.call("GET", path, keep=False), 200)
        before = descriptors()
        await asyncio.gather(*(hang_up(oci, path, number % 5) for number in range(20)))
        async with asyncio.timeout(10):
            while descriptors() > before:  # noqa: ASYNC110 - the kernel tells nobody
                await asyncio.sleep(0.02)
        must(await reader.call("GET", path, keep=False), 200)
        await reader.close()

    on_a_loop(test)


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - not paths of ours


def test_who_reads_slowly_gets_the_whole_and_keeps_no_thread(on_a_loop: Callable[[Test], None]) -> None:
    async def read_late(oci: RegistryClient, path: str, after: float) -> None:
        server = oci.client.server
        reader, writer = await asyncio.open_connection(server.host, server.port, limit=4096)
        for part in ("bytes=0-", "bytes=0-9"):
            writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n{OF_ADA}Range: {part}\r\n\r\n".encode())
            await asyncio.sleep(after)
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206")
            whole = BLOB if part == "bytes=0-" else BLOB[:10]
            assert await reader.readexactly(len(whole)) == whole
        writer.close()

    async def test(oci: RegistryClient, path: str) -> None:
        late = [asyncio.create_task(read_late(oci, path, 1.2)) for _ in range(32)]
        await asyncio.sleep(0.2)
        async with asyncio.timeout(0.9):
            await read_late(oci, path, 0.0)  # on the loop: all threads wait for others
        await asyncio.sleep(0.1)
        assert not any(task.done() for task in late)
        await asyncio.gather(*late)

    on_a_loop(test)


@pytest.mark.parametrize("loop", LOOPS)
def test_a_sending_that_is_called_off_ends_at_once_and_gives_its_thread_back(loop: str, tmp_path: Path) -> None:
    (tmp_path / "blob").write_bytes(BLOB)

    async def main() -> None:
        accepted: asyncio.Future[asyncio.StreamWriter] = asyncio.get_running_loop().create_future()
        server = await asyncio.start_server(lambda _, writer: accepted.set_result(writer), "127.0.0.1")
        client = socket.create_connection(server.sockets[0].getsockname())
        writer, threads = await accepted, Threads(1, "test")
        with client, (tmp_path / "blob").open("rb", buffering=0) as file:
            sending = asyncio.create_task(
                kernel.Kernel(time.monotonic, threads).send(writer.transport, writer.drain, file, Span(0, len(BLOB)))
            )
            await asyncio.sleep(0.1)
            assert threads.free == 0
            sending.cancel()
            async with asyncio.timeout(0.3):
                await asyncio.wait([sending])
            assert (sending.cancelled(), threads.free) == (True, 1)
        writer.transport.abort()
        server.close()
        threads.close()

    with asyncio.Runner(loop_factory=LOOPS[loop]) as runner:
        runner.run(main())


def test_answers_behind_one_another_do_not_mix(on_a_loop: Callable[[Test], None]) -> None:
    async def test(oci: RegistryClient, path: str) -> None:
        reader, writer = await asyncio.open_connection(oci.client.server.host, oci.client.server.port)
        who = f"Host: x\r\n{OF_ADA}\r\n"
        writer.write("".join(f"{verb} {path} HTTP/1.1\r\n{who}" for verb in ("GET", "HEAD", "GET", "HEAD")).encode())
        for body in (BLOB, b"", BLOB, b""):
            head = await reader.readuntil(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200")
            assert await reader.readexactly(len(body)) == body
        writer.close()

    on_a_loop(test)


def test_a_file_that_is_too_short_ends_the_connection(
    on_a_loop: Callable[[Test], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kernel, "_AT_ONCE", 1_000_000)

    async def test(oci: RegistryClient, path: str) -> None:
        os.truncate(stored(tmp_path), 5_000_000)
        reader = connection(oci)
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await reader.call("GET", path)
        reader.drop()

    on_a_loop(test)


def test_a_small_part_that_the_file_does_not_have_is_told_of(on_a_loop: Callable[[Test], None], tmp_path: Path) -> None:
    async def test(oci: RegistryClient, path: str) -> None:
        os.truncate(stored(tmp_path), 1_000)
        reader = connection(oci)
        must(await reader.call("GET", path, headers={"Range": "bytes=0-999"}), 206)
        must(await reader.call("GET", path, headers={"Range": "bytes=990-1009"}), 503)
        await reader.close()

    on_a_loop(test)


def stored(folder: Path) -> Path:
    """The blob's file."""
    [file] = [each for each in folder.rglob("*") if each.is_file() and each.stat().st_size == len(BLOB)]
    return file
