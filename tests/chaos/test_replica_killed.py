"""Two registries behind one address, of which one is killed and started again, over and over, under load.

What was acknowledged is read back at once, wherever the next connection leads; uploads in chunks go on at the other
registry from the byte at which they stood.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.support.balancer import balanced
from tests.support.lone_registry import World, fresh_image, restarted, serving, world
from tests.support.registry import ADA
from tests.support.stubborn import Stubborn
from tests.support.twins import Twin

NAME = "demo/pair/app"
READERS, UPLOADERS = 4, 2
KILLS = 4
CHUNK = 128 * 1024
"""Small, so that a kill meets an upload between two of them."""

pytestmark = pytest.mark.timeout(240)


@dataclass
class Seen:
    """What the load came to."""

    written: int = 0
    read_back: int = 0
    uploads: int = 0
    resumed: int = 0
    """Uploads that the kill of a registry interrupted."""
    ended: asyncio.Event = field(default_factory=asyncio.Event)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_what_is_acknowledged_is_read_at_once_and_uploads_go_on_while_one_of_two_is_killed(
    place: World, tell: Callable[[str], None]
) -> None:
    pair, seen = (place.registry("one"), place.registry("two")), Seen()
    async with AsyncExitStack() as running:
        for registry in pair:
            await running.enter_async_context(serving(registry))
        address = await running.enter_async_context(balanced([registry.port for registry in pair]))
        load = [asyncio.create_task(move_a_tag(address, number, seen)) for number in range(READERS)]
        load += [asyncio.create_task(upload(address, seen)) for _ in range(UPLOADERS)]
        try:
            for number in range(KILLS):
                await kill_in_turn(pair[number % 2])
            seen.ended.set()
            async with asyncio.timeout(60):
                await asyncio.gather(*load)
        finally:
            for task in load:
                task.cancel()
    report = {"kills": KILLS, "tags moved": seen.written, "read back": seen.read_back}
    tell(json.dumps({**report, "uploads": seen.uploads, "of these interrupted": seen.resumed}))
    assert seen.written > KILLS * READERS
    assert seen.uploads >= UPLOADERS
    assert seen.resumed > 0, "no upload was interrupted: nothing was shown"


async def kill_in_turn(registry: Twin) -> None:
    """Under load, and while its twin carries all of it; then there are two again."""
    await asyncio.sleep(0.7)
    registry.kill()
    await asyncio.sleep(0.7)
    await restarted(registry)


async def move_a_tag(address: int, number: int, seen: Seen) -> None:
    """Push a manifest, and read it back on a connection of its own; the tag is nobody else's."""
    tag = f"moving-{number}"
    while not seen.ended.is_set():
        image = fresh_image()
        async with Stubborn.at(address, ADA) as writer:
            await writer.push(NAME, tag, image)
        seen.written += 1
        for _ in range(2):
            async with Stubborn.at(address, ADA) as reader:
                found = await reader.ask("GET", f"/v2/{NAME}/manifests/{tag}")
            assert (found.status, found.body) == (200, image.manifest), f"{tag} is read as it was before"
            seen.read_back += 1


async def upload(address: int, seen: Seen) -> None:
    """One upload of several chunks after the other."""
    while not seen.ended.is_set():
        image = fresh_image(40 * CHUNK)
        async with Stubborn.at(address, ADA) as client:
            client.chunk = CHUNK
            await client.push(NAME, "large", image)
            for digest, content in image.blobs.items():
                found = await client.ask("GET", f"/v2/{NAME}/blobs/{digest}")
                assert (found.status, found.body) == (200, content)
            seen.uploads += 1
            seen.resumed += client.resumed > 0
