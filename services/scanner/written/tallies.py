"""How much callers of one project wrote about one image: so much and no more, as others read it with what is theirs."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Self

from services.scanner.written.entry import Entry
from services.scanner.written.kinds import SIGNED
from shared.http.errors import ResourceExhausted


@dataclass(frozen=True)
class Tally:
    """Occurrences, and the bytes of their contents."""

    count: int = 0
    size: int = 0

    @classmethod
    def read(cls, raw: str | None) -> Self:
        """A tally as it is kept; absent, of nothing."""
        return cls(*map(int, raw.split())) if raw else cls()

    def stored(self) -> str:
        """The tally as it is kept."""
        return f"{self.count} {self.size}"

    def moved(self, entry: Entry, sign: int) -> "Tally":
        """With an entry more, or less."""
        return Tally(self.count + sign, self.size + sign * entry.size)


OF_A_NOTE: Final = Tally(256, 2 * 1024 * 1024)
"""What of one project may hang on one note about one image."""
SIGNED_IN_ALL: Final = Tally(512, 2 * 1024 * 1024)
"""What of one project may be signed about one image, on whatever notes: whoever decides about the image reads it."""


def accounts(entries: Iterable[Entry]) -> list[str]:
    """The tallies that entries count in; what was written before anything was counted counts in none."""
    return list(dict.fromkeys(field for entry in entries for field in _fields(entry)))


def counted(before: Mapping[str, Tally], gone: Iterable[Entry], come: Iterable[Entry]) -> dict[str, Tally]:
    """The tallies behind a change. Raises ResourceExhausted where one grows beyond what it may be."""
    after = dict(before)
    for entries, sign in ((gone, -1), (come, 1)):
        for entry in entries:
            for field in _fields(entry):
                after[field] = after[field].moved(entry, sign)
    for field, tally in after.items():
        _require_room(field, before[field], tally)
    return after


def _fields(entry: Entry) -> list[str]:
    about = entry.path.rpartition("@")[2]
    signed = [about] if entry.kind in SIGNED else []
    return [f"{about}\n{entry.note}", *signed] if entry.size else []


def _require_room(field: str, before: Tally, after: Tally) -> None:
    about, _, note = field.partition("\n")
    most = OF_A_NOTE if note else SIGNED_IN_ALL
    what = f"occurrences about {about} on {note}" if note else f"attestations about {about}"
    if after.count > max(before.count, most.count):
        raise ResourceExhausted(f"A project may have {most.count} {what}: delete some first.")
    if after.size > max(before.size, most.size):
        raise ResourceExhausted(f"A project may have {most.size} bytes of {what}: delete some first.")
