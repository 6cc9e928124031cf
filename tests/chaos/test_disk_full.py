"""A disk that is full: of the bucket, of the state store, of the bus. What clients are told, and that all goes on.

Each lies on a small file system of its own, which is made smaller and larger again under the running process.
"""

import asyncio
import json
import os
import subprocess
import time
from collections.abc import AsyncIterator, Callable, Generator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from tests.performance.load import path_of
from tests.support.images import MANIFEST, Image, digest_of
from tests.support.lone_registry import World, files_of, fresh_image, serving, world
from tests.support.stubborn import Stubborn

MIB = 1024 * 1024
NAME = "demo/full/app"
_BYTES = {"Content-Type": "application/octet-stream"}


@dataclass(frozen=True)
class Disk:
    """A file system in memory whose size can be changed."""

    folder: Path

    def fill(self, left: int = 0) -> None:
        """Make it so small that only so many bytes are left; what is written meanwhile makes that be refused."""
        for _ in range(20):
            found = os.statvfs(self.folder)
            with suppress(subprocess.CalledProcessError):
                return self._resize((found.f_blocks - found.f_bfree) * found.f_frsize + left)
        raise AssertionError("the disk is written to all the time")

    def empty(self) -> None:
        """Let there be room again."""
        self._resize(2**32)

    def _resize(self, size: int) -> None:
        _mount("-o", f"remount,size={max(size, 4096)}", str(self.folder))


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True, capture_output=True, timeout=20)


@contextmanager
def disk(folder: Path) -> Generator[Disk]:
    """Mounted, and gone in the end."""
    folder.mkdir()
    try:
        _mount("-t", "tmpfs", "-o", "size=4g", "tmpfs", str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no file system may be mounted here")
    try:
        yield Disk(folder)
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True, timeout=20)


@pytest.fixture
def small(tmp_path: Path) -> Generator[Disk]:
    with disk(tmp_path / "disk") as made:
        yield made


@pytest.fixture
async def full_bucket(tmp_path: Path, small: Disk) -> AsyncIterator[World]:
    bucket = {"BUCKET": "directory", "BUCKET_DIRECTORY": str(small.folder / "bucket")}
    async with world(tmp_path / "world", bucket=bucket) as made:
        yield made


def room_is_missing(body: bytes) -> bool:
    told = orjson.loads(body)["errors"][0]
    return told["code"] == "UNAVAILABLE" and "no room" in told["message"]


async def test_a_bucket_without_room_says_so_keeps_nothing_of_what_it_refused_and_goes_on(
    full_bucket: World, small: Disk, tell: Callable[[str], None]
) -> None:
    before, image, refused = fresh_image(MIB), fresh_image(6 * MIB), 0
    layer = list(image.blobs.values())[1]
    async with serving(full_bucket.registry()) as client:
        await client.push(NAME, "before", before)
        small.fill(left=3 * MIB)
        taken = used(small)
        for _ in range(5):
            upload = path_of((await client.ask("POST", f"/v2/{NAME}/blobs/uploads/")).headers["location"])
            chunk = await client.once("PATCH", upload, layer, _BYTES)
            whole = await client.once("PUT", f"{upload}&digest={digest_of(layer)}", layer, _BYTES)
            for answer in (chunk, whole):
                assert answer.status == 503, answer
                assert room_is_missing(answer.body), answer.body
                refused += 1
        assert used(small) - taken < 64 * 1024, "attempts that were refused take room"
        assert (await client.once("HEAD", f"/v2/{NAME}/blobs/{digest_of(layer)}")).status == 404

        small.fill()
        manifest = fresh_image().manifest
        answer = await client.once("PUT", f"/v2/{NAME}/manifests/x", before.manifest + b" ", {"Content-Type": MANIFEST})
        assert answer.status == 503, answer
        assert room_is_missing(answer.body), answer.body
        assert await client.seen(NAME, "before", before), "what is there is read while there is no room"
        assert (await client.once("DELETE", f"/v2/{NAME}/manifests/before")).status == 202, manifest

        stuck = asyncio.create_task(client.push(NAME, "after", image))
        await asyncio.sleep(1)
        assert not stuck.done()
        small.empty()
        async with asyncio.timeout(30):
            await stuck
        assert await client.seen(NAME, "after", image)
        lying = files_of(full_bucket.objects / "temporary")
        tell(json.dumps({"refused": refused, "retried": client.refusals, "left": len(lying)}))
        assert lying == []


def used(small: Disk) -> int:
    found = os.statvfs(small.folder)
    return (found.f_blocks - found.f_bfree) * found.f_frsize


@pytest.fixture
async def full_state(tmp_path: Path, small: Disk) -> AsyncIterator[World]:
    async with world(tmp_path / "world", valkey_folder=small.folder / "valkey") as made:
        yield made


async def test_a_state_store_whose_disk_is_full_costs_time_and_no_push_that_was_acknowledged(
    full_state: World, small: Disk, tell: Callable[[str], None]
) -> None:
    images = [fresh_image() for _ in range(40)]
    async with serving(full_state.registry()) as client:
        for number, image in enumerate(images[:10]):
            await client.push(NAME, f"v{number}", image)
        small.fill()
        done = 10 + await pushed_until_refused(client, images[10:])
        assert done < len(images), "the store took what it had no room for"
        # One that cannot write what it is about to answer ends rather than answers: somebody starts it again.
        small.empty()
        full_state.valkey.stop()
        full_state.valkey.start()
        for number, image in enumerate(images[done:], done):
            await client.push(NAME, f"v{number}", image)
        for number, image in enumerate(images):
            assert await client.seen(NAME, f"v{number}", image)
        await all_are_said(full_state, len(images))
        tell(json.dumps({"pushed before it was seen": done - 10, "retried": client.refusals}))
        assert client.refusals["503"] >= 1


async def pushed_until_refused(client: Stubborn, images: list[Image]) -> int:
    """How many of them were acknowledged before one was refused, in such a way that clients come back."""
    for number, image in enumerate(images):
        for content in image.blobs.values():
            answer = await client.once("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest_of(content)}", content)
            if answer.status != 201:
                assert answer.status == 503, answer
                return number
        path = f"/v2/{NAME}/manifests/v{number + 10}"
        answer = await client.once("PUT", path, image.manifest, {"Content-Type": MANIFEST})
        if answer.status != 201:
            assert answer.status == 503, answer
            return number
    return len(images)


async def all_are_said(made: World, count: int) -> None:
    """Wait until so many images are announced as new, each once."""
    end = time.monotonic() + 40
    while True:
        said = [one for one in await made.said("image.pushed") if not one["data"].get("unchanged")]
        if len({one["data"]["digest"] for one in said}) == count:
            assert len({one["id"] for one in said}) == len(said) == count
            return
        assert time.monotonic() < end, f"{len(said)} of {count} were announced"
        await asyncio.sleep(0.2)


@pytest.fixture
async def full_bus(tmp_path: Path, small: Disk) -> AsyncIterator[World]:
    async with world(tmp_path / "world", nats_folder=small.folder / "nats") as made:
        yield made


async def test_a_bus_whose_disk_is_full_hinders_no_push_and_hears_everything_later(
    full_bus: World, small: Disk, tell: Callable[[str], None]
) -> None:
    images = [fresh_image() for _ in range(60)]
    async with serving(full_bus.registry()) as client:
        await client.push(NAME, "v0", images[0])
        await all_are_said(full_bus, 1)
        small.fill()
        for number, image in enumerate(images[1:], 1):
            await client.push(NAME, f"v{number}", image)
        assert not client.refusals, "a push waits for no bus"
        small.empty()
        full_bus.nats.server.stop()
        full_bus.nats.server.start()
        await all_are_said(full_bus, len(images))
        tell(json.dumps({"pushed while the bus was full": len(images) - 1}))
