"""Lists the scanner's own occurrences and notes out of what is stored: nothing is kept twice."""

from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from services.scanner import occurrences
from services.scanner.advisories.knowledge import Knowledge
from services.scanner.filters import Filter
from services.scanner.findings import Findings
from services.scanner.occurrences import DISCOVERY_NOTE, Json
from services.scanner.places import Place, place_at
from services.scanner.scanning import FINDINGS_LIMIT
from services.scanner.store import Store
from shared.blobs import BlobMissing, Blobs
from shared.clock import Cpu
from shared.http.errors import Unavailable

MOST_IMAGES = 200
"""Images that one call looks into; a page may be short for that."""


class Listing:
    """Occurrences and notes of projects."""

    def __init__(  # noqa: PLR0913, PLR0917
        self, store: Store, knowledge: Knowledge, blobs: Blobs, cpu: Cpu, host: str, locations: Sequence[str]
    ) -> None:
        """`host` is the name under which images are listed, `locations` where registries are."""
        self._store = store
        self._knowledge = knowledge
        self._blobs = blobs
        self._cpu = cpu
        self._host = host
        self._locations = locations

    async def page(self, project: str, wanted: Filter, size: int, after: str) -> tuple[list[Json], str]:
        """Up to `size` occurrences behind `after`, and what the next page begins behind; empty at the end.

        A page may be short, or even empty, before the end: one call looks into a bounded number of images.
        """
        image, _, last = after.partition("\n")
        found: list[Json] = []
        async for number, place in self._places(project, wanted, image):
            for occurrence in await self._of(place, wanted):
                name = str(occurrence["name"])
                if place.text == image and name <= last:
                    continue
                if len(found) == size:
                    return found, after
                found.append(occurrence)
                after = f"{place.text}\n{name}"
            if number == MOST_IMAGES:
                return found, f"{place.text}\n~"
        return found, ""

    async def occurrence(self, project: str, name: str) -> Json | None:
        """One occurrence, by the last part of its name."""
        kept = await self._store.record(project, name.partition("-")[0])
        if kept is None or kept.thing.deleted:
            return None
        place = Place.named(project, kept.thing.place)
        full = f"projects/{project}/occurrences/{name}"
        return next((one for one in await self._of(place, Filter()) if one["name"] == full), None)

    async def summary(self, project: str, wanted: Filter) -> list[Json]:
        """Findings by image and severity."""
        found: list[Json] = []
        async for _, place in self._places(project, wanted, ""):
            kept = await self._store.record(project, place.id) if wanted.takes(place.path) else None
            if kept is not None and not kept.thing.deleted:
                found += occurrences.counts(place, self._host_of(place), kept.thing)
        return found

    async def note(self, project: str, name: str) -> Json | None:
        """The note of an advisory, or that of discoveries."""
        if name == DISCOVERY_NOTE:
            return {"name": f"projects/{project}/notes/{name}", "kind": "DISCOVERY", "shortDescription": name}
        feeds = await self._knowledge.feeds(await self._knowledge.snapshot(project))
        rows = await self._cpu(lambda: [row for feed in feeds for row in feed.named(name)])
        return occurrences.note(project, name, rows) if rows else None

    async def notes(self, project: str, size: int, after: str) -> tuple[list[Json], str]:
        """Notes of all advisories that hold for a project, by name."""
        feeds = await self._knowledge.feeds(await self._knowledge.snapshot(project))
        names = await self._cpu(lambda: sorted({name for feed in feeds for name in feed.names() if name > after}))
        found = [await self.note(project, name) for name in names[:size]]
        return [one for one in found if one], names[size - 1] if len(names) > size else ""

    async def _places(self, project: str, wanted: Filter, image: str) -> AsyncIterator[tuple[int, Place]]:
        """The images asked for, counted, from `image` on."""
        if wanted.resources is not None:
            named = {
                place_at(f"https://{self._host}/{path}", location)
                for path in wanted.resources
                for location in self._locations
            }
            places = sorted((one for one in named if one and one.project == project), key=lambda one: one.text)
            for number, place in enumerate((one for one in places if one.text >= image), 1):
                yield number, place
            return
        number = 0
        if image:
            number = 1
            yield number, Place.named(project, image)
        async for place in self._store.all_places(project, image):
            number += 1
            yield number, place

    async def _of(self, place: Place, wanted: Filter) -> list[Json]:
        """The occurrences of one image that are asked for, by name."""
        kept = await self._store.record(place.project, place.id) if wanted.takes(place.path) else None
        if kept is None or kept.thing.deleted:
            return []
        record, findings = kept.thing, await self._findings(kept.thing.result.findings)
        found = [
            occurrences.discovery(place, self._host_of(place), record, findings.kinds),
            *occurrences.vulnerabilities(place, self._host_of(place), record, findings),
            *await self._attestations(place),
        ]
        return sorted((one for one in found if wanted.takes(place.path, one)), key=lambda one: str(one["name"]))

    def _host_of(self, place: Place) -> str:
        return self._host.replace("LOCATION", place.location)

    async def _findings(self, name: str) -> Findings:
        if not name:
            return Findings(digest="")
        try:
            content = await self._blobs.content(name, FINDINGS_LIMIT)
        except BlobMissing as error:  # superseded and cleared since the record was read
            raise Unavailable("The findings changed just now: ask again.") from error
        return await self._cpu(lambda: Findings.read(content))

    async def _attestations(self, place: Place) -> list[Json]:
        found: list[Json] = []
        for name, known in (await self._store.attestations(place)).items():
            content: bytes | None = None
            with suppress(BlobMissing, ValueError):
                content = await self._blobs.content(name)
            found.append(occurrences.attestation(place, self._host_of(place), name, known, content))
        return found
