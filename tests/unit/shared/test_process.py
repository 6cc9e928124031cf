"""A process from its start to its end, with memory behind every face."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import ClientSession

PROGRAM = """
import asyncio
from aiohttp import web
from shared.http.bodies import json_body
from shared.http.routes import Audit, Route
from shared.parts import Parts, Service
from shared.process import run

async def slow(request):
    await asyncio.sleep(0.7)
    return web.json_response({"finished": True})

async def dies():
    await asyncio.sleep(0.2)
    raise RuntimeError("worn out")

async def closed():
    print("closed", flush=True)

def build(parts):
    routes = [Route("GET", "/slow", slow, "", open_because="a test", audit=Audit.NONE)]
    background = [dies] if parts.environment.get("DIES") else []
    ready = list if not parts.environment.get("UNREADY") else lambda: ["not in the mood"]
    return Service(parts.face(routes), background=background, on_stop=[closed], ready=ready)

run("tiny", build)
"""


class Tiny:
    """The process under test."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.log: list[dict[str, object]] = []

    async def said(self, event: str) -> dict[str, object]:
        """The next log line of that event; logs that are none fail here."""
        assert self.process.stderr is not None
        async with asyncio.timeout(20):
            while line := await self.process.stderr.readline():
                self.log.append(json.loads(line))
                if self.log[-1]["event"] == event:
                    return self.log[-1]
        raise AssertionError(f"never said {event}: {self.log}")

    async def ended(self) -> int:
        async with asyncio.timeout(20):
            return await self.process.wait()


@asynccontextmanager
async def tiny(folder: Path, environment: Mapping[str, str], pass_fds: tuple[int, ...] = ()) -> AsyncGenerator[Tiny]:
    program = folder / "tiny.py"
    program.write_text(PROGRAM)
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path.cwd()), "ENTREPOT_DATA": str(folder), **environment}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(program),
        env=given,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        pass_fds=pass_fds,
    )
    try:
        yield Tiny(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


@pytest.mark.parametrize("loop", ["uvloop", "asyncio"])
async def test_calls_under_way_are_finished_after_sigterm(tmp_path: Path, loop: str) -> None:
    async with tiny(tmp_path, {"ENTREPOT_LOOP": loop}) as service, ClientSession() as client:
        serving = await service.said("serving")
        base = f"http://127.0.0.1:{serving['port']}"
        async with client.get(f"{base}/readyz") as ready:
            assert await ready.json() == {"ready": True, "reasons": []}
        call = asyncio.create_task(client.get(f"{base}/slow"))
        await asyncio.sleep(0.2)
        service.process.send_signal(signal.SIGTERM)
        async with await call as answer:
            assert await answer.json() == {"finished": True}
        assert await service.ended() == 0
        assert service.process.stdout is not None
        assert await service.process.stdout.read() == b"closed\n"


async def test_a_loop_that_dies_takes_the_process_down_with_its_error(tmp_path: Path) -> None:
    async with tiny(tmp_path, {"DIES": "1"}) as service:
        died = await service.said("part died")
        assert died["part"] == "dies"
        assert "worn out" in str(died["exception"])
        assert await service.ended() == 1


async def test_the_end_of_the_parent_is_noticed(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    async with tiny(tmp_path, {"ENTREPOT_PARENT_FD": str(reading)}, (reading,)) as service:
        os.close(reading)
        await service.said("serving")
        os.close(writing)
        stopping = await service.said("stopping")
        assert stopping["reason"] == "parent gone"
        assert await service.ended() == 0


async def test_a_service_says_why_it_is_not_ready(tmp_path: Path) -> None:
    async with tiny(tmp_path, {"UNREADY": "1"}) as service, ClientSession() as client:
        serving = await service.said("serving")
        async with client.get(f"http://127.0.0.1:{serving['port']}/readyz") as answer:
            assert answer.status == 503
            assert await answer.json() == {"ready": False, "reasons": ["not in the mood"]}
        async with client.get(f"http://127.0.0.1:{serving['port']}/metrics") as answer:
            assert "entrepot_outbox_oldest_seconds" in await answer.text()


async def test_a_wrong_setting_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    async with tiny(tmp_path, {"ENTREPOT_PORT": "ninety"}) as service:
        assert service.process.stderr is not None
        said = (await service.process.stderr.read()).decode()
        assert said.startswith("tiny: ENTREPOT_PORT: ")
        assert "ninety" not in said
        assert await service.ended() == 78


async def test_a_port_that_is_taken_is_an_error_and_not_a_wait(tmp_path: Path) -> None:
    async with tiny(tmp_path, {}) as first:
        port = str((await first.said("serving"))["port"])
        async with tiny(tmp_path, {"ENTREPOT_PORT": port}) as second:
            assert "address already in use" in str((await second.said("not started"))["reason"])
            assert await second.ended() == 1
