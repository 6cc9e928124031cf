"""Saying that a repository or a project comes near its quota: in the step that crosses a line, and once each time.

What was said last stands in state. Below all lines a step only checks that it crosses none; where that check fails, and
near a quota, the numbers are read anew. So nothing is asked of most pushes, and no crossing is missed in a race.
"""

from collections import OrderedDict
from dataclasses import dataclass, field
from typing import Final

from services.registry.acts import NOTHING, Beside
from services.registry.layout import ALL
from services.registry.ledger import Limits
from services.registry.store import Store
from shared.events import Event
from shared.events.images import QuotaNear
from shared.state import Check, DropField, FieldAtMost, FieldIs, FieldsOf, PutField, Write

LINES: Final = (80, 95)
"""Percent of a quota."""
_MOST = 4096


@dataclass(frozen=True)
class Nearing:
    """Knows the lines."""

    store: Store
    location: str
    above: OrderedDict[tuple[str, str], int] = field(default_factory=OrderedDict[tuple[str, str], int])
    """Lines that were crossed when it was last looked; most quotas are below all lines, and are not in it."""

    async def of(self, limits: Limits, project: str, repository: str, size: int, *, fresh: bool) -> Beside:
        """What belongs into a step that counts `size` bytes more; `fresh` where such a step has just failed."""
        quotas = {place: limit for place, limit in ((repository, limits.repository), (ALL, limits.project)) if limit}
        if not fresh and not any((project, place) in self.above for place in quotas):
            return Beside(
                [check for place, limit in quotas.items() for check in self._below(project, place, limit, size)]
            )
        layout, fields = self.store.layout, tuple(quotas)
        if not fields:
            return NOTHING
        used, said = await self.store.state.look(
            (FieldsOf(layout.sizes(project), fields), FieldsOf(layout.neared(project), fields))
        )
        checks: list[Check] = []
        writes: list[Write] = []
        events: list[Event] = []
        for place, held, before in zip(fields, used, said, strict=True):
            crossing = _Crossing(quotas[place], int(held or "0"), int(before or "0"), size)
            self._remember(project, place, crossing.after)
            checks += [FieldIs(layout.neared(project), place, before), *self._under(project, place, crossing)]
            if crossing.after != crossing.said:
                writes.append(self._said(project, place, crossing.after))
            if crossing.upwards:
                events.append(self._near(project, place, crossing))
        return Beside(checks, writes, events)

    def _below(self, project: str, place: str, limit: int, size: int) -> list[Check]:
        layout, first = self.store.layout, _bytes(limit, LINES[0])
        return [
            FieldIs(layout.neared(project), place, None),
            FieldAtMost(layout.sizes(project), place, first - 1 - size),
        ]

    def _under(self, project: str, place: str, crossing: "_Crossing") -> list[Check]:
        """The step crosses no further line than the one that it tells."""
        further = [line for line in LINES if line > crossing.after]
        if not further:
            return []
        most = _bytes(crossing.limit, further[0]) - 1 - crossing.size
        return [FieldAtMost(self.store.layout.sizes(project), place, most)]

    def _said(self, project: str, place: str, line: int) -> Write:
        key = self.store.layout.neared(project)
        return PutField(key, place, str(line)) if line else DropField(key, place)

    def _near(self, project: str, place: str, crossing: "_Crossing") -> Event:
        return QuotaNear(
            project=project,
            location=self.location,
            repository="" if place == ALL else place,
            percent=crossing.after,
            used=crossing.used + crossing.size,
            limit=crossing.limit,
        )

    def _remember(self, project: str, place: str, line: int) -> None:
        self.above.pop((project, place), None)
        if line:
            self.above[project, place] = line
        while len(self.above) > _MOST:
            self.above.popitem(last=False)


@dataclass(frozen=True)
class _Crossing:
    """One quota, before and after a step."""

    limit: int
    used: int
    said: int
    size: int

    @property
    def after(self) -> int:
        """The highest line that is crossed then."""
        return _line(self.limit, self.used + self.size)

    @property
    def upwards(self) -> bool:
        """Whether the step crosses a line of which nothing was said since the bytes were last below it."""
        return self.after > min(self.said, _line(self.limit, self.used))


def _line(limit: int, used: int) -> int:
    return max((line for line in LINES if used >= _bytes(limit, line)), default=0)


def _bytes(limit: int, line: int) -> int:
    """How many bytes are at the line."""
    return -(-limit * line // 100)
