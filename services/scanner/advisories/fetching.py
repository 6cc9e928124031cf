"""Visits the addresses of feeds when they are due, one replica each, and takes in what is new there."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from services.scanner.advisories.importing import Importer
from services.scanner.advisories.reading import ImportRefused
from services.scanner.advisories.subscriptions import Subscription, Visit, delay
from services.scanner.store import Store
from shared.blobs import BucketUnavailable
from shared.clock import rfc3339
from shared.events import Cause
from shared.names import partition_of
from shared.parts import Parts
from shared.state import Change, LaneFull, Lease, Moved, StateUnavailable

OK, NOT_MODIFIED = 200, 304
CHECK_SECONDS: Final = 30.0
_LEASE_MORE: Final = 60.0
_SHRUNK: Final = 0.5
"""A feed that suddenly has less than this share of its records is not believed without a person."""

_LOG = structlog.get_logger("feeds")


class FetchFailed(Exception):
    """The address could not be read, or what it says is not believed; the message says why."""


@dataclass(frozen=True)
class Answer:
    """What an address answers."""

    status: int
    headers: Mapping[str, str]
    """By names in small letters."""
    body: AsyncIterator[bytes]


class Web(Protocol):
    """Where addresses are."""

    def get(self, address: str, headers: Mapping[str, str]) -> AbstractAsyncContextManager[Answer]:
        """Ask an address; redirections are followed. Raises FetchFailed."""
        ...


@dataclass(frozen=True)
class Pace:
    """Seconds between two visits to an address, and that one may take."""

    interval: float
    visit: float


class Fetching:
    """Keeps subscribed feeds up to date."""

    def __init__(self, parts: Parts, store: Store, importer: Importer, web: Web, pace: Pace) -> None:
        self._parts = parts
        self._store = store
        self._importer = importer
        self._web = web
        self._interval = pace.interval
        self._seconds = pace.visit
        self._token = parts.ids.new()

    async def run(self, subscriptions: tuple[Subscription, ...]) -> None:
        """For ever."""
        while True:
            await self._parts.clock.sleep(CHECK_SECONDS)
            for one in subscriptions:
                await self.look_after(one)

    async def look_after(self, one: Subscription) -> bool:
        """Visit an address if that is due and no other replica does; returns whether it was visited."""
        key = self._parts.keys.at(partition_of(one.project), "lease", "feed", one.project, one.source)
        lease = Lease(key, self._token)
        try:
            if not await self._is_due(one):
                return False
            if not await self._parts.state.acquire(lease.lane, lease.token, self._seconds + _LEASE_MORE):
                return False
            try:
                if not await self._is_due(one):  # another replica was there a moment ago
                    return False
                await self._visit(one)
            finally:
                await self._parts.state.release(lease)
        except (LaneFull, StateUnavailable, BucketUnavailable) as error:
            _LOG.warning("visit put off", source=one.source, project=one.project, error=type(error).__name__)
            return False
        return True

    async def _is_due(self, one: Subscription) -> bool:
        known = await self._store.visit(one.project, one.source)
        return known is None or known.is_due(one.address, self._parts.clock.now(), self._interval)

    async def _visit(self, one: Subscription) -> None:
        """One visit, and a note of how it went, so that the next comes in its time whoever makes it."""
        known = await self._store.visit(one.project, one.source)
        before = known if known and known.address == one.address else Visit(address=one.address, due=0)
        try:
            async with asyncio.timeout(self._seconds):
                after = await self._fetched(one, before)
        except TimeoutError:
            after = self._failed(before, f"not read within {self._seconds:g} seconds")
        except (FetchFailed, ImportRefused) as error:
            after = self._failed(before, str(error))
        except Moved:  # somebody imported this source meanwhile: look what the address has beside that
            after = before.model_copy(update={"due": self._parts.clock.now() + CHECK_SECONDS})
        await self._store.put_visit(one.project, one.source, after, self._parts.ids.new())

    async def _fetched(self, one: Subscription, before: Visit) -> Visit:
        kept = await self._store.feed(one.project, one.source)
        holds = kept is not None and kept.thing.feed == before.feed
        async with self._web.get(one.address, _conditions(before) if holds else {}) as answer:
            if answer.status == NOT_MODIFIED and holds:
                return self._went_well(before, before.feed, before.etag, before.modified)
            if answer.status != OK:
                raise FetchFailed(f"it answered {answer.status}")
            previous = kept.thing if kept else None
            imported = await self._importer.take(answer.body, one.project, previous)
        records = imported.record.records
        if previous is not None and records < previous.records * _SHRUNK:
            counts = f"it has {records} records and had {previous.records}"
            raise FetchFailed(f"{counts}: import it by hand if that is right")
        cause = Cause(self._parts.ids.new())
        change = Change(f"{cause.id}:fetch", cause, imported.news(one.project, one.source))
        await self._store.put_feed(one.project, one.source, imported.record, kept, change)
        _LOG.info("feed fetched", source=one.source, project=one.project, changed=len(imported.changed))
        headers = answer.headers
        return self._went_well(before, imported.record.feed, headers.get("etag", ""), headers.get("last-modified", ""))

    def _went_well(self, before: Visit, feed: str, etag: str, modified: str) -> Visit:
        now = self._parts.clock.now()
        return Visit(
            address=before.address,
            due=now + delay(self._interval, 0, self._chance()),
            checked=rfc3339(now),
            feed=feed,
            etag=etag[:1000],
            modified=modified[:100],
        )

    def _failed(self, before: Visit, reason: str) -> Visit:
        now, failures = self._parts.clock.now(), before.failures + 1
        _LOG.warning("feed not fetched", address=before.address, failures=failures, reason=reason[:300])
        due = now + delay(self._interval, failures, self._chance())
        found = {"due": due, "checked": rfc3339(now), "failures": failures, "reason": reason[:300]}
        return before.model_copy(update=found)

    def _chance(self) -> float:
        return int.from_bytes(self._parts.ids.secret(4)) / 2**32


def _conditions(before: Visit) -> dict[str, str]:
    found = {"If-None-Match": before.etag, "If-Modified-Since": before.modified}
    return {name: value for name, value in found.items() if value}
