"""The promise on real processes: registry, bus and state killed (-9) in turn under a load of pushes, then counted.

Bounded in pushes, kills and time; everything on loopback, in a suite of its own that is stopped in the end. The relay
lives in the registry's process: killing that kills both, with lanes half drained.
"""

import asyncio
import json
import os
import random
import signal
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from cli import suite as suites
from cli.bus import operator
from shared.bus.tail import Tail
from tests.performance.cpu import listeners
from tests.performance.load import Connection, push_blob
from tests.support.images import CONFIG, MANIFEST, descriptor, digest_of
from tests.support.suite import Suite, running

PUSHES = int(os.environ.get("CHAOS_PUSHES", "2000"))
WORKERS = 8
TAGS = 200
EVERY = 4.0
"""Seconds between two kills, on average."""
KILLS = 12
"""At the most; each victim is killed as often as the others."""
SETTLE = 180.0
"""Seconds that everything may take to be handled after the last push."""
NAME = "demo/chaos/image"
VICTIMS = {"registry": 0, "nats": 20, "valkey": 22, "scanner": 3}
"""Whom to kill, by the offset of their port; the bus and the state server more often than not in mid-write."""

pytestmark = pytest.mark.timeout(600)


@dataclass
class Load:
    """Pushes of manifests that differ, each repeated until it is acknowledged, as a client does that retries."""

    suite: Suite
    token: str
    config: dict[str, Any]
    acknowledged: dict[str, str] = field(default_factory=dict[str, str])
    """Digest to tag."""
    refusals: Counter[str] = field(default_factory=Counter[str])

    async def run(self) -> None:
        """All pushes."""
        numbers = iter(range(PUSHES))
        await asyncio.gather(*(self._work(numbers) for _ in range(WORKERS)))

    async def _work(self, numbers: Iterator[int]) -> None:
        connection = Connection(self.suite.base, {"Authorization": f"Bearer {self.token}"})
        for number in numbers:
            await self._push(connection, number)
        await connection.close()

    async def _push(self, connection: Connection, number: int) -> None:
        content = self._manifest(number)
        path = f"/v2/{NAME}/manifests/t{number % TAGS}"
        until = time.monotonic() + 120
        while True:
            assert time.monotonic() < until, f"push {number} was never acknowledged: {self.refusals}"
            try:
                async with asyncio.timeout(15):
                    answer = await connection.call("PUT", path, content, {"Content-Type": MANIFEST})
            except (OSError, EOFError, TimeoutError, asyncio.IncompleteReadError, IndexError, ValueError) as lost:
                self.refusals[type(lost).__name__] += 1
                connection.drop()
                await asyncio.sleep(0.2)
                continue
            if answer.status == 201:
                self.acknowledged[digest_of(content)] = f"t{number % TAGS}"
                return
            assert answer.status in {429, 500, 502, 503, 504}, f"{answer.status} {answer.body!r}"
            self.refusals[str(answer.status)] += 1
            await asyncio.sleep(0.2)

    def _manifest(self, number: int) -> bytes:
        return orjson.dumps(
            {
                "schemaVersion": 2,
                "mediaType": MANIFEST,
                "config": self.config,
                "layers": [],
                "annotations": {"number": str(number)},
            }
        )


async def killing(suite: Suite, kills: Counter[str], load: "asyncio.Task[None]") -> None:
    """Kill one after the other until the load has ended."""
    drawn = random.Random(7)  # noqa: S311 - moments, not secrets
    while sum(kills.values()) < KILLS:
        for victim, offset in VICTIMS.items():
            await asyncio.sleep(EVERY * drawn.uniform(0.5, 1.5))
            if load.done():
                return
            try:
                for process in listeners(suite.base + offset):
                    os.kill(process, signal.SIGKILL)
            except (LookupError, ProcessLookupError):
                continue
            kills[victim] += 1


async def said(suite: Suite, topic: str) -> list[dict[str, Any]]:
    """Everything that the bus keeps of a topic."""
    tail = Tail(operator(suites.of(str(suite.data))), asyncio.sleep)
    found = [orjson.loads(one.content) async for one in tail.follow("EVENTS", f"{topic}.>", 0, endless=False)]
    await tail.close()
    return found


def consumers(suite: Suite) -> list[dict[str, Any]]:
    """Every durable of the bus, with what it has still to do."""
    address = f"http://127.0.0.1:{suite.base + 21}/jsz?consumers=true&accounts=true"
    with urllib.request.urlopen(address, timeout=10) as answer:
        found = json.load(answer)
    streams = [stream for account in found["account_details"] for stream in account.get("stream_detail", [])]
    return [consumer for stream in streams for consumer in stream.get("consumer_detail") or []]


def busy(suite: Suite) -> dict[str, tuple[int, int]]:
    """Durables that have not handled all they were to hear."""
    return {
        one["name"]: (one["num_pending"], one["num_ack_pending"])
        for one in consumers(suite)
        if one["num_pending"] or one["num_ack_pending"]
    }


async def settled(suite: Suite, load: Load) -> list[dict[str, Any]]:
    """Wait until every acknowledged push is said and every durable has handled everything."""
    until = time.monotonic() + SETTLE
    while True:
        pushed = await said(suite, "image.pushed")
        missing = load.acknowledged.keys() - {event["data"]["digest"] for event in pushed}
        if not missing and not busy(suite):
            return pushed
        assert time.monotonic() < until, f"{len(missing)} pushes were never announced; busy: {busy(suite)}"
        await asyncio.sleep(1)


async def absent(suite: Suite, token: str, digests: list[str]) -> list[str]:
    """Which of these manifests cannot be had."""
    connection = Connection(suite.base, {"Authorization": f"Bearer {token}", "Accept": MANIFEST})
    gone = [
        digest for digest in digests if (await connection.call("GET", f"/v2/{NAME}/manifests/{digest}")).status != 200
    ]
    await connection.close()
    return gone


async def test_no_push_is_lost_and_nothing_absent_is_announced_when_everything_is_killed(
    tmp_path: Path, tell: Callable[[str], None]
) -> None:
    with running(tmp_path) as suite:
        token = suite.token()
        connection = Connection(suite.base, {"Authorization": f"Bearer {token}"})
        await push_blob(connection, NAME, b"{}")
        await connection.close()
        load, kills = Load(suite, token, descriptor(CONFIG, b"{}")), Counter[str]()
        pushing = asyncio.create_task(load.run())
        await asyncio.gather(pushing, killing(suite, kills, pushing))
        suite.wait_until_ready()
        pushed = await settled(suite, load)
        digests = sorted({event["data"]["digest"] for event in pushed})
        twins = len(pushed) - len({event["id"] for event in pushed})
        scanned = {event["data"]["digest"] for event in await said(suite, "scan.completed")}
        tags = [load.acknowledged.get(event["data"]["digest"]) for event in pushed]
        report = {
            "pushes acknowledged": len(load.acknowledged),
            "announced": len(digests),
            "announced and absent": len(await absent(suite, token, digests)),
            "twins kept": twins,
            "scanned": len(scanned & set(digests)),
            "kills": dict(kills),
            "retried": dict(load.refusals),
        }
        tell(json.dumps(report))
        assert report["announced and absent"] == 0
        assert twins == 0
        assert set(digests) == load.acknowledged.keys(), "something was announced that nobody pushed"
        assert scanned >= set(digests)
        assert None not in tags
        assert sum(kills.values()) >= 4
        assert dead_letters(suite) == 0


def dead_letters(suite: Suite) -> int:
    """How many events could not be handled."""
    said_of_dead = suite.entrepot("dead", "list", "--format", "json").stdout
    return len(json.loads(said_of_dead or "[]"))
