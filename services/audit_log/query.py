"""Queries: entries by filter, in order of time, page by page, reading only the segments that can hold some."""

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from services.audit_log.entries import PRIVATE_LOG
from services.audit_log.filters import Node, holds, time_bounds
from services.audit_log.log import AuditLog
from services.audit_log.spans import Span

MOST_SEGMENTS: Final = 2000
"""Read for one page; beyond that the page ends early, with a token to go on by."""
BEYOND: Final = 2**62


@dataclass(frozen=True)
class Place:
    """A place in the order of time: entries of one timestamp are in the order of the log."""

    timestamp: str
    sequence: int


@dataclass(frozen=True)
class Query:
    """What is asked for."""

    projects: frozenset[str]
    private: frozenset[str]
    """Projects whose data access log the caller may read."""
    filter: Node
    descending: bool = False

    def takes(self, entry: Mapping[str, Any]) -> bool:
        """Whether the entry is one that is asked for and may be shown."""
        project, log = log_of(entry)
        if project not in self.projects or (log == PRIVATE_LOG and project not in self.private):
            return False
        return holds(self.filter, entry)


@dataclass(frozen=True)
class Found:
    """One page."""

    entries: list[dict[str, Any]]
    next: Place | None
    """Where the next page begins, behind this place; None: there is no more."""


def log_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """Project and log of an entry."""
    parts = str(entry.get("logName", "")).split("/")
    return (parts[1], parts[-1].rpartition("%2F")[2]) if len(parts) == 4 else ("", "")


class Reader:
    """Answers queries over the log."""

    def __init__(self, log: AuditLog, most_segments: int = MOST_SEGMENTS) -> None:
        self._log = log
        self._most = most_segments

    async def page(self, query: Query, after: Place | None, size: int) -> Found:
        """The next entries. Segments are read in order of time until no unread one can hold an earlier entry."""
        await self._log.follow()
        spans = _candidates(self._log.spans, query, after)
        waiting: list[tuple[_Rank, dict[str, Any]]] = []
        found: list[dict[str, Any]] = []
        last = after
        for number, span in enumerate(spans):
            if number >= self._most:
                edge = span.latest if query.descending else span.earliest
                return Found(found, Place(edge, BEYOND if query.descending else -1))
            await self._collect(query, span, after, waiting)
            bound = _edge(spans[number + 1], query) if number + 1 < len(spans) else None
            while waiting and (bound is None or waiting[0][0].before(bound)):
                if len(found) == size:
                    return Found(found, last)
                rank, entry = heapq.heappop(waiting)
                found.append(entry)
                last = rank.place
        return Found(found, None)

    async def _collect(
        self, query: Query, span: Span, after: Place | None, waiting: list[tuple["_Rank", dict[str, Any]]]
    ) -> None:
        for record in await self._log.records(span):
            rank = _Rank(Place(str(record.entry.get("timestamp", "")), record.sequence), query.descending)
            if (after is None or rank.behind(after)) and query.takes(record.entry):
                heapq.heappush(waiting, (rank, record.entry))


@dataclass(frozen=True)
class _Rank:
    place: Place
    descending: bool

    @property
    def _key(self) -> tuple[str, int]:
        return self.place.timestamp, self.place.sequence

    def __lt__(self, other: "_Rank") -> bool:
        return self._key > other._key if self.descending else self._key < other._key

    def behind(self, place: Place) -> bool:
        """Whether it comes later in this order than the place."""
        key = (place.timestamp, place.sequence)
        return self._key < key if self.descending else self._key > key

    def before(self, bound: str) -> bool:
        """Whether nothing in segments that begin at `bound` can come before it."""
        return self.place.timestamp > bound if self.descending else self.place.timestamp < bound


def _candidates(spans: list[Span], query: Query, after: Place | None) -> list[Span]:
    """Segments that can hold what is asked for, in the order in which their entries can begin."""
    low, high = time_bounds(query.filter)
    if after is not None and query.descending:
        high = min(high, after.timestamp)
    elif after is not None:
        low = max(low, after.timestamp)
    fitting = [span for span in spans if span.latest >= low and span.earliest <= high]
    return sorted(fitting, key=lambda span: _edge(span, query), reverse=query.descending)


def _edge(span: Span, query: Query) -> str:
    return span.latest if query.descending else span.earliest
