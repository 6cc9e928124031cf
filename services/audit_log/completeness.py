"""Completeness: which numbers of each source have come, so that an entry that got lost on its way shows."""

from collections.abc import Iterator
from dataclasses import dataclass, field

MOST_GAPS = 256
"""Intervals remembered for one source; beyond that the oldest two are taken as one."""


@dataclass
class Numbers:
    """The numbers of one source that have come: all below `next` but for the gaps."""

    next: int = 1
    gaps: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    """Missing intervals, both ends included, in order."""

    def came(self, number: int) -> None:
        """Take a number; one that came before changes nothing."""
        if number >= self.next:
            if number > self.next:
                self.gaps.append((self.next, number - 1))
                self._bound()
            self.next = number + 1
        elif number > 0:
            self.gaps = [rest for gap in self.gaps for rest in _without(gap, number)]

    def missing(self) -> int:
        """How many have not come."""
        return sum(last - first + 1 for first, last in self.gaps)

    def _bound(self) -> None:
        if len(self.gaps) > MOST_GAPS:
            (first, _), (_, last) = self.gaps[:2]
            self.gaps[:2] = [(first, last)]


def _without(gap: tuple[int, int], number: int) -> Iterator[tuple[int, int]]:
    first, last = gap
    if not first <= number <= last:
        yield gap
        return
    if first < number:
        yield first, number - 1
    if number < last:
        yield number + 1, last


@dataclass
class Completeness:
    """The numbers of all sources, each a producer, a topic and a project."""

    sources: dict[tuple[str, str, str], Numbers] = field(default_factory=dict[tuple[str, str, str], Numbers])

    def came(self, producer: str, topic: str, project: str, number: int) -> None:
        """Take the number of one entry; entries without a number are not counted."""
        if number > 0:
            self.sources.setdefault((producer, topic, project), Numbers()).came(number)

    def incomplete(self, project: str | None = None) -> dict[tuple[str, str, str], Numbers]:
        """The sources of which something is missing, of one project or of all."""
        return {
            source: numbers
            for source, numbers in sorted(self.sources.items())
            if numbers.gaps and (project is None or source[2] == project)
        }

    def missing(self) -> int:
        """How many entries have not come, of all sources."""
        return sum(numbers.missing() for numbers in self.sources.values())
