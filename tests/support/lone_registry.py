"""A registry on real servers of its own: Valkey, NATS and a bucket, each of which may be hindered or killed."""

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from shared.bus.tail import Tail
from tests.support.bus import NatsWorld, bounded, nats_world
from tests.support.faulty_registry import deaths_of
from tests.support.images import CONFIG, LAYER, MANIFEST, Image, descriptor, digest_of
from tests.support.ports import free_port
from tests.support.registry import ADA
from tests.support.servers import Server, WheelMissing, running, valkey_server
from tests.support.stubborn import Stubborn
from tests.support.twins import Twin


@dataclass
class World:
    """What registries run on."""

    folder: Path
    valkey: Server
    nats: NatsWorld
    bucket: Mapping[str, str]
    """Settings of it."""
    faults: Path = field(init=False)
    """The file that names the point at which to die."""

    def __post_init__(self) -> None:
        self.faults = self.folder / "faults"
        self.faults.touch()

    @property
    def objects(self) -> Path:
        """The bucket's folder, where it is one."""
        return Path(self.bucket["BUCKET_DIRECTORY"])

    def registry(self, name: str = "one", **more: str) -> Twin:
        """A registry that is not started yet; `more` is added to its environment as it stands."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        key = self.folder / "upload-key"
        if not key.exists():
            key.touch(mode=0o600)
            key.write_text("of all replicas")
        own = {"ENTREPOT_REGISTRY_CREATE_ON_PUSH": "true", "ENTREPOT_REGISTRY_UPLOAD_KEY_FILE": str(key)}
        told = {**self._told("registry", name, folder), **own, "FAULTS": str(self.faults), **more}
        return Twin("registry", told, folder / "log", "tests.support.faulty_registry")

    def beside(self, service: str) -> Twin:
        """Another service on the same servers and the same bucket, not started yet."""
        folder = self.folder / service
        folder.mkdir(exist_ok=True)
        return Twin(service, self._told(service, "0", folder), folder / "log")

    def _told(self, service: str, replica: str, folder: Path) -> dict[str, str]:
        self.nats.passwords.of(service)
        settings = {
            "PORT": str(free_port()),
            "REPLICA": replica,
            "DATA": str(folder),
            "STATE_URL": f"valkey://127.0.0.1:{self.valkey.port}",
            "BUS_URL": self.nats.url,
            "BUS_USER": service,
            "BUS_PASSWORD_FILE": str(self.nats.passwords.path(service)),
            "BUS_MONITOR": self.nats.monitor,
            "STOP_SECONDS": "5",
            **self.bucket,
        }
        return {f"ENTREPOT_{name}": text for name, text in settings.items()}

    async def said(self, topic: str, stream: str = "EVENTS") -> list[dict[str, Any]]:
        """Everything that the bus keeps of a topic."""
        tail = Tail(self.nats.address("operator"), asyncio.sleep)
        try:
            return [orjson.loads(one.content) async for one in tail.follow(stream, f"{topic}.>", 0, endless=False)]
        finally:
            await tail.close()


@asynccontextmanager
async def world(
    folder: Path,
    *,
    valkey_folder: Path | None = None,
    nats_folder: Path | None = None,
    bucket: Mapping[str, str] | None = None,
) -> AsyncGenerator[World]:
    """Servers that run; everything is stopped in the end, whatever happened."""
    for place in (folder, valkey_folder, nats_folder):
        if place is not None:
            place.mkdir(exist_ok=True, parents=True)
    try:
        valkey, nats = valkey_server(valkey_folder or folder), nats_world(nats_folder or folder)
    except WheelMissing as missing:
        pytest.skip(f"wheel missing: {missing}")
    bucket = bucket or {"BUCKET": "directory", "BUCKET_DIRECTORY": str(folder / "bucket")}
    with running(valkey), running(nats.server):
        await nats.provision()
        try:
            yield World(folder, valkey, nats, bucket)
        finally:
            with contextlib.suppress(Exception):
                await bounded(nats.close())


@asynccontextmanager
async def serving(registry: Twin) -> AsyncGenerator[Stubborn]:
    """The registry, started, and a client of it; it is ended in the end, however often it was started meanwhile."""
    registry.start()
    try:
        await asyncio.to_thread(registry.wait_until_ready)
        async with Stubborn.at(registry.port, ADA) as client:
            yield client
    finally:
        if registry.process is not None and registry.process.poll() is None:
            registry.kill()


async def died(place: World, times: int, point: str) -> None:
    """Wait until a registry that is started again each time (`FAULTS_AGAIN`) has killed itself so often."""
    deaths = deaths_of(place.faults)
    end = time.monotonic() + 40
    while not deaths.exists() or len(deaths.read_text().splitlines()) < times:
        assert time.monotonic() < end, f"it never came to: {point}"
        await asyncio.sleep(0.005)
    assert set(deaths.read_text().split()) == {str(-signal.SIGKILL)}, "it ended otherwise than by being killed"


async def restarted(registry: Twin) -> None:
    """Started again, once it is dead."""
    assert registry.process is not None
    await asyncio.to_thread(registry.process.wait, 30)
    registry.start()
    await asyncio.to_thread(registry.wait_until_ready)


def fresh_image(size: int = 0) -> Image:
    """An image unlike all others, with a layer of that size beside its configuration; 0: without."""
    config = orjson.dumps({"name": os.urandom(8).hex()})
    layers = [os.urandom(size)] if size else []
    told = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": descriptor(CONFIG, config),
        "layers": [descriptor(LAYER, layer) for layer in layers],
    }
    return Image(orjson.dumps(told), {digest_of(content): content for content in (config, *layers)})


def files_of(folder: Path) -> list[Path]:
    """All files, however deep."""
    return sorted(Path(where) / name for where, _, names in os.walk(folder) for name in names)
