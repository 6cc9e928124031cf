"""Feeds that are fetched by themselves, from a server on this machine."""

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.advisories.fetching import Fetching, Pace
from services.scanner.advisories.importing import Importer
from services.scanner.advisories.knowledge import Knowledge
from services.scanner.advisories.subscriptions import Subscription, Visit, delay, subscriptions_of
from services.scanner.advisories.web import HttpWeb
from services.scanner.settings import ScannerSettings
from services.scanner.store import Store
from shared.settings import SettingsWrong, read
from tests.support.scans import CRITICAL, ScannerAtWork, osv, python_image, scanner_at_work

HOUR = 3600.0
FLAW = osv("PYSEC-1", "PyPI", "jinja2", {"introduced": "0"}, {"fixed": "2.10.1"}, vector=CRITICAL)
OTHER = osv("PYSEC-2", "PyPI", "flask", {"introduced": "0"})


@dataclass
class Publisher:
    """A server that has one feed, and remembers how it was asked."""

    records: list[Mapping[str, Any]] = field(default_factory=lambda: [FLAW])
    status: int = 200
    tags: bool = True
    packed: bool = False
    raw: bytes | None = None
    redirected: str = ""
    slow: float = 0.0
    asked: list[dict[str, str]] = field(default_factory=list[dict[str, str]])
    came: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def content(self) -> bytes:
        return orjson.dumps(self.records) if self.raw is None else self.raw

    async def feed(self, request: web.Request) -> web.Response:
        self.asked.append({name: request.headers.get(name, "") for name in ("If-None-Match", "If-Modified-Since")})
        self.came.set()
        await asyncio.sleep(self.slow)
        if self.redirected:
            raise web.HTTPFound(self.redirected)
        if self.status != 200:
            return web.Response(status=self.status)
        tag = f'"{hash(self.content)}"'
        headers = {"ETag": tag, "Last-Modified": "Mon, 05 Jan 2026 00:00:00 GMT"} if self.tags else {}
        if self.tags and request.headers.get("If-None-Match") == tag:
            return web.Response(status=304, headers=headers)
        if self.packed:
            return web.Response(body=gzip.compress(self.content), headers={**headers, "Content-Encoding": "gzip"})
        return web.Response(body=self.content, headers=headers)


@dataclass
class Subscribed:
    """A scanner, the publisher it is subscribed to, and as many replicas as a test wants."""

    scanner: ScannerAtWork
    publisher: Publisher
    one: Subscription

    def replica(self, largest: int = 10_000_000, seconds: float = 5.0) -> Fetching:
        parts = self.scanner.memory.parts
        store = Store(parts.state, parts.keys, parts.outbox)
        importer = Importer(Knowledge(store, parts.blobs, parts.cpu, ""), parts, largest)
        return Fetching(parts, store, importer, HttpWeb(), Pace(6 * HOUR, seconds))

    async def visit(self, replica: Fetching | None = None) -> bool:
        visited = await (replica or self.replica()).look_after(self.one)
        await self.scanner.settle()
        return visited

    async def pass_by(self, seconds: float) -> None:
        await self.scanner.memory.clock.advance(seconds)

    async def listed(self) -> dict[str, Any]:
        feeds = (await self.scanner.get("/v1/projects/demo/advisoryFeeds"))["advisoryFeeds"]
        return feeds[0] if feeds else {}


@pytest.fixture
async def subscribed() -> AsyncIterator[Subscribed]:
    publisher = Publisher()
    app = web.Application()
    app.router.add_get("/feed.json", publisher.feed)
    async with TestServer(app) as server, scanner_at_work() as scanner:
        yield Subscribed(scanner, publisher, Subscription("demo", "test", str(server.make_url("/feed.json"))))


async def test_a_feed_is_fetched_when_it_is_due_and_images_are_matched_anew(subscribed: Subscribed) -> None:
    await subscribed.scanner.push(python_image(("jinja2", "2.10")))
    assert await subscribed.visit()
    assert subscribed.scanner.said("scan.completed")[-1]["counts"] == {"CRITICAL": 1}
    assert len(subscribed.scanner.said("vulnerability.opened")) == 1
    assert not await subscribed.visit(), "it is not due"
    await subscribed.pass_by(7 * HOUR)
    subscribed.publisher.records = [FLAW, OTHER]
    assert await subscribed.visit()
    assert (await subscribed.listed())["records"] == 2
    assert [one["count"] for one in subscribed.scanner.said("advisory.updated")] == [1, 1]
    assert subscribed.scanner.memory.audited() == [], "nobody called"


async def test_what_has_not_changed_is_not_read_again(subscribed: Subscribed) -> None:
    await subscribed.visit()
    await subscribed.pass_by(7 * HOUR)
    await subscribed.visit()
    assert subscribed.publisher.asked[0] == {"If-None-Match": "", "If-Modified-Since": ""}
    assert subscribed.publisher.asked[1]["If-None-Match"]
    assert subscribed.publisher.asked[1]["If-Modified-Since"].startswith("Mon, 05 Jan")
    assert len(subscribed.scanner.said("advisory.updated")) == 1
    listed = await subscribed.listed()
    assert "failure" not in listed
    assert listed["nextCheckTime"] > listed["checkTime"]


async def test_a_server_without_etags_is_read_whole_and_says_nothing_new(subscribed: Subscribed) -> None:
    subscribed.publisher.tags = False
    for _ in range(2):
        assert await subscribed.visit()
        await subscribed.pass_by(7 * HOUR)
    assert len(subscribed.scanner.said("advisory.updated")) == 1


async def test_what_somebody_imported_meanwhile_is_replaced_by_what_the_address_has(subscribed: Subscribed) -> None:
    await subscribed.visit()
    await subscribed.scanner.take_in(OTHER)
    await subscribed.pass_by(7 * HOUR)
    await subscribed.visit()
    assert subscribed.publisher.asked[1]["If-None-Match"] == "", "unchanged there is not unchanged here"
    assert [one["name"][-7:] for one in (await subscribed.scanner.get("/v1/projects/demo/notes"))["notes"]] == [
        "PYSEC-1"
    ]


@pytest.mark.parametrize(
    ("wrong", "reason"),
    [
        ({"status": 500}, "answered 500"),
        ({"status": 404}, "answered 404"),
        ({"status": 304}, "answered 304"),
        ({"raw": b""}, "no advisory was found"),
        ({"raw": b"<html>"}, "no advisory was found"),
        ({"raw": b"\x1f\x8b\x08\x00xx"}, "cut off"),
        ({"records": [FLAW] * 200}, "more than 10000 bytes"),
        ({"records": [FLAW] * 200, "packed": True}, "more than 10000 bytes"),
        ({"slow": 2.0}, "not read within"),
        ({"redirected": "/feed.json"}, "TooManyRedirects"),
        ({"redirected": "http://127.0.0.1:9/"}, "cannot be read"),
    ],
)
async def test_a_visit_that_fails_changes_nothing_and_is_repeated_later_each_time(
    subscribed: Subscribed, wrong: dict[str, Any], reason: str
) -> None:
    await subscribed.visit()
    await subscribed.pass_by(7 * HOUR)
    before = await subscribed.listed()
    for name, value in wrong.items():
        setattr(subscribed.publisher, name, value)
    if "status" in wrong:
        subscribed.publisher.tags = False
    replica = subscribed.replica(largest=10_000, seconds=0.5)
    subscribed.publisher.tags = False
    await subscribed.scanner.memory.parts.state.apply(_forgetting(subscribed))
    assert await subscribed.visit(replica)
    after = await subscribed.listed()
    assert reason in after["failure"]
    assert after["feed"] == before["feed"]
    assert not await subscribed.visit(replica), "not at once"
    await subscribed.pass_by(61)
    assert await subscribed.visit(replica)
    assert (await subscribed.listed())["failures"] == 2
    await subscribed.pass_by(59)
    assert not await subscribed.visit(replica)


def _forgetting(subscribed: Subscribed) -> Any:
    """A step that forgets the last visit, so that the next asks without conditions."""
    from shared.names import partition_of  # noqa: PLC0415
    from shared.state import DropField, Step  # noqa: PLC0415

    key = subscribed.scanner.memory.parts.keys.of("demo", "visits")
    return Step(partition_of("demo"), "forget", writes=(DropField(key, "test"),))


async def test_a_feed_that_lost_most_of_its_records_is_not_believed(subscribed: Subscribed) -> None:
    subscribed.publisher.records = [{**FLAW, "id": f"PYSEC-{number}"} for number in range(10)]
    await subscribed.visit()
    subscribed.publisher.records = [FLAW]
    await subscribed.pass_by(7 * HOUR)
    await subscribed.visit()
    listed = await subscribed.listed()
    assert (listed["records"], "by hand" in listed["failure"]) == (10, True)
    await subscribed.scanner.take_in(FLAW)
    await subscribed.pass_by(7 * HOUR)
    await subscribed.visit()
    assert "failure" not in await subscribed.listed()


async def test_of_several_replicas_one_visits(subscribed: Subscribed) -> None:
    subscribed.publisher.slow = 0.05
    replicas = [subscribed.replica() for _ in range(4)]
    visited = await asyncio.gather(*(subscribed.visit(replica) for replica in replicas))
    assert sum(visited) == len(subscribed.publisher.asked) == 1


async def test_a_replica_that_died_during_its_visit_is_followed_by_another(subscribed: Subscribed) -> None:
    subscribed.publisher.slow = 60
    visiting = asyncio.create_task(subscribed.replica(seconds=30).look_after(subscribed.one))
    await subscribed.publisher.came.wait()
    subscribed.publisher.slow = 0
    state = subscribed.scanner.memory.parts.state
    released, state.release = state.release, _nothing  # type: ignore[method-assign]
    visiting.cancel()
    with suppress(asyncio.CancelledError):
        await visiting
    state.release = released  # type: ignore[method-assign]
    assert not await subscribed.visit(), "the dead one's lease is not over"
    await subscribed.pass_by(91)
    assert await subscribed.visit()


async def _nothing(lease: object) -> None:
    del lease


async def test_a_content_encoding_is_undone_and_counted_unpacked(subscribed: Subscribed) -> None:
    subscribed.publisher.packed = True
    await subscribed.visit()
    assert (await subscribed.listed())["records"] == 1


# Settings.


def test_subscriptions_are_read_from_one_setting() -> None:
    text = "demo/pypa=https://feeds.example/pypa.tar.zst  go=http://127.0.0.1:8/x?y=1,2"
    assert subscriptions_of(text, "shared") == (
        Subscription("demo", "pypa", "https://feeds.example/pypa.tar.zst"),
        Subscription("shared", "go", "http://127.0.0.1:8/x?y=1,2"),
    )


@pytest.mark.parametrize(
    "text",
    [
        "x",
        "demo/x",
        "demo/x=",
        "x=https://e",
        "demo/X=https://e",
        "demo/x=file:///etc/passwd",
        "demo/x=https://u:p@e/",
        "demo/x=https://a demo/x=https://b",
    ],
)
def test_what_is_no_subscription_stops_the_start(text: str) -> None:
    with pytest.raises(SettingsWrong):
        read(ScannerSettings, {"ENTREPOT_SCANNER_FEEDS": text}, "ENTREPOT_SCANNER_")


@given(st.text(max_size=80))
def test_any_text_is_subscriptions_or_is_refused(text: str) -> None:
    with suppress(ValueError):
        subscriptions_of(text, "shared")


@given(st.integers(0, 10_000), st.floats(0, 1))
def test_a_delay_grows_with_failures_and_never_beyond_the_interval(failures: int, chance: float) -> None:
    seconds = delay(6 * HOUR, failures, chance)
    assert 30 <= seconds <= 6 * HOUR * 1.1
    if failures:
        assert seconds <= delay(6 * HOUR, failures + 1, chance)


def test_a_visit_is_due_again_where_a_clock_was_set_back() -> None:
    visit = Visit(address="a", due=100 * HOUR)
    assert visit.is_due("a", 0, 6 * HOUR)
    assert not visit.is_due("a", 95 * HOUR, 6 * HOUR)
    assert visit.is_due("b", 95 * HOUR, 6 * HOUR)
