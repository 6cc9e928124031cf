"""What the scanner remembers: a record of each image, the feeds of each project, and which attestations it heard of."""

from collections.abc import AsyncIterator, Sequence

import orjson
from pydantic import BaseModel, ConfigDict, model_validator

from services.scanner.advisories.subscriptions import Visit
from services.scanner.objects import TOMBSTONE_SECONDS, Objects
from services.scanner.places import Place
from services.scanner.records import Record
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import (
    Change,
    Check,
    Drop,
    FieldIs,
    Index,
    Kept,
    Keys,
    Put,
    PutField,
    State,
    Step,
    Unindex,
    ValueIs,
    Write,
)

_PAGE = 500


class FeedRecord(BaseModel):
    """One feed of advisories of a project, as its last import left it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    feed: str
    """Id of the feed's content."""
    object: str = ""
    """Where that content lies."""
    records: int = 0
    imported: str = ""

    @model_validator(mode="before")
    @classmethod
    def _old(cls, found: dict[str, str]) -> dict[str, str]:
        """Records of old do not say where: at a place named by the content's id."""
        return {"object": f"scanner/advisories/{found['feed'][:2]}/{found['feed']}", **found}


class Needs(BaseModel):
    """What an image stands on: digests of its images, where it is an index, and of the layers its repository holds."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    images: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()


class Store:
    """The scanner's records over a state store."""

    def __init__(self, state: State, keys: Keys, outbox: Outbox) -> None:
        self._state = state
        self._keys = keys
        self._outbox = outbox
        self.objects = Objects(state, keys)

    # Images.

    async def record(self, project: str, identity: str) -> Kept[Record] | None:
        """The record of an image, by its place's id; also of a deleted one."""
        raw = await self._state.value(self._image(project, identity))
        return None if raw is None else Kept(Record.model_validate_json(raw), raw)

    async def put_record(
        self, place: Place, record: Record, before: Kept[Record] | None, change: Change, needs: Needs | None = None
    ) -> None:
        """Write a record and say what it changes; `needs` is None where they are as they were.

        Raises Moved when it is no longer as `before`, or its findings object was cleared meanwhile.
        """
        key = self._image(place.project, place.id)
        old, new = before.thing.result.findings if before else "", record.result.findings
        writes = (
            Put(key, record.model_dump_json(exclude_defaults=True)),
            Index(self._images(place.project), place.text),
            Index(self._projects(partition_of(place.project)), place.project),
            *self.objects.instead(place.project, old, new, place.text),
            *(await self._needed(place, needs) if needs is not None else ()),
        )
        await self._apply(place.project, (_is_as(key, before), *self.objects.last(place.project, new)), writes, change)

    async def bury_record(self, place: Place, record: Record, before: Kept[Record] | None, change: Change) -> None:
        """Put a tombstone in a record's place. Raises Moved."""
        key = self._image(place.project, place.id)
        writes = (
            Put(key, record.model_dump_json(exclude_defaults=True), TOMBSTONE_SECONDS),
            Unindex(self._images(place.project), place.text),
            Drop(self._attested(place)),
            *self.objects.instead(place.project, before.thing.result.findings if before else "", "", place.text),
            *await self._needed(place, Needs()),
        )
        await self._apply(place.project, (_is_as(key, before),), writes, change)

    async def needs(self, place: Place) -> Needs:
        """What an image stands on, as far as a scan came to know it."""
        raw = await self._state.value(self._needs(place))
        return Needs() if raw is None else Needs.model_validate_json(raw)

    async def holds(self, place: Place, layer: str) -> bool:
        """Whether an image of the same repository is known that has this layer for its own."""
        near = f"{place.location}/{place.repository}/"
        return bool(await self._state.members(self._holders(place.project, layer), prefix=near, limit=1))

    async def places(self, project: str, after: str = "", limit: int = _PAGE) -> list[Place]:
        """A page of a project's images."""
        found = await self._state.members(self._images(project), after=after, limit=limit)
        return [Place.named(project, text) for text in found]

    async def all_places(self, project: str, after: str = "") -> AsyncIterator[Place]:
        """All images of a project, behind a place's text."""
        while page := await self.places(project, after):
            for place in page:
                yield place
            after = page[-1].text

    async def projects(self) -> AsyncIterator[str]:
        """All projects that have images, or had some."""
        for partition in self._keys.all_partitions():
            after = ""
            while page := await self._state.members(self._projects(partition), after=after):
                for project in page:
                    yield project
                after = page[-1]

    # Feeds.

    async def feeds(self, project: str) -> dict[str, FeedRecord]:
        """The feeds of a project, by source."""
        found = await self._state.record(self._feeds(project))
        return {source: FeedRecord.model_validate_json(found[source]) for source in sorted(found)}

    async def feed(self, project: str, source: str) -> Kept[FeedRecord] | None:
        """One feed of a project; None where there is none."""
        raw = await self._state.field(self._feeds(project), source)
        return None if raw is None else Kept(FeedRecord.model_validate_json(raw), raw)

    async def put_feed(
        self, project: str, source: str, feed: FeedRecord, before: Kept[FeedRecord] | None, change: Change
    ) -> None:
        """Write a feed. Raises Moved when it is no longer as `before`, or its object was cleared meanwhile."""
        key = self._feeds(project)
        writes = (
            PutField(key, source, feed.model_dump_json()),
            *self.objects.instead(project, before.thing.object if before else "", feed.object, source),
        )
        checks = (FieldIs(key, source, before.raw if before else None), *self.objects.last(project, feed.object))
        await self._apply(project, checks, writes, change)

    async def _needed(self, place: Place, needs: Needs) -> list[Write]:
        """What changes where an image comes to stand on something else; the step's other checks guard it."""
        before, key = await self.needs(place), self._needs(place)
        if needs == before:
            return []
        old, new = {*before.images, *before.layers}, {*needs.images, *needs.layers}
        return [
            Put(key, needs.model_dump_json(exclude_defaults=True)) if new else Drop(key),
            *(Unindex(self._holders(place.project, digest), place.text) for digest in sorted(old - new)),
            *(Index(self._holders(place.project, digest), place.text) for digest in sorted(new - old)),
        ]

    async def visit(self, project: str, source: str) -> Visit | None:
        """How the last visit to a source's address went."""
        raw = await self._state.field(self._visits(project), source)
        return None if raw is None else Visit.model_validate_json(raw)

    async def put_visit(self, project: str, source: str, visit: Visit, request: str) -> None:
        """Note a visit."""
        write = PutField(self._visits(project), source, visit.model_dump_json(exclude_defaults=True))
        await self._state.apply(Step(partition_of(project), request, writes=(write,)))

    # Attestations.

    async def put_attestation(self, place: Place, name: str, attestation: dict[str, str], change: Change) -> None:
        """Remember that an attestation was made."""
        write = PutField(self._attested(place), name, orjson.dumps(attestation).decode())
        await self._apply(place.project, (), (write,), change)

    async def attestations(self, place: Place) -> dict[str, dict[str, str]]:
        """The attestations of an image, by the name of their object."""
        found = await self._state.record(self._attested(place))
        return {name: orjson.loads(found[name]) for name in sorted(found)}

    # Keys.

    async def _apply(self, project: str, checks: Sequence[Check], writes: Sequence[Write], change: Change) -> None:
        drafts = self._outbox.drafts(change.events, change.cause)
        # Counted, so that whoever hears of two scans knows the later one.
        counter = f"{project}/scans" if drafts else ""
        step = Step(partition_of(project), change.request, tuple(checks), tuple(writes), drafts=drafts, counter=counter)
        await self._state.apply(step)

    def _image(self, project: str, identity: str) -> str:
        return self._keys.of(project, "image", identity)

    def _images(self, project: str) -> str:
        return self._keys.of(project, "images")

    def _projects(self, partition: str) -> str:
        return self._keys.at(partition, "projects")

    def _feeds(self, project: str) -> str:
        return self._keys.of(project, "feeds")

    def _visits(self, project: str) -> str:
        return self._keys.of(project, "visits")

    def _needs(self, place: Place) -> str:
        return self._keys.of(place.project, "needs", place.id)

    def _holders(self, project: str, digest: str) -> str:
        return self._keys.of(project, "holders", digest)

    def _attested(self, place: Place) -> str:
        return self._keys.of(place.project, "attested", place.id)


def _is_as(key: str, before: Kept[Record] | None) -> Check:
    return ValueIs(key, before.raw if before else None)
