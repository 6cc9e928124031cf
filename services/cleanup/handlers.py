"""What cleanup does about what it hears: it remembers versions, tags and what runs."""

from collections import defaultdict
from collections.abc import Callable
from datetime import datetime

import orjson

from services.cleanup.store import Place, Store, name_of
from services.cleanup.versions import Name, Running, TagRecord, VersionRecord
from shared.blobs import BlobMissing
from shared.blobs.elsewhere import Buckets
from shared.bus import Heard
from shared.events.attestations import AdmissionDecided
from shared.events.images import (
    ImageDeleted,
    ImageEvent,
    ImagePulled,
    ImagePushed,
    ImageUntagged,
    ReferrerAttached,
)
from shared.names import LOCATION, PROJECT, REPOSITORY_ID, manifest_object
from shared.state import Fold

MOST_CHILDREN = 1000
_MINUTE = len("2026-01-01T00:00")
_INDEXES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
)


class Handlers:
    """Event in; records out."""

    def __init__(self, store: Store, buckets: Buckets) -> None:
        self._store = store
        self._buckets = buckets

    async def on_pushed(self, heard: Heard[ImagePushed]) -> None:
        """A version is there, and a tag perhaps points at it instead of another."""
        event, place = heard.event, _place(heard.event)
        record = VersionRecord(
            generation=heard.generation,
            changed=_time(heard.time),
            uploaded=_told(event.uploaded, heard.time),
            size=event.size,
            subject=event.subject_digest,
            children=await self._children(event),
        )
        folds = [self._store.version(place, Name(event.image, event.digest), _newer(record))]
        if event.tag:
            folds.append(self._tag(heard, place, event.tag, event.digest))
        if event.previous_digest and event.previous_digest != event.digest:
            folds.append(self._touched(heard, place, event.previous_digest))
        await self._store.learn(event.project, f"{heard.id} facts", folds)

    async def on_attached(self, heard: Heard[ReferrerAttached]) -> None:
        """A version is there that somebody asked for and nobody pushed: it goes with what it refers to."""
        event, place = heard.event, _place(heard.event)
        record = VersionRecord(
            generation=heard.generation,
            changed=_time(heard.time),
            uploaded=heard.time,
            size=event.size,
            subject=event.subject_digest,
        )
        fold = self._store.version(place, Name(event.image, event.digest), _newer(record))
        await self._store.learn(event.project, f"{heard.id} facts", [fold])

    async def on_untagged(self, heard: Heard[ImageUntagged]) -> None:
        """A tag is gone; what it pointed at is another thing now."""
        event, place = heard.event, _place(heard.event)
        folds = [self._tag(heard, place, event.tag, ""), self._touched(heard, place, event.digest)]
        await self._store.learn(event.project, f"{heard.id} facts", folds)

    async def on_deleted(self, heard: Heard[ImageDeleted]) -> None:
        """A version is gone with its tags; a tombstone stays, for what may still come late."""
        event, place = heard.event, _place(heard.event)
        gone = VersionRecord(generation=heard.generation, deleted=True, changed=_time(heard.time))
        folds = [self._store.version(place, Name(event.image, event.digest), _newer(gone))]
        folds += [self._tag(heard, place, tag, "") for tag in dict.fromkeys(event.tags)]
        await self._store.learn(event.project, f"{heard.id} facts", folds)

    async def on_pulled(self, heard: Heard[ImagePulled]) -> None:
        """Somebody pulled it, or what it lists; exact to a minute, so that nothing is written more often than that."""
        event, place = heard.event, _place(heard.event)

        def pulled(raw: str | None) -> str | None:
            known = VersionRecord.model_validate_json(raw) if raw else None
            if known is None or known.deleted or known.pulled[:_MINUTE] >= event.last_pulled[:_MINUTE]:
                return None
            return known.model_copy(update={"pulled": event.last_pulled}).stored()

        fold = self._store.version(place, Name(event.image, event.digest), pulled)
        await self._store.learn(event.project, f"{heard.id} facts", [fold])

    async def on_admitted(self, heard: Heard[AdmissionDecided]) -> None:
        """Images were let into a cluster: they run there, as far as we know.

        Which of them lie here, and may be spoken for by that cluster, is the attestor's word.
        """
        event = heard.event
        if not event.allowed:
            return
        where = "/".join(part for part in (event.cluster, event.namespace) if part) or event.project
        running = Running(when=_time(heard.time), where=where)
        folds: dict[str, list[Fold]] = defaultdict(list)
        for place, name in filter(None, map(_at, event.running)):
            folds[place.project].append(self._store.running(place, name, _later(running)))
        for project, of_project in folds.items():
            await self._store.learn(project, f"{heard.id} {project}", of_project)

    def _tag(
        self,
        heard: Heard[ImagePushed] | Heard[ImageUntagged] | Heard[ImageDeleted],
        place: Place,
        tag: str,
        digest: str,
    ) -> Fold:
        record = TagRecord(generation=heard.generation, digest=digest, changed=_time(heard.time))

        def points(raw: str | None) -> str | None:
            if raw is not None and TagRecord.model_validate_json(raw).generation >= record.generation:
                return None
            return record.stored()

        return self._store.tag(place, heard.event.image, tag, points)

    def _touched(self, heard: Heard[ImagePushed] | Heard[ImageUntagged], place: Place, digest: str) -> Fold:
        """A version whose tags changed is a later one to its owner too."""

        def touched(raw: str | None) -> str | None:
            # A version whose push is late has to be as new as this by the time it is heard of: it would be asked for by
            # a generation that its owner no longer has, and be kept for ever.
            known = VersionRecord.model_validate_json(raw) if raw else VersionRecord(generation=0)
            if known.generation >= heard.generation:
                return None
            if known.deleted:
                return VersionRecord(generation=heard.generation, buried=known.generation).stored()
            return known.model_copy(update={"generation": heard.generation}).stored()

        return self._store.version(place, Name(heard.event.image, digest), touched)

    async def _children(self, event: ImagePushed) -> tuple[str, ...]:
        """What an index lists; nothing when it is gone already."""
        if event.media_type not in _INDEXES:
            return ()
        try:
            blobs = self._buckets.of(event.location)
            manifest = orjson.loads(await blobs.content(manifest_object(event.project, event.digest)))
            return tuple(str(child["digest"]) for child in manifest["manifests"][:MOST_CHILDREN])
        except (BlobMissing, ValueError, KeyError, TypeError):
            return ()


def _newer(record: VersionRecord) -> Callable[[str | None], str | None]:
    def become(raw: str | None) -> str | None:
        known = VersionRecord.model_validate_json(raw) if raw else None
        if known is None:
            return record.stored()
        if known.generation >= record.generation:
            return _older(known, record) if known.awaits_push else None
        # A version that is pushed again keeps the time of its first upload, as at Google.
        first = known.uploaded if not known.deleted and not record.deleted else ""
        return record.model_copy(update={"uploaded": first or record.uploaded, "pulled": known.pulled}).stored()

    return become


def _older(known: VersionRecord, record: VersionRecord) -> str | None:
    """The push that was awaited; or an earlier deletion, before which no push counts."""
    if record.generation <= known.buried:
        return None
    if record.deleted:
        return known.model_copy(update={"buried": record.generation}).stored()
    return record.model_copy(update={"generation": known.generation}).stored()


def _later(running: Running) -> Callable[[str | None], str | None]:
    def become(raw: str | None) -> str | None:
        known = Running.model_validate_json(raw) if raw else None
        return None if known is not None and known.when >= running.when else running.stored()

    return become


def _place(event: ImageEvent) -> Place:
    return Place(event.project, event.location, event.repository)


def _at(running: str) -> tuple[Place, Name] | None:
    """Where an image lies that was let in; None for what is not the name of one."""
    project, location, repository, member = (*running.split("/", 3), "", "", "")[:4]
    name = name_of(member)
    known = PROJECT.fullmatch(project) and LOCATION.fullmatch(location) and REPOSITORY_ID.fullmatch(repository)
    return (Place(project, location, repository), name) if known and name.image else None


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def _told(uploaded: str, otherwise: str) -> str:
    """When it was uploaded, or when that was said, where a producer wrote something else than a time."""
    try:
        return uploaded if datetime.fromisoformat(uploaded).tzinfo else otherwise
    except ValueError:
        return otherwise
