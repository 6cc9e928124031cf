"""No service holds a blob in memory: four layers of 500 MB pushed at once, one read back, one scanned."""

import asyncio
import hashlib
import os
import shutil
import socket
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from cli import suite as suites
from cli.bus import operator
from shared.bus.tail import Tail
from tests.performance.cpu import listeners
from tests.performance.load import Connection, must, path_of, push_blob, push_manifest
from tests.support.images import CONFIG, MANIFEST, descriptor
from tests.support.suite import Suite, running

pytestmark = pytest.mark.timeout(300)

MB = 1_000_000
BLOCKS = 500
BOUND = 200 * MB
FREE = 4_000 * MB
NAME = "demo/heavy/image"
UNPACKED = "application/vnd.oci.image.layer.v1.tar"


@dataclass(frozen=True)
class Layer:
    """500 MB made of one block again and again: made while it is sent, held by nobody."""

    block: bytes

    @property
    def size(self) -> int:
        return BLOCKS * len(self.block)

    def digest(self) -> str:
        """Of the whole."""
        found = hashlib.sha256()
        for _ in range(BLOCKS):
            found.update(self.block)
        return f"sha256:{found.hexdigest()}"


@pytest.fixture
def heavy(tmp_path: Path) -> Iterator[Suite]:
    """A suite of its own, whose two gigabytes go with it."""
    if shutil.disk_usage(tmp_path).free < FREE:
        pytest.skip("4 GB of free disk are needed")
    with running(tmp_path) as suite:
        yield suite
    shutil.rmtree(suite.data)


@contextmanager
def peaks(suite: Suite) -> Generator[dict[str, int]]:
    """The most memory that registry and scanner have had resident meanwhile, in bytes; filled in at the end."""
    processes = {service: listeners(suite.base + offset)[0] for service, offset in (("registry", 0), ("scanner", 3))}
    for process in processes.values():
        Path(f"/proc/{process}/clear_refs").write_text("5")  # forget earlier peaks
    found: dict[str, int] = {}
    yield found
    for service, process in processes.items():
        found[service] = _high_water(process)


def _high_water(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


async def test_four_layers_of_500_mb_at_once_take_little_memory(heavy: Suite, tell: Callable[[str], None]) -> None:
    headers = {"Authorization": f"Bearer {heavy.token()}", "Accept": MANIFEST}
    layers = [Layer(os.urandom(MB)) for _ in range(4)]
    digests = await asyncio.gather(*(asyncio.to_thread(layer.digest) for layer in layers))
    connection = Connection(heavy.base, headers)
    with peaks(heavy) as high:
        ways = (in_chunks, in_chunks, in_one_piece, in_one_piece)
        pushes = zip(ways, layers, digests, strict=True)
        await asyncio.gather(
            *(push(heavy.base, Connection(heavy.base, headers), layer, digest) for push, layer, digest in pushes)
        )
        for digest in digests:
            held = await connection.call("HEAD", f"/v2/{NAME}/blobs/{digest}")
            assert (held.status, held.headers["content-length"]) == (200, str(500 * MB))
        read = await connection.call("GET", f"/v2/{NAME}/blobs/{digests[0]}", keep=False)
        assert (read.status, read.size) == (200, 500 * MB)
        status = await scanned(heavy, connection, layers[0], digests[0])
    await connection.close()
    tell(f"most resident: {', '.join(f'{name} {size / MB:.0f} MB' for name, size in high.items())}")

    assert status in {"FINISHED_FAILED", "FINISHED_UNSUPPORTED"}
    assert high["registry"] < BOUND
    assert high["scanner"] < BOUND


async def in_chunks(port: int, connection: Connection, layer: Layer, digest: str) -> None:
    """As docker pushes: one PATCH with a chunked body, and a PUT without one."""
    begun = await connection.call("POST", f"/v2/{NAME}/blobs/uploads/")
    must(begun, 202)
    place = await asyncio.to_thread(send, port, "PATCH", path_of(begun.headers["location"]), layer, chunked=True)
    must(await connection.call("PUT", f"{place}&digest={digest}"), 201)
    await connection.close()


async def in_one_piece(port: int, connection: Connection, layer: Layer, digest: str) -> None:
    """The whole blob as the body of the PUT."""
    begun = await connection.call("POST", f"/v2/{NAME}/blobs/uploads/")
    must(begun, 202)
    place = f"{path_of(begun.headers['location'])}&digest={digest}"
    await asyncio.to_thread(send, port, "PUT", place, layer, chunked=False)
    await connection.close()


def send(port: int, verb: str, path: str, layer: Layer, *, chunked: bool) -> str:
    """Send a layer over a connection of its own; the path of the answer's Location."""
    framing = "Transfer-Encoding: chunked" if chunked else f"Content-Length: {layer.size}"
    with socket.create_connection(("127.0.0.1", port), 60) as line:
        line.sendall(f"{verb} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\n{framing}\r\n\r\n".encode())
        for _ in range(BLOCKS):
            line.sendall(b"%x\r\n%b\r\n" % (len(layer.block), layer.block) if chunked else layer.block)
        if chunked:
            line.sendall(b"0\r\n\r\n")
        first, *rest = [text.decode() for text in iter(line.makefile("rb").readline, b"\r\n")]
    assert first.split()[1] == ("202" if chunked else "201"), [first, *rest]
    return path_of(next(text.rstrip().partition(": ")[2] for text in rest if text.lower().startswith("location:")))


async def scanned(suite: Suite, connection: Connection, layer: Layer, digest: str) -> str:
    """Push an image whose layer is no archive; what the scanner says of it."""
    await push_blob(connection, NAME, b"{}")
    manifest = orjson.dumps(
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": descriptor(CONFIG, b"{}"),
            "layers": [{"mediaType": UNPACKED, "digest": digest, "size": layer.size}],
        }
    )
    await push_manifest(connection, NAME, "heavy", manifest, MANIFEST)
    tail = Tail(operator(suites.of(str(suite.data))), asyncio.sleep)
    try:
        async with asyncio.timeout(60):
            async for said in tail.follow("EVENTS", "scan.completed.>", 0):
                return str(orjson.loads(said.content)["data"]["status"])
    finally:
        await tail.close()
    raise AssertionError("the tail ended")
