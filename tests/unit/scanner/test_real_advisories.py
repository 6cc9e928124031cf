"""Real databases, where they lie beside the project: read whole, and matched as a plain reading of OSV's rules says."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from services.scanner.advisories.database import Feed, Gathering, Tally
from services.scanner.advisories.reading import documents
from services.scanner.advisories.record import Span
from services.scanner.matching import affects
from services.scanner.seed import seed

FOLDER = Path(__file__).parents[4] / "shared" / "advisories"


@dataclass(frozen=True)
class Database:
    """A database's records, and what became of them."""

    records: list[dict[str, Any]]
    tally: Tally
    feed: Feed


@pytest.fixture(scope="module")
def pypa() -> Database:
    return read(brought("pypa.tar.zst"))


def brought(name: str) -> bytes:
    path = FOLDER / name
    if not path.exists():
        pytest.skip("the advisory sets are not beside the project")
    return path.read_bytes()


def read(content: bytes) -> Database:
    found: list[Any] = list(documents(io.BytesIO(content)))
    gathering = Gathering()
    gathering.take(found)
    return Database(found, gathering.tally, Feed(gathering.written()))


def plainly_affected(affected: dict[str, Any], version: Version) -> bool:
    """OSV's own evaluation: listed, or between an introduction and the end that follows it."""
    if any(same(version, listed) for listed in affected.get("versions", [])):
        return True
    return any(inside(found["events"], version) for found in affected.get("ranges", []) if found["type"] == "ECOSYSTEM")


def inside(events: list[dict[str, Any]], version: Version) -> bool:
    state = False
    for event in sorted(events, key=place):
        (kind, text), *_ = event.items()
        at = Version(str(text))
        if kind == "introduced" and version >= at:
            state = True
        if (kind == "fixed" and version >= at) or (kind == "last_affected" and version > at):
            state = False
    return state


def place(event: dict[str, object]) -> tuple[Version, bool]:
    """What is fixed in a version and introduced in it again is affected."""
    (kind, version), *_ = event.items()
    return Version(str(version)), kind == "introduced"


def same(version: Version, listed: object) -> bool:
    try:
        return Version(str(listed)) == version
    except InvalidVersion:
        return False


def test_the_python_database_is_read_whole(pypa: Database) -> None:
    assert (pypa.tally.records, pypa.tally.withdrawn, pypa.tally.unusable) == (2661, 10, 0)
    assert pypa.tally.empty < 5
    assert {row.id for row in pypa.feed.about("PyPI", "jinja2")} >= {"PYSEC-2019-217"}


def test_versions_around_every_end_of_a_range_match_as_osv_says(pypa: Database) -> None:
    decided = 0
    for record in pypa.records[::6]:
        if record.get("withdrawn") or len(record["affected"]) != 1:
            continue
        (affected,) = record["affected"]
        rows = [
            row
            for row in pypa.feed.about("PyPI", canonicalize_name(affected["package"]["name"]))
            if row.id == record["id"]
        ]
        for text in versions_of(affected):
            expected = plainly_affected(affected, Version(text))
            assert any(affects(row, text) for row in rows) == expected, (record["id"], text)
            decided += 1
    assert decided > 1500


def versions_of(affected: dict[str, Any]) -> list[str]:
    events = [
        event for found in affected.get("ranges", []) if found["type"] == "ECOSYSTEM" for event in found["events"]
    ]
    ends = [str(end) for event in events for end in event.values()]
    found = {*map(str, affected.get("versions", [])[:4]), *ends, *(f"{end}.post1" for end in ends), "0.0.1", "9999"}
    return sorted(text for text in found if valid(text))


def valid(text: str) -> bool:
    try:
        Version(text)
    except InvalidVersion:
        return False
    return True


def test_the_go_database_is_read_whole_and_custom_ranges_narrow_it() -> None:
    found = read(brought("go-osv.tar.zst"))
    assert (found.tally.records, found.tally.withdrawn, found.tally.unusable) == (4291, 17, 0)
    narrowed = [record for record in found.records if b"custom_ranges" in orjson.dumps(record)]
    names = {(one["id"], one["affected"][0]["package"]["name"]) for one in narrowed if not one.get("withdrawn")}
    rows = [row for identity, name in names for row in found.feed.about("Go", name) if row.id == identity]
    assert sum(row.spans != (Span(),) for row in rows) > 300


def test_fixes_of_debian_in_osv_form_match_older_versions_alone() -> None:
    fixes: dict[str, dict[str, list[str]]] = orjson.loads(brought("deb12-changelog-fixes.json"))
    made = [
        {
            "id": f"DEBIAN-{cve}",
            "aliases": [cve],
            "affected": [
                {
                    "package": {"ecosystem": "Debian:12", "name": source},
                    "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": versions[0]}]}],
                }
            ],
        }
        for source, found in fixes.items()
        for cve, versions in found.items()
    ]
    database = read(orjson.dumps(made))
    assert database.tally.unusable == 0
    for source, found in fixes.items():
        for row in database.feed.about("Debian:12", source):
            fixed = found[row.aliases[0]][0]
            assert not affects(row, fixed)
            assert affects(row, f"{fixed}~before")


def test_the_seed_says_what_the_python_database_says(pypa: Database) -> None:
    ours = read(seed())
    assert (ours.tally.unusable, ours.tally.empty) == (0, 0)
    compared = 0
    for name in ours.feed.names():
        for row in ours.feed.named(name):
            theirs = [one for one in pypa.feed.named(name) if one.name == row.name]
            assert all(one.spans == row.spans for one in theirs), name
            compared += bool(theirs)
    assert compared == 14


def test_every_advisory_of_the_seed_is_rated_and_has_a_fix() -> None:
    ours = read(seed())
    rows = [row for name in ours.feed.names() for row in ours.feed.named(name)]
    assert len(rows) == ours.tally.records
    assert all(row.rating.score and all(span.end for span in row.spans) for row in rows)
