"""An OSV record, read leniently where databases differ, and turned into rows that say which versions are affected."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, cast

from pydantic import BaseModel, ConfigDict

from services.scanner.advisories.severity import Rating, rated
from services.scanner.inventory.pypi import normalised
from services.scanner.versions import VersionInvalid, can_order, key_of

MOST_VERSIONS = 20_000

_INTRODUCED, _LAST = 1, 2
_RANKS = {"fixed": 0, "limit": 0, "introduced": _INTRODUCED, "last_affected": _LAST}
"""At one version: what ends before it comes first, what ends behind it last."""


class RecordUnusable(ValueError):
    """This is no advisory, or none that says anything that could be matched."""


class Span(BaseModel):
    """Versions from `start` on, until before `end`, or including it; an empty end is none."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    start: str = ""
    """Empty: from the first version."""
    end: str = ""
    including: bool = False


class Row(BaseModel):
    """What one advisory says of one package."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    aliases: tuple[str, ...] = ()
    ecosystem: str
    name: str
    spans: tuple[Span, ...] = ()
    versions: tuple[str, ...] = ()
    """Affected versions that lie in no span."""
    rating: Rating = Rating()
    published: str = ""
    modified: str = ""


@dataclass(frozen=True)
class Advisory:
    """A record's rows; a withdrawn one has none."""

    id: str
    rows: tuple[Row, ...]
    withdrawn: bool = False


def advisory(record: object) -> Advisory:
    """The rows of an OSV record. Raises RecordUnusable."""
    fields = _object(record)
    identity = fields.get("id")
    if (
        not isinstance(identity, str)
        or not 0 < len(identity) <= 200
        or not isinstance(fields.get("affected", []), list)
    ):
        raise RecordUnusable("no OSV record: it has no id")
    if fields.get("withdrawn"):
        return Advisory(identity, (), withdrawn=True)
    rows = tuple(row for affected in fields.get("affected", []) for row in _rows(identity, fields, _object(affected)))
    return Advisory(identity, rows)


def _rows(identity: str, fields: dict[str, Any], affected: dict[str, Any]) -> Iterator[Row]:
    package = _object(affected.get("package") or {})
    ecosystem, name = _ecosystem(_text(package.get("ecosystem"))), _text(package.get("name"))
    if not name or len(name) > 256 or not can_order(ecosystem):
        return
    spans = tuple(_spans(ecosystem, affected))
    versions = tuple(_single_versions(ecosystem, affected, spans))
    if not spans and not versions:
        return
    specific = [
        _object(each.get(key) or {})
        for each in (affected, fields)
        for key in ("ecosystem_specific", "database_specific")
    ]
    yield Row(
        id=identity,
        aliases=tuple(dict.fromkeys(_texts(fields, "aliases") + _texts(fields, "upstream"))),
        ecosystem=ecosystem,
        name=normalised(name) if ecosystem == "PyPI" else name,
        spans=spans,
        versions=versions,
        rating=rated([_object(one) for one in _list(affected, "severity") + _list(fields, "severity")], specific),
        published=_time(fields.get("published")),
        modified=_time(fields.get("modified")),
    )


def _spans(ecosystem: str, affected: dict[str, Any]) -> Iterator[Span]:
    """GIT ranges say nothing of versions. Go's custom ranges stand for plain ones that name every version."""
    custom = _list(_object(affected.get("ecosystem_specific") or {}), "custom_ranges")
    for found in custom or _list(affected, "ranges"):
        described = _object(found)
        if described.get("type") in {"ECOSYSTEM", "SEMVER"}:
            with suppress(VersionInvalid):  # without one of its ends a range would name the wrong versions
                yield from list(_paired(ecosystem, [_object(event) for event in _list(described, "events")]))


def _paired(ecosystem: str, events: list[dict[str, Any]]) -> Iterator[Span]:
    """Each introduction with the first end behind it; events may come in any order. Raises VersionInvalid."""
    ordered = sorted(place for event in events for place in _places(ecosystem, event))
    start: str | None = None
    for _, rank, version in ordered:
        if rank == _INTRODUCED:
            start = version if start is None else start
        elif start is not None:
            yield Span(start=start, end=version, including=rank == _LAST)
            start = None
    if start is not None:
        yield Span(start=start)


def _places(ecosystem: str, event: dict[str, Any]) -> Iterator[tuple[bytes, int, str]]:
    """Where an event stands in the order of versions."""
    for kind, rank in _RANKS.items():
        version = event.get(kind)
        if isinstance(version, (str, int, float)) and str(version) != "*":
            first = rank == _INTRODUCED and str(version) == "0"
            yield (b"", rank, "") if first else (key_of(ecosystem, str(version)), rank, str(version))


def _single_versions(ecosystem: str, affected: dict[str, Any], spans: tuple[Span, ...]) -> Iterator[str]:
    for version in _texts(affected, "versions")[:MOST_VERSIONS]:
        if len(version) <= 256 and not within(ecosystem, version, spans):
            yield version


def within(ecosystem: str, version: str, spans: tuple[Span, ...]) -> bool:
    """Whether a version lies in one of the spans; a malformed one lies in none."""
    try:
        key = key_of(ecosystem, version)
    except VersionInvalid:
        return False
    return any(_covers(ecosystem, span, key) for span in spans)


def _covers(ecosystem: str, span: Span, key: bytes) -> bool:
    if span.start and key < key_of(ecosystem, span.start):
        return False
    if not span.end:
        return True
    end = key_of(ecosystem, span.end)
    return key <= end if span.including else key < end


def _ecosystem(name: str) -> str:
    """`Ubuntu:22.04:LTS` is `Ubuntu:22.04` to an image; paid pockets are none of its."""
    parts = name.split(":")
    if parts[0] == "Ubuntu":
        return "" if "Pro" in parts else ":".join(parts[:2])
    return name


def _object(found: object) -> dict[str, Any]:
    if not isinstance(found, dict):
        raise RecordUnusable("no OSV record: something in it is no object")
    return cast("dict[str, Any]", found)


def _list(fields: dict[str, Any], name: str) -> list[Any]:
    found = fields.get(name)
    return cast("list[Any]", found) if isinstance(found, list) else []


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    return [_text(one) for one in _list(fields, name) if isinstance(one, (str, int, float))]


def _text(found: object) -> str:
    """Of a scalar; never of a structure, whose text may be exponentially longer than the YAML that made it."""
    return str(found) if isinstance(found, (str, int, float)) else ""


def _time(found: object) -> str:
    """YAML makes a date of what looks like one."""
    if isinstance(found, datetime):
        return found.isoformat() if found.tzinfo else f"{found.isoformat()}Z"
    return f"{found.isoformat()}T00:00:00Z" if isinstance(found, date) else _text(found)[:40]
