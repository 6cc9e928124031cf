"""Two replicas of the registry on one Valkey: once a push is answered, no read through either shows what was before.

A checker proves nothing on a fast wire, so one replica's is slow; and nothing at all unless it finds what is wrong, so
there is a replica that joins questions under way, in which it must find stale reads.
"""

import asyncio
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pytest

from shared.http.connection import LaneConnection
from shared.state import Told
from shared.state.valkey import ValkeyState
from tests.performance.load import must
from tests.support.images import CONFIG, LAYER, MANIFEST, descriptor
from tests.support.registry import NAME, json_bytes
from tests.support.replicas import Replica, pair
from tests.support.servers import Server, valkey

__all__ = ["valkey"]

TAGS, MOVES = 8, 25


class JoinsUnderWay:
    """The control: a state in which a peek joins a question that is under way, as a cache of lookups would."""

    def __init__(self, inner: ValkeyState) -> None:
        self._inner = inner
        self._waiting: dict[str, list[Told]] = {}

    def peek(self, key: str, told: Told, *, field: str = "", unless: str = "") -> bool:
        if key in self._waiting:
            self._waiting[key].append(told)
            return True
        self._waiting[key] = [told]
        if not self._inner.peek(key, lambda found: self._tell(key, found), field=field, unless=unless):
            del self._waiting[key]
            return False
        return True

    def _tell(self, key: str, found: Any) -> None:
        for told in self._waiting.pop(key):
            told(found)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


@dataclass
class Count:
    reads: int = 0
    stale: int = 0
    in_the_lane: int = 0


@pytest.fixture
def count(monkeypatch: pytest.MonkeyPatch) -> Iterator[Count]:
    found, answer = Count(), LaneConnection.answer

    def counted(self: LaneConnection, content: bytes) -> None:
        found.in_the_lane += 1
        answer(self, content)

    monkeypatch.setattr(LaneConnection, "answer", counted)
    yield found
    assert found.in_the_lane > found.reads / 2, "most reads must have taken the lane, or this says nothing about it"


async def goods(first: Replica) -> list[bytes]:
    """Manifests that a tag may point at; what they refer to is there."""
    await first.client.blob(b"{}")
    manifests: list[bytes] = []
    for number in range(6):
        layer = b"layer %d" % number
        await first.client.blob(layer)
        body = {"config": descriptor(CONFIG, b"{}"), "layers": [descriptor(LAYER, layer)]}
        manifests.append(json_bytes({"schemaVersion": 2, "mediaType": MANIFEST, **body}))
        assert (await first.client.manifest(manifests[-1])).status == 201
    return manifests


async def check(first: Replica, second: Replica, count: Count) -> None:
    """Move every tag again and again, and read it at once through both."""
    manifests = await goods(first)
    over = asyncio.Event()
    readers = [asyncio.create_task(read_on(second, f"t{tag}", over)) for tag in range(TAGS)]
    try:
        await asyncio.gather(*(move(first, second, tag, manifests, count) for tag in range(TAGS)))
    finally:
        over.set()
        await asyncio.gather(*readers)


async def move(first: Replica, second: Replica, tag: int, manifests: Sequence[bytes], count: Count) -> None:
    """Half of the tags move through both replicas in turn; read is through the one that did not write, mostly."""
    ways = [(first, second), (second, first)] if tag % 2 else [(first, second)]
    connections = {each.port: each.connection() for each in (first, second)}
    path = f"/v2/{NAME}/manifests/t{tag}"
    for number, (writer, other) in zip(range(MOVES), itertools.cycle(ways), strict=False):
        manifest = manifests[number % len(manifests)]
        put = await connections[writer.port].call("PUT", path, manifest, {"Content-Type": MANIFEST})
        must(put, 201)
        for reader in (other, other, other, writer):
            found = await connections[reader.port].call("GET", path)
            must(found, 200)
            count.reads += 1
            count.stale += found.body != manifest
    for connection in connections.values():
        await connection.close()


async def read_on(place: Replica, tag: str, over: asyncio.Event) -> None:
    """Keep asking, so that a question is nearly always under way."""
    connection = place.connection()
    while not over.is_set():
        await connection.call("GET", f"/v2/{NAME}/manifests/{tag}")
    await connection.close()


async def test_no_read_is_stale_after_an_acknowledged_push_through_either_replica(valkey: Server, count: Count) -> None:
    async with pair(valkey) as (first, second):
        await check(first, second, count)
    assert count.reads == TAGS * MOVES * 4
    assert count.stale == 0


async def test_the_check_finds_stale_reads_where_questions_under_way_are_joined(valkey: Server, count: Count) -> None:
    async with pair(valkey, JoinsUnderWay) as (first, second):
        await check(first, second, count)
    assert count.stale > 0


async def test_a_deleted_tag_is_gone_at_both_replicas_once_that_is_acknowledged(valkey: Server, count: Count) -> None:
    async with pair(valkey) as (first, second):
        [manifest, *_] = await goods(first)
        connections = [each.connection() for each in (first, second)]
        for number in range(30):
            path = f"/v2/{NAME}/manifests/gone"
            must(await connections[0].call("PUT", path, manifest, {"Content-Type": MANIFEST}), 201)
            for connection in connections:
                must(await connection.call("GET", path), 200)
            must(await connections[number % 2].call("DELETE", path), 202)
            for connection in connections:
                must(await connection.call("GET", path), 404)
                must(await connection.call("HEAD", path), 404)
        for connection in connections:
            await connection.close()
    assert count.in_the_lane >= 30


async def test_where_valkey_dies_reads_wait_for_it_or_are_told_to_come_again(valkey: Server) -> None:
    async with pair(valkey) as (first, second):
        manifests = await goods(first)
        connections = [each.connection() for each in (first, second)]
        path = f"/v2/{NAME}/manifests/steady"
        must(await connections[0].call("PUT", path, manifests[0], {"Content-Type": MANIFEST}), 201)
        for connection in connections * 5:
            must(await connection.call("GET", path), 200)
        await asyncio.to_thread(valkey.kill)
        asked = [asyncio.create_task(connection.call("GET", path)) for connection in connections]
        await asyncio.sleep(0.5)
        await asyncio.to_thread(valkey.start)
        for answer in await asyncio.gather(*asked):
            assert answer.status in {200, 503}
            assert answer.status == 503 or answer.body == manifests[0]
        for connection in connections:
            await connection.close()
