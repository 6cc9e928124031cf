"""All notes and occurrences of a project as one list: what callers wrote, and behind it what the scanner found."""

import asyncio
from collections.abc import AsyncIterator, Sequence

from services.scanner.filters import Filter, of_note
from services.scanner.listing import Listing
from services.scanner.occurrences import Json
from services.scanner.written.entry import Entry
from services.scanner.written.shelf import Shelf

_OWN = "\x01"
"""How the places of the scanner's own begin in page tokens."""
_STRIDE = 200
"""Entries looked at with one question to the store."""
_MOST = 2000
"""Entries that one call looks at; a page may be short for that."""


class Catalog:
    """Answers what is there. Nothing of it changes anything."""

    def __init__(self, listing: Listing, notes: Shelf, occurrences: Shelf) -> None:
        self._listing = listing
        self._notes = notes
        self._occurrences = occurrences

    # Occurrences.

    async def occurrence(self, project: str, own: str) -> Json | None:
        """One occurrence, by the last part of its name."""
        kept = await self._occurrences.entry(project, own)
        if kept is None:
            return await self._listing.occurrence(project, own)
        return await self._occurrences.content(project, own, kept.thing)

    async def page(self, project: str, wanted: Filter, size: int, after: str) -> tuple[list[Json], str]:
        """Up to `size` occurrences behind `after`, and what the next page begins behind; empty at the end.

        A page may be short, or even empty, before the end: one call looks at a bounded number of them.
        """
        found: list[Json] = []
        if not after.startswith(_OWN):
            found, last = await self._written(project, wanted, size, after)
            if last:
                return found, last
            if len(found) == size:
                return found, _OWN
        return await self._then_own(project, wanted, size, after, found)

    async def page_of_note(
        self, project: str, note: str, wanted: Filter, size: int, after: str
    ) -> tuple[list[Json], str]:
        """Occurrences, of whatever project, that hang on a note."""
        wanted = of_note(project, note, wanted)
        found: list[Json] = []
        if not after.startswith(_OWN):
            names = await self._occurrences.hanging(f"projects/{project}/notes/{note}", after, size)
            found = await self._of_names(names, wanted)
            if len(names) == size:
                return found, names[-1]
        return await self._then_own(project, wanted, size, after, found)

    async def _then_own(
        self, project: str, wanted: Filter, size: int, after: str, found: list[Json]
    ) -> tuple[list[Json], str]:
        start = after.removeprefix(_OWN) if after.startswith(_OWN) else ""
        own, last = await self._listing.page(project, wanted, size - len(found), start)
        return found + own, _OWN + last if last else ""

    async def _written(self, project: str, wanted: Filter, size: int, after: str) -> tuple[list[Json], str]:
        found: list[Json] = []
        looked = 0
        async for place, entry in self._entries(project, wanted, after):
            if len(found) == size or looked == _MOST:
                return found, after
            own = place.rpartition("\n")[2]
            looked, after = looked + 1, place
            if wanted.takes(entry.path, _outline(entry)):
                content = await self._occurrences.content(project, own, entry)
                found += [content] if content else []
        return found, ""

    async def _entries(self, project: str, wanted: Filter, after: str) -> AsyncIterator[tuple[str, Entry]]:
        """Entries of the paths that are asked for, with their places."""
        prefixes = [""] if wanted.resources is None else sorted(f"{path}\n" for path in wanted.resources)
        for prefix in prefixes:
            start = after
            while places := await self._occurrences.places(project, start, prefix, _STRIDE):
                names = [place.rpartition("\n")[2] for place in places]
                entries = await self._occurrences.entries(project, names)
                for place, own in zip(places, names, strict=True):
                    if own in entries:
                        yield place, entries[own]
                start = places[-1]

    async def _of_names(self, names: Sequence[str], wanted: Filter) -> list[Json]:
        async def one(name: str) -> Json | None:
            _, project, _, own = name.split("/")
            kept = await self._occurrences.entry(project, own)
            if kept is None or not wanted.takes(kept.thing.path, _outline(kept.thing)):
                return None
            return await self._occurrences.content(project, own, kept.thing)

        return [content for content in await asyncio.gather(*map(one, names)) if content]

    # Notes.

    async def note(self, project: str, own: str) -> Json | None:
        """One note, by the last part of its name; the scanner's own come first."""
        kept = await self._notes.entry(project, own)
        found = await self._listing.note(project, own)
        return found if found or kept is None else await self._notes.content(project, own, kept.thing)

    async def is_own_note(self, project: str, own: str) -> bool:
        """Whether a note is the scanner's own: nobody else writes it, or hangs anything on it."""
        return await self._listing.note(project, own) is not None

    async def notes(self, project: str, wanted: Filter, size: int, after: str) -> tuple[list[Json], str]:
        """A page of notes; a page may be short before the end."""
        found: list[Json] = []
        if not after.startswith(_OWN):
            places = await self._notes.places(project, after, "", size)
            names = [place.removeprefix("\n") for place in places]
            entries = await self._notes.entries(project, names)
            contents = [await self._notes.content(project, own, entries[own]) for own in names if own in entries]
            found = [one for one in contents if one and wanted.takes("", {"noteName": one["name"], **one})]
            if len(places) == size:
                return found, places[-1]
            after = ""
        own, last = await self._listing.notes(project, max(size - len(found), 1), after.removeprefix(_OWN))
        found += [one for one in own if wanted.takes("", {"noteName": one["name"], **one})]
        return found, _OWN + last if last else ""


def _outline(entry: Entry) -> Json:
    """As much of an occurrence as filters ask for."""
    return {"noteName": entry.note, "kind": entry.kind, "vulnerability": {"severity": entry.severity}}
