"""A thousand malformed requests for every face of a running suite: no defect, no crash, no memory that stays."""

import asyncio
import importlib
import json
import os
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.http.face import ROUTES
from shared.http.routes import Route
from tests.support.fuzz import Fuzzer
from tests.support.parts import memory_parts
from tests.support.suite import SERVICES, Suite, running

pytestmark = pytest.mark.timeout(600)

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "1000"))
SEED = os.environ.get("FUZZ_SEED", "entrepot")
AT_ONCE = 32
SECONDS, PATIENCE = 2.0, 0.2
GROWTH = 64 * 1024 * 1024


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running(tmp_path_factory.mktemp("fuzzed")) as started:
        yield started


def routes_of(service: str, folder: Path) -> tuple[Route, ...]:
    """The routes of a service as it declares them."""
    made = memory_parts(service, environment={"ENTREPOT_DATA": str(folder)})
    return importlib.import_module(f"services.{service}.app").build(made.parts).app[ROUTES].routes


def process_of(suite: Suite, service: str) -> int:
    """The process of a service; the kernel keeps 15 letters of the name that it gives itself."""
    named = [
        pid for pid in suite.processes() if Path(f"/proc/{pid}/comm").read_text().strip() == f"entrepot-{service}"[:15]
    ]
    assert len(named) == 1, named
    return named[0]


def memory_of(pid: int) -> int:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found
    return int(found[1]) * 1024


async def ask(port: int, content: bytes) -> bytes:
    """Send bytes and read what comes back until the end, or until it is clear that more is waited for."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    back = b""
    try:
        writer.write(content)
        while True:
            async with asyncio.timeout(PATIENCE if back else SECONDS if is_whole(content) else PATIENCE):
                piece = await reader.read(65536)
            if not piece:
                return back
            back += piece
    except (ConnectionError, TimeoutError):
        return back
    finally:
        writer.close()


def is_whole(content: bytes) -> bool:
    """Whether an answer may be waited for: the head has an end, and a body of the length that it tells."""
    head, _, body = content.partition(b"\r\n\r\n")
    lengths = re.findall(rb"Content-Length: (\d{1,9})\r\n", head + b"\r\n")
    return b"chunked" not in head and b"\r\n\r\n" in content and lengths[:1] == [b"%d" % len(body)]


async def all_asked(port: int, contents: list[bytes]) -> list[tuple[int, bytes, bytes]]:
    """What is answered with a defect: number, request, answer."""
    turns, wrong = asyncio.Semaphore(AT_ONCE), list[tuple[int, bytes, bytes]]()

    async def one(number: int, content: bytes) -> None:
        async with turns:
            answer = await ask(port, content)
        if any(status >= b"500" for status in re.findall(rb"HTTP/1\.[01] (\d{3}) [A-Z]", answer)):
            wrong.append((number, content, answer))

    async with asyncio.TaskGroup() as group:
        for number, content in enumerate(contents):
            group.create_task(one(number, content))
    return wrong


def failures(log: str) -> Iterator[str]:
    """What a service wrote of defects: its own words, those of a library (`Error handling request`), or bare text."""
    for line in log.splitlines():
        try:
            level = json.loads(line)["level"]
        except (ValueError, KeyError):
            level = ""
        if level not in {"debug", "info", "warning"}:
            yield line


@pytest.mark.parametrize("service", SERVICES)
def test_a_thousand_malformed_requests_leave_a_face_as_it_was(service: str, house: Suite, tmp_path: Path) -> None:
    drawn = random.Random(f"{SEED} {service}")  # noqa: S311 - to be drawn again from the same seed
    fuzzer = Fuzzer(drawn, routes_of(service, tmp_path), f"Bearer {house.token()}")
    contents = [fuzzer.request() for _ in range(REQUESTS)]
    port = int(house.address(service).rpartition(":")[2])
    asyncio.run(all_asked(port, contents[:50]))  # what is remembered on purpose is so by now
    pid, log = process_of(house, service), house.data / "logs" / f"{service}.log"
    before, size = memory_of(pid), log.stat().st_size

    wrong = asyncio.run(all_asked(port, contents))

    told = "\n\n".join(
        f"request {number}: {content[:1500]!r}\nanswer: {answer[:700]!r}" for number, content, answer in wrong[:5]
    )
    assert not wrong, f"{len(wrong)} of seed {SEED!r}:\n{told}\n{log.read_text()[size:][-3000:]}"
    assert process_of(house, service) == pid
    assert house.is_ready(service)
    assert memory_of(pid) - before < GROWTH
    failed = list(failures(log.read_text()[size:]))
    assert not failed, f"{len(failed)} of seed {SEED!r}, the first:\n{failed[0][:3000]}"
    assert log.stat().st_size - size < 200_000
