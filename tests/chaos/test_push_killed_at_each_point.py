"""kill -9 at every named point of a push, on a real registry: what is there then, and how a client goes on.

The process ends itself at the point, so that each is met exactly; it is started again on what it left, and the client
that was cut off repeats what it was doing, as docker does.
"""

import asyncio
import json
import os
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from tests.support.bus import until
from tests.support.images import Image
from tests.support.lone_registry import World, died, files_of, fresh_image, serving, world
from tests.support.registry import ADA
from tests.support.stubborn import How, Stubborn
from tests.support.twins import Twin

IN_CHUNKS = (
    "upload made, no bytes",
    "chunk half written",
    "chunk synced, not answered",
    "upload whole, not committed",
    "upload synced, not yet linked",
    "upload linked, not yet removed",
    "upload committed, no record",
)
"""Points of an upload that comes in several requests."""
CLOSED_BY_A_CHUNK = ("before vouching", "vouching committed, not answered", "upload committed, no record")
"""Points of one whose last bytes come with its end, so that its address cannot tell what they are."""
WHOLE = ("blob half written", "blob synced, not yet renamed", "blobs renamed, no record")
"""Points of one whose bytes come in one."""
EITHER = (
    "before blob step",
    "blob step committed, not answered",
    "manifest synced, not yet renamed",
    "manifests renamed, no record",
    "before manifest step",
    "manifest step committed, not answered",
    "in the lane, not published",
    "published, still in the lane",
    "removed from the lane",
)
POINTS: Sequence[tuple[str, How]] = (
    *((point, "in chunks") for point in (*IN_CHUNKS, *EITHER)),
    *((point, "in chunks, the last of which closes") for point in CLOSED_BY_A_CHUNK),
    *((point, "whole") for point in (*WHOLE, *EITHER[:2])),
)
LAYER = 4 * 1024 * 1024 + 5
DAYS = 3 * 86_400

pytestmark = pytest.mark.timeout(420)


@dataclass
class Trial:
    """A registry that dies again and again, and a client that pushes to it."""

    place: World
    registry: Twin
    client: Stubborn
    images: dict[str, Image] = field(default_factory=dict[str, Image])
    """What was pushed and acknowledged, by name."""
    died: Counter[str] = field(default_factory=Counter[str])
    there: list[str] = field(default_factory=list[str])
    """Points behind which the image was there already."""

    async def die_at(self, point: str, how: How) -> None:
        """Push until the registry dies; look at what is there; let the client go on."""
        name, image = f"demo/points/image-{len(self.images)}", fresh_image(LAYER)
        self.place.faults.write_text(point)
        pushing = asyncio.create_task(self.client.push(name, "v1", image, how))
        try:
            await died(self.place, self.died.total() + 1, point)
            self.client.go.clear()
            self.place.faults.write_text("")
            await asyncio.to_thread(self.registry.wait_until_ready)
            if await self._seen(name, image):
                self.there.append(point)
            self.client.go.set()
            async with asyncio.timeout(30):
                await pushing
        finally:
            pushing.cancel()
        self.died[point] += 1
        self.images[name] = image

    async def _seen(self, name: str, image: Image) -> bool:
        async with Stubborn.at(self.registry.port, ADA) as other:
            for known, earlier in list(self.images.items())[-2:]:
                assert await other.seen(known, "v1", earlier), f"{known} was acknowledged and is gone"
            return await other.seen(name, "v1", image)


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[World]:
    async with world(tmp_path) as made:
        yield made


async def test_a_push_that_dies_at_any_point_is_repeated_and_nothing_half_made_is_seen(
    place: World, tell: Callable[[str], None]
) -> None:
    registry = place.registry(FAULTS_AGAIN="1")
    async with serving(registry) as client:
        trial = Trial(place, registry, client)
        for point, how in POINTS:
            await trial.die_at(point, how)
        for name, image in trial.images.items():
            assert await client.seen(name, "v1", image), f"{name} was acknowledged and is gone"
        await said_is_what_is_there(trial)
        registry.kill()
        left = await after_a_while(place, registry)
    report = {"points": len(POINTS), "died": trial.died.total(), "there already": trial.there, "left": left}
    tell(json.dumps(report))
    assert trial.died == Counter(point for point, _ in POINTS)
    assert left["uploads"] == left["temporary"] == 0
    assert left["objects"] == len(trial.images) * 3, "a configuration, a layer and a manifest of each"
    assert await without_an_end(place) == []


async def said_is_what_is_there(trial: Trial) -> None:
    """Each image is announced as new once, under an id that nothing else has, and nothing else is announced."""
    wanted = {(name, image.digest) for name, image in trial.images.items()}
    end = time.monotonic() + 30
    while True:
        said = await trial.place.said("image.pushed")
        new = Counter(
            (image_named(one["data"]), one["data"]["digest"]) for one in said if not one["data"].get("unchanged")
        )
        if new.keys() == wanted:
            break
        assert time.monotonic() < end, f"{len(wanted)} pushed, {len(new)} said"
        await asyncio.sleep(0.2)
    assert set(new.values()) == {1}, new
    assert {(image_named(one["data"]), one["data"]["digest"]) for one in said} == wanted
    assert len({one["id"] for one in said}) == len(said)


async def after_a_while(place: World, registry: Twin) -> dict[str, int]:
    """How many files are left of each kind when the life of all that lies about is over."""
    for path in files_of(place.objects):
        if "objects" not in path.parts:
            old = path.stat().st_mtime - DAYS
            os.utime(path, (old, old))
    registry.settings["FAULTS_HASTE"] = "1"
    registry.start()
    await asyncio.to_thread(registry.wait_until_ready)
    await until(lambda: not counted(place)["uploads"])
    for path in files_of(place.objects / "objects"):
        assert sha256(path.read_bytes()).hexdigest() == path.name, f"{path} is not what its name says"
    return counted(place)


def counted(place: World) -> dict[str, int]:
    """Files of the bucket."""
    return {kind: len(files_of(place.objects / kind)) for kind in ("objects", "uploads", "temporary")}


async def without_an_end(place: World) -> list[str]:
    """What state keeps of uploads for ever."""
    client: Any = Redis(port=place.valkey.port)
    try:
        keys: list[str] = [key.decode() async for key in client.scan_iter(count=1000)]
        about = [key for key in keys if "vouched" in key or "cancelled" in key]
        assert about, f"nothing vouches for an upload: {keys[:20]}"
        return [key for key in about if await client.ttl(key) <= 0]
    finally:
        await client.aclose()


def image_named(data: dict[str, Any]) -> str:
    return f"demo/{data['repository']}/{data['image']}"
