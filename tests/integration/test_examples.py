"""The subscribers in `examples/`, run as their readers run them, against an outside account."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from shared.bus import Message
from shared.events.images import ImageDeleted, ImageUntagged
from tests.support.bus import NatsWorld, a_nats_world
from tests.support.events import said

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
async def bus() -> AsyncIterator[NatsWorld]:
    async with a_nats_world() as made:
        await made.bus("registry").publisher.publish([untagged(1), untagged(2, "other"), deleted(), untagged(3)])
        yield made


def untagged(number: int, project: str = "acme") -> Message:
    event = ImageUntagged(project=project, repository="web", image="app", tag=f"v{number}", digest="sha256:0")
    return said(event, cause=f"c{number}", sequence=number)


def deleted() -> Message:
    return said(ImageDeleted(project="acme", repository="web", image="app", digest="sha256:0"))


async def run(bus: NatsWorld, command: Sequence[str]) -> list[str]:
    told = os.environ | {
        "ENTREPOT_BUS_URL": bus.url,
        "ENTREPOT_BUS_USER": "outside-acme",
        "ENTREPOT_BUS_PASSWORD_FILE": str(bus.passwords.path("outside-acme")),
    }
    process = await asyncio.create_subprocess_exec(
        *command, env=told, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    try:
        async with asyncio.timeout(40):
            out, error = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.communicate()
        raise
    assert process.returncode == 0, error.decode()
    return out.decode().splitlines()


async def test_the_python_subscriber_hears_its_projects_events_and_goes_on_where_it_stopped(bus: NatsWorld) -> None:
    command = [sys.executable, str(EXAMPLES / "e01_subscribe.py"), "--name", "bot", "image.untagged.acme.>"]
    first = await run(bus, [*command, "--most", "1"])
    second = await run(bus, [*command, "--most", "1"])
    assert [line.split()[1:3] for line in first + second] == [["image.untagged", "#1"], ["image.untagged", "#3"]]
    assert '"tag": "v1"' in first[0]


async def test_the_node_subscriber_hears_the_same(bus: NatsWorld) -> None:
    node = shutil.which("node")
    package = os.environ.get("NODE_MODULES", str(EXAMPLES / "node_modules"))
    if node is None or not Path(package, "nats").exists():  # noqa: ASYNC240 - a test
        pytest.skip("node or its package `nats` is missing: npm install nats")
    copy = Path(package).parent / "e02_subscribe_in_node.mjs"
    if copy.parent != EXAMPLES:
        shutil.copy(EXAMPLES / copy.name, copy)
    lines = await run(bus, [node, str(copy), "bot", "image.untagged.acme.>", "2"])
    assert [line.split()[1:3] for line in lines] == [["image.untagged", "#1"], ["image.untagged", "#3"]]
