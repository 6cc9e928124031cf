"""How long an event takes: from the answer to a push to `scan.completed` on the bus, and how many scans a second."""

import asyncio
import os
import statistics
import time
from dataclasses import dataclass
from typing import Any

import nats
import orjson

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

    def __init__(self) -> None:
        self.heard: dict[str, float] = {}
        self._news = asyncio.Event()

    async def start(self, bus: dict[str, str]) -> None:
        """Connect with the account that the suite made for subscribers."""
        self._client = await nats.connect(
            bus["url"], user=bus["user"], password=bus["password"], inbox_prefix=bus["inbox"].encode()
        )
        config = nats.js.api.ConsumerConfig(
            deliver_policy=nats.js.api.DeliverPolicy.NEW,
            filter_subject="scan.completed.>",
            ack_policy=nats.js.api.AckPolicy.NONE,
        )
        await self._client.jetstream().subscribe("scan.completed.>", stream="EVENTS", cb=self._hear, config=config)

    async def _hear(self, message: Any) -> None:
        self.heard.setdefault(orjson.loads(message.data)["data"]["digest"], time.monotonic())
        self._news.set()

    async def until(self, digest: str, seconds: float = 30) -> float:
        """When the scan of a digest was heard of."""
        async with asyncio.timeout(seconds):
            while digest not in self.heard:
                self._news.clear()
                await self._news.wait()
        return self.heard[digest]

    async def stop(self) -> None:
        """Hang up."""
        await self._client.close()


async def measure(target: Target, listener: Listener, single: int = 20, burst: int = 60) -> Latency:
    """Push images one by one, then in a burst."""
    connection = Connection(target.port, target.headers)
    took: list[float] = []
    for number in range(single):
        digest = await _push(connection, target, number)
        answered = time.monotonic()
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
