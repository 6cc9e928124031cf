"""Several registries behind one port of a suite: both take part, one may die, and nothing acknowledged goes with it."""

import asyncio
import json
import os
import re
import signal
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest

from tests.performance.cpu import listeners
from tests.performance.load import Connection, must, path_of, push_blob, push_manifest
from tests.support.images import CONFIG, MANIFEST, descriptor, digest_of
from tests.support.suite import Suite, running

pytestmark = pytest.mark.timeout(240)

WORKERS = (7, 8)
"""Where the launcher puts the workers' own ports, counted from the suite's base."""
CLIENTS = 12


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """Not the shared suite: the launcher is what is tried, and is killed in the end."""
    with running(tmp_path_factory.mktemp("workers"), "--workers", "2") as started:
        yield started


@dataclass
class Load:
    """Clients that push and read on connections of their own."""

    house: Suite
    token: str
    done: asyncio.Event = field(default_factory=asyncio.Event)
    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    """Digest by tag."""
    stale: list[str] = field(default_factory=list[str])

    def connection(self, port: int = 0) -> Connection:
        """A new one."""
        return Connection(port or self.house.base, {"Authorization": f"Bearer {self.token}", "Accept": MANIFEST})

    async def client(self, number: int) -> None:
        """Push tag after tag, each read at once over another connection."""
        writer, reader = self.connection(), self.connection()
        for turn in range(10_000):
            if self.done.is_set():
                break
            tag = f"c{number}-{turn}"
            try:
                await self._push_and_read(writer, reader, tag)
            except (OSError, asyncio.IncompleteReadError):
                # Its worker died. What was asked may have been done or not; a new connection finds one that lives.
                writer.drop()
                reader.drop()
        await writer.close()
        await reader.close()

    async def _push_and_read(self, writer: Connection, reader: Connection, tag: str) -> None:
        config = tag.encode()
        await push_blob(writer, "demo/workers/app", config)
        manifest = manifest_of(config)
        await push_manifest(writer, "demo/workers/app", tag, manifest, MANIFEST)
        self.acknowledged[tag] = digest_of(manifest)
        found = await reader.call("GET", f"/v2/demo/workers/app/manifests/{tag}")
        if found.body != manifest:
            self.stale.append(f"{tag}: {found.status}")

    async def missing(self, port: int) -> list[str]:
        """What was acknowledged and is not there, asked of one worker."""
        connection, missing = self.connection(port), list[str]()
        for tag, digest in self.acknowledged.items():
            found = await connection.call("HEAD", f"/v2/demo/workers/app/manifests/{tag}")
            if found.headers.get("docker-content-digest") != digest:
                missing.append(f"{tag}: {found.status}")
        await connection.close()
        return missing


def manifest_of(config: bytes) -> bytes:
    return json.dumps(
        {"schemaVersion": 2, "mediaType": MANIFEST, "config": descriptor(CONFIG, config), "layers": []}
    ).encode()


def answered(house: Suite, worker: int) -> int:
    """How many calls a worker has counted."""
    with urllib.request.urlopen(f"http://127.0.0.1:{house.base + worker}/metrics", timeout=10) as answer:
        counts = re.findall(r"^entrepot_http_seconds_count{.*} (\S+)$", answer.read().decode(), re.MULTILINE)
    return sum(int(float(count)) for count in counts)


def worker_process(house: Suite, worker: int) -> int:
    (process,) = listeners(house.base + worker)
    return process


def test_status_tells_of_each_worker(house: Suite) -> None:
    said = json.loads(house.entrepot("status", "--format", "json").stdout)["services"]["registry"]

    workers = [{"address": f"http://127.0.0.1:{house.base + worker}", "ready": True} for worker in WORKERS]
    assert said == {"address": house.address("registry"), "ready": True, "workers": workers}


async def test_all_workers_take_part_and_what_one_acknowledged_each_has(house: Suite) -> None:
    load = Load(house, house.token())
    clients = [asyncio.create_task(load.client(number)) for number in range(CLIENTS)]
    await asyncio.to_thread(wait_for_answers, house, 40)
    load.done.set()
    await asyncio.gather(*clients)

    assert load.stale == []
    for worker in WORKERS:
        assert await load.missing(house.base + worker) == []


async def test_a_worker_is_killed_under_load_and_nothing_acknowledged_is_lost(house: Suite) -> None:
    load = Load(house, house.token())
    doomed = worker_process(house, WORKERS[1])
    upload, content = load.connection(house.base + WORKERS[1]), b"half of it, and the other half"
    begun = await upload.call("POST", "/v2/demo/workers/app/blobs/uploads/")
    must(begun, 202)
    half = await upload.call("PATCH", path_of(begun.headers["location"]), content[:10])
    must(half, 202)
    clients = [asyncio.create_task(load.client(number + 100)) for number in range(CLIENTS)]
    await asyncio.sleep(2)
    os.kill(doomed, signal.SIGKILL)
    upload.drop()

    elsewhere = load.connection(house.base + WORKERS[0])
    place = f"{path_of(half.headers['location'])}&digest={digest_of(content)}"
    must(await elsewhere.call("PUT", place, content[10:]), 201)
    await asyncio.to_thread(wait_for_another, house, WORKERS[1], doomed)
    await asyncio.sleep(1)
    load.done.set()
    await asyncio.gather(*clients)

    assert len(load.acknowledged) > CLIENTS
    assert load.stale == []
    for worker in WORKERS:
        assert await load.missing(house.base + worker) == []
    found = await elsewhere.call("GET", f"/v2/demo/workers/app/blobs/{digest_of(content)}")
    assert found.body == content
    await elsewhere.close()
    assert "registry-1 ended (signal SIGKILL); starting it again" in house.said()


def wait_for_answers(house: Suite, least: int) -> None:
    """Until each worker has answered so many calls."""
    until, counts = time.monotonic() + 30, list[int]()
    while time.monotonic() < until:
        counts = [answered(house, worker) for worker in WORKERS]
        if min(counts) >= least:
            return
        time.sleep(0.2)
    raise AssertionError(f"the workers answered {counts} calls")


def wait_for_another(house: Suite, worker: int, dead: int) -> None:
    """Until a worker that died was started anew, and is ready."""
    until = time.monotonic() + 60
    while time.monotonic() < until:
        try:
            address = f"http://127.0.0.1:{house.base + worker}/readyz"
            with urllib.request.urlopen(address, timeout=2) as answer:
                if answer.status == 200 and worker_process(house, worker) != dead:
                    return
        except (OSError, LookupError):
            time.sleep(0.1)
    raise AssertionError(f"worker {worker} did not come back: {house.said()}")


def test_nothing_is_left_when_the_launcher_is_killed(house: Suite) -> None:
    house.kill()

    assert house.wait_until_gone() == {}
