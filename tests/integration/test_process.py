"""A whole process on a real Valkey and a real bus: ready, busy, killed, without its servers, stopped."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientError, ClientSession

from tests.support.bus import NatsWorld, a_nats_world
from tests.support.servers import Server, running, scratch, valkey, valkey_server

__all__ = ["valkey"]

PROGRAM = """
from aiohttp import web
from shared.events.cleanups import CleanupPlanned
from shared.http.call import call_of
from shared.http.routes import Audit, Route
from shared.names import partition_of
from shared.parts import Service
from shared.process import run
from shared.state.step import Put, Step

def build(parts):
    async def plan(request):
        call, run = call_of(request), request.match_info["run"]
        planned = CleanupPlanned(project="demo", repository="web", run=run, dry_run=True, count=0, object="o")
        events = [planned, call.activity(project="demo", request={"run": run})]
        await parts.state.apply(Step(
            partition=partition_of("demo"),
            request=call.id,
            writes=(Put(parts.keys.of("demo", "run", run), "planned"),),
            drafts=parts.outbox.drafts(events, call.cause),
        ))
        return web.json_response({"run": run})

    audited = {"method": "t.Plan", "audit": Audit.ADMIN_WRITE, "open_because": "a test"}
    return Service(parts.face([Route("POST", "/runs/{run}", plan, "", **audited)]))

run("cleanup", build)
"""


class Process:
    """The service under test."""

    def __init__(self, process: asyncio.subprocess.Process, base: str) -> None:
        self.process, self.base = process, base

    async def ready(self, client: ClientSession) -> list[str]:
        async with client.get(f"{self.base}/readyz") as answer:
            return (await answer.json())["reasons"]


@asynccontextmanager
async def process(folder: Path, environment: Mapping[str, str]) -> AsyncGenerator[Process]:
    program = folder / "program.py"
    program.write_text(PROGRAM)
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), "ENTREPOT_DATA": str(folder), **environment}
    with (folder / "log").open("ab") as log:
        started = await asyncio.create_subprocess_exec(
            sys.executable, str(program), env=given, stderr=asyncio.subprocess.PIPE, stdout=log
        )
    drain: asyncio.Task[bytes] | None = None
    try:
        assert started.stderr is not None
        async with asyncio.timeout(30):
            while (line := json.loads(await started.stderr.readline()))["event"] != "serving":
                pass
        drain = asyncio.create_task(started.stderr.read())
        yield Process(started, f"http://127.0.0.1:{line['port']}")
    finally:
        if started.returncode is None:
            started.kill()
        await started.wait()
        if drain is not None:
            await drain


@pytest.fixture
async def world() -> AsyncIterator[NatsWorld]:
    async with a_nats_world() as made:
        yield made


def _settings(world: NatsWorld, valkey: Server) -> dict[str, str]:
    return {
        "ENTREPOT_STATE_URL": f"valkey://127.0.0.1:{valkey.port}",
        "ENTREPOT_STATE_ACCEPT_LOSS": "false",
        "ENTREPOT_BUS_URL": world.url,
        "ENTREPOT_BUS_USER": "cleanup",
        "ENTREPOT_BUS_PASSWORD_FILE": str(world.passwords.path("cleanup")),
        "ENTREPOT_BUS_MONITOR": world.monitor,
    }


async def _until(ask: Any, holds: Any, seconds: float = 20.0) -> Any:
    async with asyncio.timeout(seconds):
        while not holds(found := await ask()):  # noqa: ASYNC110 - it happens in another process
            await asyncio.sleep(0.1)
    return found


async def test_what_was_answered_is_announced_also_after_a_kill(
    tmp_path: Path, world: NatsWorld, valkey: Server
) -> None:
    settings = _settings(world, valkey)
    world.passwords.of("cleanup")
    answered = 0
    async with ClientSession() as client:
        async with process(tmp_path, settings) as first:
            assert await _until(lambda: first.ready(client), lambda reasons: reasons == []) == []
            for number in range(30):
                async with client.post(f"{first.base}/runs/{number}") as answer:
                    answered += answer.status == 200
            first.process.kill()
        async with process(tmp_path, settings) as second:
            planned = await _until(lambda: world.stored("EVENTS"), lambda found: len(found) >= answered)
            assert len(planned) == answered == 30
            assert len(await _until(lambda: world.stored("AUDIT"), lambda found: len(found) >= answered)) == answered
            second.process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(30):
                assert await second.process.wait() == 0


async def test_a_state_store_that_is_away_shows_and_comes_back(
    tmp_path: Path, world: NatsWorld, valkey: Server
) -> None:
    settings = _settings(world, valkey)
    async with process(tmp_path, settings) as service, ClientSession() as client:
        await _until(lambda: service.ready(client), lambda reasons: reasons == [])
        valkey.kill()
        await _until(lambda: service.ready(client), lambda reasons: reasons == ["the state store does not answer"])
        async with client.post(f"{service.base}/runs/1") as answer:
            assert (answer.status, answer.headers["Retry-After"]) == (503, "2")
        valkey.start()
        await _until(lambda: service.ready(client), lambda reasons: reasons == [])
        async with client.post(f"{service.base}/runs/1") as answer:
            assert answer.status == 200


async def test_a_state_store_that_may_lose_data_is_refused(tmp_path: Path, world: NatsWorld) -> None:
    with scratch() as folder, running(valkey_server(folder, safe=False)) as unsafe:
        started = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            PROGRAM,
            env={
                "PATH": os.environ["PATH"],
                "PYTHONPATH": str(Path.cwd()),
                "ENTREPOT_DATA": str(tmp_path),
                **_settings(world, unsafe),
            },
            stderr=asyncio.subprocess.PIPE,
        )
        async with asyncio.timeout(30):
            _, said = await started.communicate()
    assert started.returncode == 1
    assert any(json.loads(line)["event"] == "not started" for line in said.splitlines())


async def test_a_bus_that_is_away_at_the_start_is_waited_for_without_a_false_readiness(
    tmp_path: Path, world: NatsWorld, valkey: Server
) -> None:
    settings = _settings(world, valkey)
    world.server.stop()
    async with process(tmp_path, settings) as service, ClientSession() as client:
        await asyncio.sleep(1)
        assert "has not heard everything yet" in await service.ready(client)
        async with client.post(f"{service.base}/runs/1") as answer:
            assert answer.status == 503
        world.server.start()
        await _until(lambda: service.ready(client), lambda reasons: reasons == [])
        async with client.post(f"{service.base}/runs/1") as answer:
            assert answer.status == 200
        await _until(lambda: world.stored("EVENTS"), lambda found: len(found) == 1)


@pytest.mark.parametrize("signal_", [signal.SIGTERM, signal.SIGINT])
async def test_a_stop_ends_the_process_and_its_port(
    tmp_path: Path, world: NatsWorld, valkey: Server, signal_: signal.Signals
) -> None:
    async with process(tmp_path, _settings(world, valkey)) as service, ClientSession() as client:
        await _until(lambda: service.ready(client), lambda reasons: reasons == [])
        service.process.send_signal(signal_)
        async with asyncio.timeout(30):
            assert await service.process.wait() == 0
        with pytest.raises(ClientError):
            await client.get(f"{service.base}/healthz")
