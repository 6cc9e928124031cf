"""Pushes, deletions and reads that go on while servers come and go, and what must be there and said when it is over."""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from tests.support.images import MANIFEST, Image
from tests.support.lone_registry import World, fresh_image
from tests.support.registry import ADA
from tests.support.stubborn import Stubborn
from tests.support.twins import Twin

WORKERS = 6
CHUNKED_BYTES = 1_500_000
PATIENCE = 90.0
"""Seconds that what was begun may take in the end, and what was done may take until it is said."""


@dataclass
class Load:
    """Images are pushed until this is told to end; each request is repeated until it is acknowledged."""

    registry: Twin
    name: str
    pause: float = 0.0
    """Seconds between two pushes of a worker."""
    deletes: bool = False
    """Whether every fourth image is deleted again."""
    acknowledged: dict[str, Image] = field(default_factory=dict[str, Image])
    """What is there, by tag."""
    deleted: dict[str, Image] = field(default_factory=dict[str, Image])
    refusals: Counter[str] = field(default_factory=Counter[str])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    longest: float = 0.0
    patience: float = 60.0

    @property
    def pushed(self) -> dict[str, Image]:
        """Everything that was acknowledged, whether it is still there or not."""
        return self.acknowledged | self.deleted

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """While this is open there is load."""
        tasks = [asyncio.create_task(self._work(number)) for number in range(WORKERS)]
        try:
            yield
            self.ended.set()
            async with asyncio.timeout(PATIENCE):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _work(self, worker: int) -> None:
        async with Stubborn.at(self.registry.port, ADA) as client:
            client.refusals, client.patience = self.refusals, self.patience
            number = 0
            while not self.ended.is_set():
                number += 1
                image, tag = fresh_image(2048 if number % 8 else CHUNKED_BYTES), f"w{worker}-{number}"
                await client.push(self.name, tag, image, "in chunks")
                self.acknowledged[tag] = image
                if self.deletes and not number % 4:
                    await self._delete(client, tag)
                self.longest = max(self.longest, client.longest)
                await asyncio.sleep(self.pause)

    async def _delete(self, client: Stubborn, tag: str) -> None:
        # Whoever repeats a deletion whose answer was lost learns that there is nothing any more.
        answer = await client.ask("DELETE", f"/v2/{self.name}/manifests/{self.acknowledged[tag].digest}")
        assert answer.status in {202, 404}, answer
        self.deleted[tag] = self.acknowledged.pop(tag)


@dataclass
class Reader:
    """Reads one image again and again: nobody who reads may feel that nothing can be written."""

    registry: Twin
    place: str
    reads: int = 0
    longest: float = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """While this is open it is read; each read must succeed, at once."""
        task = asyncio.create_task(self._read())
        try:
            yield
            assert not task.done(), task.exception()
        finally:
            task.cancel()

    async def _read(self) -> None:
        async with Stubborn.at(self.registry.port, ADA) as client:
            while True:
                began = time.monotonic()
                answer = await client.once("GET", self.place, headers={"Accept": MANIFEST})
                assert answer.status == 200, answer
                self.reads += 1
                self.longest = max(self.longest, time.monotonic() - began)
                await asyncio.sleep(0.05)


async def is_whole(made: World, load: Load, tell: Callable[[str], None], *, what: str) -> None:
    """Everything acknowledged is there and was said, once, and nothing else; what was deleted is gone."""
    async with Stubborn.at(load.registry.port, ADA) as client:
        for tag, image in load.acknowledged.items():
            assert await client.seen(load.name, tag, image), f"{tag} was acknowledged and is gone"
        for tag, image in load.deleted.items():
            found = await client.ask("GET", f"/v2/{load.name}/manifests/{image.digest}", headers={"Accept": MANIFEST})
            assert found.status == 404, f"{tag} was deleted and is there"
    new = await announced(made, "image.pushed", {image.digest for image in load.pushed.values()})
    gone = await announced(made, "image.deleted", {image.digest for image in load.deleted.values()})
    assert set(new.values()) == {1}, f"said more than once: {new}"
    assert set(gone.values()) <= {1}, f"said more than once: {gone}"
    report = {
        "acknowledged": len(load.pushed),
        "announced": len(new),
        "deleted": len(gone),
        "refused": dict(load.refusals),
        "slowest": round(load.longest, 1),
    }
    tell(f"{what}: {json.dumps(report)}")


async def announced(made: World, topic: str, wanted: set[str], allowed: Collection[str] = ()) -> Counter[str]:
    """How often each digest was said, once all were, and none but those that are allowed; all of it was in order."""
    end = time.monotonic() + PATIENCE
    while True:
        said = await made.said(topic)
        numbers = [one["sequence"] for one in said]
        assert numbers == list(range(1, len(numbers) + 1)), f"{topic} was said out of order, or not once"
        found = Counter(one["data"]["digest"] for one in said if not one["data"].get("unchanged"))
        if found.keys() >= wanted:
            assert not found.keys() - wanted - set(allowed), f"{topic}: something was announced that nobody did"
            return found
        assert time.monotonic() < end, f"{topic}: {len(wanted - found.keys())} of {len(wanted)} were never announced"
        await asyncio.sleep(0.3)


async def scanned(made: World, load: Load) -> None:
    """All that is there was scanned; what was deleted may have been gone before."""
    await announced(
        made,
        "scan.completed",
        {image.digest for image in load.acknowledged.values()},
        {image.digest for image in load.deleted.values()},
    )


async def memory(made: World, registry: Twin) -> dict[str, float]:
    """Megabytes of the registry and of the state store, and the entries of the fullest lane."""
    assert registry.process is not None
    valkey: Any = Redis(port=made.valkey.port)
    try:
        used = (await valkey.info("memory"))["used_memory"]
        lanes = [await valkey.xlen(key) async for key in valkey.scan_iter("*", _type="stream", count=1000)]
    finally:
        await valkey.aclose()
    megabytes = {"registry": resident_megabytes(registry.process.pid), "state": used / 2**20}
    return {name: round(size, 1) for name, size in megabytes.items()} | {"lane": max(lanes, default=0)}


async def memory_at_rest(made: World, registry: Twin) -> dict[str, float]:
    """The same once no lane holds anything: what was said last, the audit log's part above all, may still lie there."""
    end = time.monotonic() + PATIENCE
    while (found := await memory(made, registry))["lane"]:
        assert time.monotonic() < end, f"a lane still holds {found['lane']} entries"
        await asyncio.sleep(0.1)
    return found


def resident_megabytes(process: int) -> float:
    """What a process holds in memory."""
    status = Path(f"/proc/{process}/status").read_text()
    resident = re.search(r"^VmRSS:\s+(\d+) kB", status, re.MULTILINE)
    assert resident is not None
    return int(resident[1]) / 1024
