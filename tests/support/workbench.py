"""A builder on memory parts with a registry on loopback, and what tests of whole builds ask of them."""

import asyncio
import contextlib
import dataclasses
import functools
import shutil
import sys
import sysconfig
import time
from collections.abc import AsyncGenerator, Mapping
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestServer

from services.builder.app import build
from services.builder.record import ENDED
from shared.bus.broker import MemoryBroker
from shared.bus.memory import MemoryBus
from shared.clock import SystemClock, in_a_thread
from shared.outbox import Outbox
from shared.relay import Relay
from shared.state.memory import MemoryState
from tests.support.images import Image, ReadOnlyRegistry, image_of, layer_of
from tests.support.parts import Client, MemoryParts, bearer, client_of, memory_parts
from tests.support.standins import linked

ADA = "user:ada@example.org"
BUSYBOX = shutil.which("busybox")
PROGRAMS = (
    "sh",
    "echo",
    "cat",
    "sleep",
    "id",
    "ls",
    "touch",
    "env",
    "mount",
    "true",
    "false",
    "ps",
    "wget",
    "mkdir",
    "mknod",
    "unshare",
)

BUSYBOX_IMAGE: tuple[str, str] = ("demo/tools/busybox", "1")

NEEDED = [
    pytest.mark.skipif(BUSYBOX is None, reason="busybox is not installed (package busybox-static)"),
    pytest.mark.skipif(
        not (shutil.which("crun") or shutil.which("runc") or shutil.which("runc", path="/usr/sbin")),
        reason="neither crun nor runc is installed",
    ),
]


def busybox() -> Image:
    """A busybox image of two layers; the second removes a file of the first."""
    assert BUSYBOX is not None
    first = layer_of(
        {"bin/busybox": Path(BUSYBOX).read_bytes(), "etc/gone": b"no", "etc/kept": b"yes"},
        {f"bin/{name}": "busybox" for name in PROGRAMS},
    )
    second = layer_of({"etc/.wh.gone": b"", "etc/added": b"new"})
    return image_of([first, second], {"Env": ["PATH=/bin", "FROM_IMAGE=1"], "Entrypoint": ["/bin/sh", "-c"]})


@functools.cache
def python() -> Image:
    """An image of the Python that runs the tests: enough of it to try system calls."""
    library = Path(sysconfig.get_path("stdlib", vars={"base": sys.base_prefix, "installed_base": sys.base_prefix}))
    program = Path(sys.executable).resolve()
    modules = ("_ctypes", "_socket", "_struct", "array", "fcntl", "math", "select", "time")
    built = [path for name in modules for path in (library / "lib-dynload").glob(f"{name}.*.so")]
    wanted = [*library.glob("*.py"), *built]
    for package in ("collections", "ctypes", "encodings", "importlib", "re"):
        wanted += (library / package).glob("*.py")
    files = {str(path).lstrip("/"): path.read_bytes() for path in wanted}
    files[str(program).lstrip("/")] = program.read_bytes()
    files |= {str(path).lstrip("/"): path.resolve().read_bytes() for path in linked([program, *built])}
    return image_of([layer_of(files, {"bin/python": str(program)})], {"Entrypoint": ["/bin/python", "-I", "-S", "-c"]})


class Workbench:
    """A builder on memory parts, a registry, and what a test asks of them."""

    def __init__(self, made: MemoryParts, client: Client, folder: Path, host: str, registry: ReadOnlyRegistry) -> None:
        self.made = made
        self.client = client
        self.folder = folder
        self.registry = registry
        self.host = host
        self.image = f"{self.host}/demo/tools/busybox:1"

    async def submit(self, **asked: Any) -> dict[str, Any]:
        answer = await self.client.post("/v1/projects/demo/builds", json=asked, headers=bearer(ADA))
        assert answer.status == 200, await answer.text()
        return (await answer.json())["metadata"]["build"]

    async def run(self, **asked: Any) -> dict[str, Any]:
        return await self.ended((await self.submit(**asked))["id"])

    async def get(self, build_id: str) -> dict[str, Any]:
        answer = await self.client.get(f"/v1/projects/demo/builds/{build_id}", headers=bearer(ADA))
        return await answer.json()

    async def ended(self, build_id: str) -> dict[str, Any]:
        until = time.monotonic() + 60
        while (found := await self.get(build_id))["status"] not in ENDED:
            assert time.monotonic() < until, f"no end in sight: {found}"
            await asyncio.sleep(0.05)
        return found

    async def log(self, build_id: str) -> str:
        answer = await self.client.get(f"/v1/projects/demo/builds/{build_id}:log", headers=bearer(ADA))
        return await answer.text()


@contextlib.asynccontextmanager
async def opened(folder: Path, images: Mapping[tuple[str, str], Image], **settings: str) -> AsyncGenerator[Workbench]:
    """A workbench whose builder has these settings; the images are in its registry."""
    registry = ReadOnlyRegistry(dict(images))
    async with TestServer(registry.app(), host="127.0.0.1") as server:
        url = server.make_url("/")
        host = f"{url.host}:{url.port}"
        environment = {
            "ENTREPOT_BUILDER_FOLDER": str(folder),
            "ENTREPOT_BUILDER_REGISTRY": host,
            **{f"ENTREPOT_BUILDER_{name.upper()}": value for name, value in settings.items()},
        }
        permissions = [f"cloudbuild.builds.{verb}" for verb in ("create", "get", "list", "update")]
        made = _on_real_time(
            memory_parts("builder", grants={"projects/demo": {ADA: permissions}}, environment=environment)
        )
        service = build(made.parts)
        relay = Relay(made.parts.state, made.parts.bus.publisher, made.parts.clock, made.parts.ids)
        relaying = asyncio.create_task(relay.run())
        async with client_of(service, made.parts) as client:
            yield Workbench(made, client, folder, host, registry)
            for _ in range(400):
                if _put_away(folder / "builds"):
                    break
                await asyncio.sleep(0.05)
        relaying.cancel()
        await asyncio.gather(relaying, return_exceptions=True)


def _put_away(builds: Path) -> bool:
    """Whether the worker has put away what builds left, which it does for a cancelled one after its end."""
    return not builds.exists() or not any(builds.iterdir())


def _on_real_time(made: MemoryParts) -> MemoryParts:
    clock = SystemClock()
    broker = MemoryBroker(clock)
    parts = dataclasses.replace(
        made.parts,
        clock=clock,
        cpu=in_a_thread,
        state=MemoryState("builder", clock.monotonic, made.store),
        bus=MemoryBus("builder", clock, broker),
        outbox=Outbox("builder", clock),
    )
    return dataclasses.replace(made, parts=parts, broker=broker)
