"""Real services that start before their servers, and what they leave in their logs: every line is ours."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession

from tests.support.bus import NatsWorld, a_nats_world
from tests.support.servers import Server, valkey

__all__ = ["valkey"]


@dataclass
class Running:
    """A service and all that it has said, on both of its outputs."""

    process: asyncio.subprocess.Process
    client: ClientSession
    said: list[bytes] = field(default_factory=list[bytes])

    def lines(self) -> list[dict[str, Any]]:
        """Fails where a line is no JSON object of our telemetry."""
        found = [json.loads(line) for line in self.said]
        assert all({"event", "level", "timestamp", "service"} <= set(line) for line in found)
        return found

    async def get(self, path: str) -> tuple[int, Any]:
        (port,) = {line["port"] for line in self.lines() if line["event"] == "listening"}
        async with self.client.get(f"http://127.0.0.1:{port}{path}") as answer:
            return answer.status, await answer.json()

    async def until(self, holds: Callable[[], object], seconds: float = 30.0) -> None:
        async with asyncio.timeout(seconds):
            while not holds():  # noqa: ASYNC110 - it happens in another process
                await asyncio.sleep(0.05)

    async def until_reasons(self, *reasons: str) -> None:
        async with asyncio.timeout(30):
            while (await self.get("/readyz"))[1]["reasons"][: len(reasons) or None] != list(reasons):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.05)

    def has_said(self, event: str) -> bool:
        return any(line["event"] == event for line in self.lines())

    async def stopped(self, seconds: float = 15.0) -> int:
        self.process.send_signal(signal.SIGTERM)
        async with asyncio.timeout(seconds):
            return await self.process.wait()

    async def listen(self) -> None:
        async def hear(stream: asyncio.StreamReader | None) -> None:
            assert stream is not None
            async for line in stream:
                self.said.append(line)

        await asyncio.gather(hear(self.process.stdout), hear(self.process.stderr))


@asynccontextmanager
async def service(name: str, settings: Mapping[str, str]) -> AsyncGenerator[Running]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", f"services.{name}"),
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), **settings},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with ClientSession() as client:
        made = Running(process, client)
        listening = asyncio.create_task(made.listen())
        try:
            await made.until(lambda: made.has_said("listening"))
            yield made
        finally:
            if process.returncode is None:
                process.kill()
            await process.wait()
            await listening


@pytest.fixture
async def world() -> AsyncIterator[NatsWorld]:
    async with a_nats_world() as made:
        yield made


def settings_of(name: str, world: NatsWorld, valkey: Server, folder: Path) -> dict[str, str]:
    world.passwords.of(name)
    return {
        "ENTREPOT_DATA": str(folder),
        "ENTREPOT_STATE_URL": f"valkey://127.0.0.1:{valkey.port}",
        "ENTREPOT_BUS_URL": world.url,
        "ENTREPOT_BUS_USER": name,
        "ENTREPOT_BUS_PASSWORD_FILE": str(world.passwords.path(name)),
        "ENTREPOT_BUS_MONITOR": world.monitor,
        "ENTREPOT_STOP_SECONDS": "5",
    }


async def test_a_service_that_starts_before_its_state_store_waits_and_says_so(
    tmp_path: Path, world: NatsWorld, valkey: Server
) -> None:
    valkey.stop()
    async with service("cleanup", settings_of("cleanup", world, valkey, tmp_path)) as cleanup:
        # Longer than one question to the store may take.
        await cleanup.until(lambda: cleanup.has_said("start waits"))
        assert await cleanup.get("/healthz") == (200, {"alive": True})
        status, told = await cleanup.get("/readyz")
        assert (status, told["reasons"][:2]) == (503, ["is starting", "the state store does not answer"])
        assert (await cleanup.get("/v1/projects/demo/locations/local/repositories/web/cleanupRuns"))[0] == 503
        assert cleanup.process.returncode is None
        valkey.start()
        await cleanup.until_reasons()
        assert await cleanup.stopped() == 0
        cleanup.lines()


async def test_a_service_that_starts_before_its_bus_waits_and_says_so(
    tmp_path: Path, world: NatsWorld, valkey: Server
) -> None:
    world.server.stop()
    async with service("cleanup", settings_of("cleanup", world, valkey, tmp_path)) as cleanup:
        await cleanup.until_reasons("has not heard everything yet", "the bus does not answer")
        assert (await cleanup.get("/healthz"))[0] == 200
        world.server.start()
        await cleanup.until_reasons()
        assert await cleanup.stopped() == 0
        cleanup.lines()


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
async def test_who_waits_for_a_server_still_obeys(
    tmp_path: Path, world: NatsWorld, valkey: Server, signal_: signal.Signals
) -> None:
    valkey.stop()
    world.server.stop()
    async with service("cleanup", settings_of("cleanup", world, valkey, tmp_path)) as cleanup:
        await asyncio.sleep(0.5)
        cleanup.process.send_signal(signal_)
        async with asyncio.timeout(8):
            assert await cleanup.process.wait() == 0
        assert not cleanup.has_said("serving")


@pytest.mark.parametrize(
    ("name", "bus"), [("registry", "there"), ("scanner", "there"), ("cleanup", "gone"), ("cleanup", "came back")]
)
async def test_every_line_of_a_service_s_log_is_ours(
    tmp_path: Path, world: NatsWorld, valkey: Server, name: str, bus: str
) -> None:
    async with service(name, settings_of(name, world, valkey, tmp_path)) as running:
        await running.until_reasons()
        await asyncio.sleep(1)
        if bus != "there":
            world.server.kill()
            await asyncio.sleep(2)
        if bus == "came back":
            world.server.start()
            await asyncio.sleep(3)
        await running.stopped(seconds=40)
    assert running.has_said("stopping")
    assert not any(b"\x1b" in line for line in running.said)
