"""A feed's advisories by package, as they are written and as they are looked up.

Each package's rows are one line of JSON and stay bytes in memory until they are asked for: a database of some 300,000
rows then needs some 100 MB, and one lookup some microseconds.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import orjson

from services.scanner.advisories.record import Advisory, RecordUnusable, Row, advisory

_CVE = re.compile(r"CVE-\d{4}-\d{4,}")


def canonical(row: Row) -> str:
    """The name under which all databases know an advisory: its CVE, where it is one and no collection of several."""
    cves = [name for name in (row.id, *row.aliases) if _CVE.fullmatch(name)]
    return cves[0] if len(set(cves)) == 1 else row.id


@dataclass
class Tally:
    """What an import brought."""

    records: int = 0
    withdrawn: int = 0
    unusable: int = 0
    empty: int = 0
    """Records that say nothing of packages that can be matched here."""
    ecosystems: dict[str, int] = field(default_factory=dict[str, int])
    complaints: list[str] = field(default_factory=list[str])
    """The first few reasons."""


class Gathering:
    """Collects records into a feed, one at a time; a later record of the same id replaces an earlier one."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._rows: dict[str, list[bytes]] = {}

    def take(self, documents: Iterable[object]) -> int:
        """Take some documents and return how many."""
        before = self.tally.records
        for document in documents:
            self.tally.records += 1
            try:
                if isinstance(document, RecordUnusable):
                    raise document
                self._put(advisory(document))
            except RecordUnusable as error:
                self.tally.unusable += 1
                if len(self.tally.complaints) < 5:
                    self.tally.complaints.append(str(error)[:300])
        return self.tally.records - before

    def _put(self, found: Advisory) -> None:
        self.tally.withdrawn += found.withdrawn
        self.tally.empty += not found.rows and not found.withdrawn
        self._rows[found.id] = [_line(row) for row in found.rows]
        for ecosystem in {row.ecosystem for row in found.rows}:
            self.tally.ecosystems[ecosystem] = self.tally.ecosystems.get(ecosystem, 0) + 1

    def written(self) -> bytes:
        """The feed: a line for each package, in order, so that the same advisories are the same bytes."""
        packages: dict[bytes, list[bytes]] = {}
        for _, lines in sorted(self._rows.items()):
            for line in lines:
                key, _, row = line.partition(b"\n")
                packages.setdefault(key, []).append(row)
        return b"".join(b"%b\t[%b]\n" % (key, b",".join(rows)) for key, rows in sorted(packages.items()))


def _line(row: Row) -> bytes:
    return _key(row.ecosystem, row.name) + b"\n" + orjson.dumps(row.model_dump(mode="json", exclude_defaults=True))


def _key(ecosystem: str, name: str) -> bytes:
    return f"{ecosystem} {name}".translate({9: " ", 10: " ", 13: " "}).encode(errors="replace")


class Feed:
    """One feed, for looking up."""

    def __init__(self, content: bytes) -> None:
        """`content` is what a Gathering wrote."""
        lines = (line.partition(b"\t") for line in content.split(b"\n") if line)
        self.packages: Mapping[bytes, bytes] = {key: rows for key, _, rows in lines}
        self._keys: dict[str, list[bytes]] | None = None

    def about(self, ecosystem: str, name: str) -> Iterator[Row]:
        """What is known of a package."""
        return self._rows(_key(ecosystem, name))

    def named(self, name: str) -> Iterator[Row]:
        """The rows of one advisory, by its canonical name."""
        return (row for key in self._by_name().get(name, ()) for row in self._rows(key) if canonical(row) == name)

    def names(self) -> list[str]:
        """The canonical names of all advisories, in order."""
        return sorted(self._by_name())

    def changed(self, other: "Feed") -> list[str]:
        """Ids of the advisories whose rows are not the same in both."""
        found: set[str] = set()
        for key in self.packages.keys() | other.packages.keys():
            if self.packages.get(key) != other.packages.get(key):
                mine, others = list(self._rows(key)), list(rows_of(other.packages.get(key, b"[]")))
                found.update(row.id for row in mine if row not in others)
                found.update(row.id for row in others if row not in mine)
        return sorted(found)

    def _rows(self, key: bytes) -> Iterator[Row]:
        return rows_of(self.packages.get(key, b"[]"))

    def _by_name(self) -> dict[str, list[bytes]]:
        if self._keys is None:
            self._keys = {}
            for key in self.packages:
                for name in dict.fromkeys(canonical(row) for row in self._rows(key)):
                    self._keys.setdefault(name, []).append(key)
        return self._keys


def rows_of(line: bytes) -> Iterator[Row]:
    """The rows of one package's line."""
    found: list[Any] = orjson.loads(line)
    return (Row.model_validate(one) for one in found)


def content_id(content: bytes) -> str:
    """The id of a feed, or of anything else here that is named by its content."""
    return hashlib.sha256(content).hexdigest()[:32]
