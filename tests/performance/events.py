"""How long an event takes: from the answer to a push to `scan.completed` on the bus, and how many scans a second."""

import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import orjson

from cli import suite
from cli.bus import operator
from shared.bus.tail import Tail
from tests.performance.load import Connection, push_blob, push_manifest
from tests.performance.rows import Target
from tests.support.images import MANIFEST, image_of, layer_of

_STATUS = "Package: {name}\nStatus: install ok installed\nArchitecture: all\nVersion: 1.{number}-1\n\n"


@dataclass(frozen=True)
class Latency:
    """Seconds from push to `scan.completed`, and the throughput of a burst."""

    median: float
    highest: float
    scans_per_second: float


class Listener:
    """Hears `scan.completed` as a subscriber outside would."""

    def __init__(self, data: Path) -> None:
        self._tail = Tail(operator(suite.of(str(data))), asyncio.sleep)
        self.heard: dict[str, float] = {}
        self._news = asyncio.Event()

    async def start(self) -> None:
        """Begin behind what was said until now."""
        after = await self._tail.end("EVENTS")
        self._listening = asyncio.create_task(self._listen(after))

    async def _listen(self, after: int) -> None:
        async for said in self._tail.follow("EVENTS", "scan.completed.>", after, endless=True):
            self.heard.setdefault(orjson.loads(said.content)["data"]["digest"], _when(said.time))
            self._news.set()

    async def until(self, digest: str, seconds: float = 30) -> float:
        """When the bus stored what was said of the scan of a digest, as a Unix timestamp."""
        async with asyncio.timeout(seconds):
            while digest not in self.heard:
                self._news.clear()
                await self._news.wait()
        return self.heard[digest]

    async def stop(self) -> None:
        """Hang up."""
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)


def _when(stored: str) -> float:
    """The bus's own time of a message; it has more digits than Python reads."""
    return datetime.fromisoformat(f"{stored.rstrip('Z')[:26]}+00:00").timestamp()


async def measure(target: Target, listener: Listener, single: int = 20, burst: int = 60) -> Latency:
    """Push images one by one, then in a burst."""
    connection = Connection(target.port, target.headers)
    took: list[float] = []
    for number in range(single):
        digest = await _push(connection, target, number)
        answered = time.time()
        took.append(await listener.until(digest) - answered)
    digests = [await _push(connection, target, single + number) for number in range(burst)]
    ends = [await listener.until(digest, 120) for digest in digests]
    await connection.close()
    return Latency(statistics.median(took), max(took), (burst - 1) / max(max(ends) - min(ends), 1e-6))


async def _push(connection: Connection, target: Target, number: int) -> str:
    status = _STATUS.format(name=f"bench-{os.urandom(4).hex()}", number=number)
    image = image_of(
        [layer_of({"var/lib/dpkg/status": status.encode(), "etc/os-release": b"ID=debian\nVERSION_ID=12\n"})]
    )
    for content in image.blobs.values():
        await push_blob(connection, target.name, content)
    await push_manifest(connection, target.name, f"scan-{number}", image.manifest, MANIFEST)
    return image.digest
