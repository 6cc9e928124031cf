"""Pages of Artifact Registry's lists: from an index in its order; with a filter, by going through the index; sorted."""

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from services.registry.api.google.filters import Filter, filter_of
from shared.http.errors import InvalidArgument
from shared.http.pages import next_token, page_of
from shared.http.translation import json_answer

Row = tuple[str, dict[str, Any] | None]
"""The place in the index, and what is there; None: it went away while it was read."""
Reader = Callable[[str, int], Awaitable[Sequence[Row]]]
"""Reads so many rows behind a place."""

LOOKED_THROUGH = 2000
"""Rows that one request with a filter looks through; an answer may have few or none of them and a further page."""
SORTED = 10_000
"""Rows that one request sorts."""
_AT_ONCE = 200


@dataclass(frozen=True)
class Kind:
    """What can be asked of one kind of list."""

    field: str
    """How the answer calls it, such as `packages`."""
    filtered: tuple[str, ...] = ()
    sorted: tuple[str, ...] = ()


def wanted(request: web.Request, kind: Kind) -> Filter:
    """The filter of a request; raises InvalidArgument."""
    return filter_of(request.query.get("filter", ""), kind.filtered)


async def listed(request: web.Request, kind: Kind, read: Reader) -> web.Response:
    """A page of a list, as the request wants it. Raises InvalidArgument."""
    chosen = wanted(request, kind)
    if order := _order(request, kind):
        return await _sorted(request, kind, read, chosen, order)
    page = page_of(request)
    shown: list[dict[str, Any]] = []
    after, looked = page.after, 0
    while True:
        limit = page.size - len(shown) if not chosen.terms else _AT_ONCE
        rows = await read(after, limit + 1)
        for place, thing in rows[:limit]:
            after, looked = place, looked + 1
            if thing is not None and chosen.matches(thing):
                shown.append(thing)
            if len(shown) == page.size:
                break
        ended = len(rows) <= limit and (not rows or after == rows[-1][0])
        if ended or len(shown) == page.size or looked >= LOOKED_THROUGH or not chosen.terms:
            return _answer(kind, shown, "" if ended else after)


async def _sorted(
    request: web.Request, kind: Kind, read: Reader, chosen: Filter, order: tuple[str, bool]
) -> web.Response:
    """All rows are read and sorted; the page's place is what the last row of the page before was sorted by."""
    field, descending = order
    rows: list[tuple[str, dict[str, Any]]] = []
    after = ""
    while some := await read(after, _AT_ONCE):
        after = some[-1][0]
        rows += [
            (f"{thing.get(field, '')}\n{place}", thing) for place, thing in some if thing and chosen.matches(thing)
        ]
        if len(rows) > SORTED:
            raise InvalidArgument(
                f"orderBy: more than {SORTED} {kind.field} are not sorted; ask for fewer by a filter."
            )
    rows.sort(key=lambda row: row[0], reverse=descending)
    page = page_of(request)
    if page.after:
        rows = [row for row in rows if (row[0] < page.after if descending else row[0] > page.after)]
    more = rows[page.size - 1][0] if len(rows) > page.size else ""
    return _answer(kind, [thing for _, thing in rows[: page.size]], more)


def _answer(kind: Kind, shown: list[dict[str, Any]], after: str) -> web.Response:
    body: dict[str, Any] = {kind.field: shown} if shown else {}
    if after:
        body["nextPageToken"] = next_token(after)
    return json_answer(body)


def _order(request: web.Request, kind: Kind) -> tuple[str, bool] | None:
    """The field and whether it is descending; None for the index's own order."""
    text = request.query.get("orderBy", "").strip()
    if not text:
        return None
    field, _, direction = text.partition(" ")
    field = "".join(part.capitalize() if number else part for number, part in enumerate(field.split("_")))
    if field not in kind.sorted or direction.strip().lower() not in ("", "asc", "desc"):
        raise InvalidArgument(f"orderBy: {kind.field} are sorted by one of {', '.join(kind.sorted)}, asc or desc.")
    return field, direction.strip().lower() == "desc"
