"""Scans an image and keeps what was found, with what is said about it, in one step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from services.scanner.advisories.database import Feed
from services.scanner.advisories.knowledge import Knowledge, Snapshot
from services.scanner.findings import Finding, Findings, findings_object
from services.scanner.inventory.image import Inventory
from services.scanner.layers.facts import ANALYSER
from services.scanner.layers.limits import LayerRefused
from services.scanner.layers.reading import Contents, Reader
from services.scanner.manifests import Unsupported
from services.scanner.matching import findings_of
from services.scanner.places import Place
from services.scanner.records import FAILED, UNSUPPORTED, Record, Result
from services.scanner.store import Needs, Store
from shared.blobs import BlobMissing, Blobs
from shared.clock import Clock, Cpu, rfc3339
from shared.events import Cause, Event
from shared.events.scans import NO_ADVISORIES, VulnerabilityChange, VulnerabilityClosed, VulnerabilityOpened
from shared.state import Change, Kept, Moved

TRIES = 16
MOST_CHANGES = 1000
"""Openings and closings said in one step; scan.completed and the findings object have all of them."""
FINDINGS_LIMIT = 64 * 1024 * 1024


class ImageGone(Exception):
    """There is no such manifest in the bucket."""


@dataclass(frozen=True)
class Occasion:
    """Why an image is looked at."""

    cause: Cause
    generation: int = 0
    """Of the push that was heard; 0: of none."""
    again: bool = False
    """Also when nothing can have changed, and said even when nothing did."""


@dataclass(frozen=True)
class _Scan:
    """What one scan brought."""

    result: Result
    found: tuple[Finding, ...] = ()
    needs: Needs | None = None
    """None where the image could not be read."""


@dataclass(frozen=True)
class Scanner:
    """Brings what is known of images up to date."""

    store: Store
    knowledge: Knowledge
    reader: Reader
    blobs: Blobs
    clock: Clock
    cpu: Cpu
    elsewhere: Mapping[str, Blobs] = field(default_factory=dict[str, Blobs])
    """Where registries of other locations keep their bytes."""

    async def bring_up_to_date(self, place: Place, occasion: Occasion) -> None:
        """Scan an image unless that is done, against the advisories of now.

        Feeds may change while the scan runs, and the round of all images that follows a change may have passed this
        one before it was there; so the feeds are looked at once more behind the step. Raises ImageGone, Moved.
        """
        for _ in range(TRIES):
            snapshot = await self.knowledge.snapshot(place.project)
            before = await self.store.record(place.project, place.id)
            try:
                await self._once(place, occasion, snapshot, before)
            except Moved:
                continue
            if (await self.knowledge.snapshot(place.project)).id == snapshot.id:
                return
        raise Moved

    async def forget(self, place: Place, generation: int, cause: Cause) -> None:
        """An image is gone. Raises Moved."""
        for _ in range(TRIES):
            before = await self.store.record(place.project, place.id)
            if before is not None and before.thing.generation >= generation:
                return
            tombstone = Record(place=place.text, generation=generation, deleted=True)
            try:
                await self.store.bury_record(place, tombstone, before, Change(f"{cause.id}:{place.id}:gone", cause))
            except Moved:
                continue
            return
        raise Moved

    async def _once(self, place: Place, occasion: Occasion, snapshot: Snapshot, before: Kept[Record] | None) -> None:
        if before is not None and before.thing.deleted and before.thing.generation >= occasion.generation:
            return
        if before is not None and before.thing.is_current(snapshot.id) and not occasion.again:
            await self._note_generation(place, occasion, before)
            return
        scan = await self._scanned(place, snapshot, before)
        result = scan.result
        record = self._record(place, occasion, snapshot, before, result)
        same = before is not None and not before.thing.deleted and before.thing.result == result
        # Nothing found among advisories is news after nothing found among none.
        informed = before is not None and before.thing.advisories == NO_ADVISORIES != snapshot.id
        events = (
            []
            if same and not informed and not occasion.again
            else [record.completed(place), *await self._changes(place, before, scan.found)]
        )
        # One cause may bring many images up to date, and one image twice: each of these is a cause of its own.
        cause = Cause(f"{occasion.cause.id}/{place.id}/{snapshot.id}", occasion.cause.actor, occasion.cause.traceparent)
        await self.store.put_record(place, record, before, Change(f"{cause.id}:scan", cause, events), scan.needs)

    async def _note_generation(self, place: Place, occasion: Occasion, before: Kept[Record]) -> None:
        """A digest that was pushed again: only that it is newer than an older deletion is new."""
        if before.thing.generation >= occasion.generation:
            return
        record = before.thing.model_copy(update={"generation": occasion.generation})
        request = f"{occasion.cause.id}:{place.id}:generation"
        await self.store.put_record(place, record, before, Change(request, occasion.cause))

    def _record(
        self, place: Place, occasion: Occasion, snapshot: Snapshot, before: Kept[Record] | None, result: Result
    ) -> Record:
        now = rfc3339(self.clock.now())
        known = before.thing if before is not None else Record(place=place.text, generation=0)
        return Record(
            place=place.text,
            generation=max(known.generation, occasion.generation),
            result=result,
            advisories=snapshot.id,
            analyser=ANALYSER,
            created=now if known.deleted else known.created or now,
            scanned=now,
        )

    async def _scanned(self, place: Place, snapshot: Snapshot, before: Kept[Record] | None) -> _Scan:
        try:
            contents = await self.reader.at(self.elsewhere.get(place.location)).contents(
                place.project, place.digest, lambda layer: self.store.holds(place, layer)
            )
        except BlobMissing as error:
            raise ImageGone(place.text) from error
        except LayerRefused as error:
            return _Scan(Result(status=FAILED, reason=str(error)[:500]))
        except Unsupported as error:
            return _Scan(Result(status=UNSUPPORTED, reason=str(error)[:500]))
        except ValueError:
            return _Scan(Result(status=FAILED, reason="the manifest cannot be read"))
        findings, content = await self._matched(place, contents, snapshot)
        name = await self._named(place, content, before)
        await self.blobs.put(name, content)
        needs = Needs(images=tuple(contents.images), layers=tuple(contents.layers))
        return _Scan(Result.of(findings, name), findings.findings, needs)

    async def _matched(self, place: Place, contents: Contents, snapshot: Snapshot) -> tuple[Findings, bytes]:
        try:
            feeds = await self.knowledge.feeds(snapshot)
        except BlobMissing as error:  # replaced, and cleared already
            raise Moved from error
        return await self.cpu(lambda: _matched(place.digest, contents.inventories, feeds))

    async def _named(self, place: Place, content: bytes, before: Kept[Record] | None) -> str:
        """Where findings are to lie: where they lie already, or else at a name that was never cleared."""
        name = findings_object(place.project, place.digest, content)
        known = before.thing.result.findings if before else ""
        if known == name or known.startswith(f"{name}-"):
            return known
        number = 0
        while await self.store.objects.is_retired(place.project, name):
            number += 1
            name = findings_object(place.project, place.digest, content, number)
        return name

    async def _changes(self, place: Place, before: Kept[Record] | None, found: Sequence[Finding]) -> Sequence[Event]:
        """What is affected now and was not, and the other way round; an image's first scan changes nothing."""
        if before is None or before.thing.deleted or not before.thing.result.findings:
            return []
        try:
            content = await self.blobs.content(before.thing.result.findings, FINDINGS_LIMIT)
        except BlobMissing:
            return []
        old = {_key(finding): finding for finding in Findings.read(content).findings}
        new = {_key(finding): finding for finding in found}
        opened = [_change(VulnerabilityOpened, place, new[key]) for key in sorted(new.keys() - old.keys())]
        closed = [_change(VulnerabilityClosed, place, old[key]) for key in sorted(old.keys() - new.keys())]
        return [*opened, *closed][:MOST_CHANGES]


def _matched(digest: str, inventories: Sequence[Inventory], feeds: Sequence[Feed]) -> tuple[Findings, bytes]:
    """The findings of all images of an index together: whichever of them runs, what it has is among them."""
    found = {_key(finding): finding for inventory in inventories for finding in findings_of(inventory, feeds)}
    findings = Findings(
        digest=digest,
        distribution=next((one.distribution.ecosystem for one in inventories if one.distribution.ecosystem), ""),
        packages=max((len(one.installed) for one in inventories), default=0),
        kinds=tuple(sorted({installed.package.kind for one in inventories for installed in one.installed})),
        findings=tuple(found[key] for key in sorted(found)),
    )
    return findings, findings.written()


def _key(finding: Finding) -> tuple[str, str, str, str]:
    return finding.advisory, finding.ecosystem, finding.package, finding.version


def _change(kind: type[VulnerabilityChange], place: Place, finding: Finding) -> VulnerabilityChange:
    return kind(
        project=place.project,
        location=place.location,
        repository=place.repository,
        image=place.image,
        digest=place.digest,
        advisory=finding.advisory,
        severity=finding.severity,
        package=finding.package,
        version=finding.version,
    )
