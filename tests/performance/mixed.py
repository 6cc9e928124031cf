"""Many clients that push and pull beside each other for a while: nothing fails, and pulls stay quick."""

import asyncio
import os
import statistics
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from tests.performance.load import Connection, must, push_blob, push_manifest
from tests.performance.rows import ACCEPT, Target, manifest_of
from tests.support.images import MANIFEST

CLIENTS = 64
PUSHERS = 16
"""Of the clients; the others pull."""


@dataclass
class Mixed:
    """What became of it."""

    gets: list[float] = field(default_factory=list[float])
    """Seconds that each manifest GET took."""
    pushes: int = 0
    errors: list[str] = field(default_factory=list[str])

    @property
    def median(self) -> float:
        """Seconds."""
        return statistics.median(self.gets)

    @property
    def p99(self) -> float:
        """Seconds within which 99 of 100 manifests came."""
        return sorted(self.gets)[int(len(self.gets) * 0.99)]


Client = Callable[[Connection, Target, int, Mixed], Awaitable[None]]


async def measure(target: Target, seconds: float) -> Mixed:
    """Let all clients work for so long."""
    mixed, until = Mixed(), time.monotonic() + seconds
    clients: list[Client] = [_pusher if number < PUSHERS else _puller for number in range(CLIENTS)]
    await asyncio.gather(*(_work(client, target, number, mixed, until) for number, client in enumerate(clients)))
    return mixed


async def _work(client: Client, target: Target, number: int, mixed: Mixed, until: float) -> None:
    connection = Connection(target.serving[number % len(target.serving)], target.headers)
    try:
        while time.monotonic() < until:
            await client(connection, target, number, mixed)
    except (AssertionError, OSError, asyncio.IncompleteReadError) as error:
        mixed.errors.append(f"{type(error).__name__}: {error}")
    finally:
        await connection.close()


async def _puller(connection: Connection, target: Target, number: int, mixed: Mixed) -> None:
    path = f"/v2/{target.name}/manifests/bench-{(number + len(mixed.gets)) % 50}"
    began = time.monotonic()
    must(await connection.call("GET", path, headers={"Accept": ACCEPT}), 200)
    mixed.gets.append(time.monotonic() - began)


async def _pusher(connection: Connection, target: Target, number: int, mixed: Mixed) -> None:
    layer = os.urandom(16 * 1024)
    await push_blob(connection, target.name, layer)
    await push_manifest(connection, target.name, f"mixed-{number}", manifest_of(b"{}", [layer]), MANIFEST)
    mixed.pushes += 1
