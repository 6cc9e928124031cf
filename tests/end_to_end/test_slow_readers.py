"""A client that asks and does not read costs no memory: 200 of them, for blobs and for manifests.

They are anonymous and come from 200 addresses, for calls of one caller wait for each other, 64 at once.
"""

import asyncio
import hashlib
import os
import socket
import time
import urllib.request
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import orjson
import pytest

from tests.performance.cpu import listeners, resident
from tests.performance.load import Connection, must, push_blob, push_manifest
from tests.support.images import CONFIG, LAYER, MANIFEST, descriptor
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(240)

CLIENTS = 200
BOUND = 64_000_000
NAME = "demo/slow/image"
BLOB = os.urandom(1_000_000) * 100


@asynccontextmanager
async def silent(suite: Suite, request: bytes, times: int) -> AsyncGenerator[None]:
    """Clients that ask so often, and read nothing."""
    clients = [socket.socket() for _ in range(CLIENTS)]
    loop = asyncio.get_running_loop()
    try:
        for number, client in enumerate(clients, 1):
            client.bind((f"127.3.0.{number}", 0))
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            client.setblocking(False)  # noqa: FBT003 - it knows no names
            await loop.sock_connect(client, ("127.0.0.1", suite.base))
        asked = [asyncio.create_task(loop.sock_sendall(client, request * times)) for client in clients]
        await asyncio.sleep(5)
        yield
        for task in asked:
            task.cancel()
        await asyncio.gather(*asked, return_exceptions=True)
    finally:
        for client in clients:
            client.close()


def head(path: str) -> bytes:
    return f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode()


def open_to_all(suite: Suite) -> None:
    """Everybody may pull; waits until the registry has heard it."""
    role = {"role": "roles/artifactregistry.reader", "members": ["allUsers"]}
    place = "v1/projects/demo/locations/local/repositories/slow:setIamPolicy"
    suite.call("registry", place, {"policy": {"bindings": [role]}})
    time.sleep(1)


def streaming(suite: Suite) -> float:
    """How many calls the registry says are under way."""
    with urllib.request.urlopen(f"{suite.address('registry')}/metrics", timeout=5) as answer:
        lines = answer.read().decode().splitlines()
    return float(next(line for line in lines if line.startswith("entrepot_http_in_flight{")).split()[-1])


async def test_200_clients_that_ask_for_100_mb_and_read_nothing_take_under_64_mb(suite: Suite) -> None:
    token = suite.token()
    connection = Connection(suite.base, {"Authorization": f"Bearer {token}"})
    path = f"/v2/{NAME}/blobs/{await push_blob(connection, NAME, BLOB)}"
    open_to_all(suite)
    must(await connection.call("GET", path, keep=False), 200)
    [registry] = listeners(suite.base)[:1]
    before = resident(registry)
    async with silent(suite, head(path), 1):
        assert resident(registry) - before < BOUND
        assert streaming(suite) >= CLIENTS
        answer = await connection.call("GET", path)
        must(answer, 200)
        assert hashlib.sha256(answer.body).digest() == hashlib.sha256(BLOB).digest()
    await connection.close()


async def test_200_clients_that_ask_for_manifests_on_and_on_and_read_nothing_take_under_64_mb(suite: Suite) -> None:
    token = suite.token()
    connection = Connection(suite.base, {"Authorization": f"Bearer {token}"})
    for content in (b"{}", b"layer"):
        await push_blob(connection, NAME, content)
    body = {"config": descriptor(CONFIG, b"{}"), "layers": [descriptor(LAYER, b"layer")]}
    noted = {"annotations": {f"note{number}": "x" * 1000 for number in range(60)}}
    manifest = orjson.dumps({"schemaVersion": 2, "mediaType": MANIFEST, **body, **noted})
    await push_manifest(connection, NAME, "large", manifest, MANIFEST)
    open_to_all(suite)
    path = f"/v2/{NAME}/manifests/large"
    for _ in range(3):
        must(await connection.call("GET", path), 200)
    [registry] = listeners(suite.base)[:1]
    before = resident(registry)
    async with silent(suite, head(path), 300):
        assert resident(registry) - before < BOUND
        assert (await connection.call("GET", path)).body == manifest
    await connection.close()
