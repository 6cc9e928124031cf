"""What the attestor does about what it hears: it remembers images, scans and attestations, and signs what is sound."""

from collections.abc import Mapping

import structlog

from services.attestor import shares
from services.attestor.attesting import AutoAttestor
from services.attestor.facts import Evidence, Fix, Presence, Scan, Tag
from services.attestor.occurrences import Occurrence
from services.attestor.references import Place, Reference, place_of
from services.attestor.store import EVIDENCE, PRESENCE, SCAN, Store
from services.attestor.top_findings import top_fixable
from shared.blobs import BlobMissing, Blobs
from shared.bus import Heard, Reject
from shared.events.images import ImageDeleted, ImageEvent, ImagePushed, ImageUntagged
from shared.events.scans import OccurrenceChanged, ScanCompleted
from shared.state import DropField, Fold, Index

IMAGE_CONFIGS = (
    "",
    "application/vnd.oci.image.config.v1+json",
    "application/vnd.docker.container.image.v1+json",
)

_LOG = structlog.get_logger("handlers")


class Handlers:
    """Event in; facts, and attestations with what is said about them, out."""

    def __init__(self, store: Store, blobs: Blobs, attesting: AutoAttestor, registries: Mapping[str, str]) -> None:
        self._store = store
        self._blobs = blobs
        self._attesting = attesting
        self._registries = registries

    async def on_pushed(self, heard: Heard[ImagePushed]) -> None:
        """An image is there: remember it and its tag, and sign it where its scan came first."""
        event = heard.event
        place = _place(event)
        artifact = bool(event.subject_digest) or event.artifact_type not in IMAGE_CONFIGS
        presence = Presence(generation=heard.generation, artifact=artifact)
        fields = [self._presence(place, event.digest, presence)]
        if event.tag:
            fields.append(self._tag(place, event.tag, Tag(digest=event.digest, generation=heard.generation)))
        await self._store.learn(event.project, f"{heard.id} facts", fields)
        await self._attesting.consider(event.project, event.digest, heard.traceparent)

    async def on_untagged(self, heard: Heard[ImageUntagged]) -> None:
        """A tag is gone."""
        event = heard.event
        gone = Tag(digest="", generation=heard.generation)
        await self._store.learn(event.project, f"{heard.id} facts", [self._tag(_place(event), event.tag, gone)])

    async def on_deleted(self, heard: Heard[ImageDeleted]) -> None:
        """A manifest is gone, and the tags that pointed at it."""
        event = heard.event
        place = _place(event)
        gone = Presence(generation=heard.generation, deleted=True, buried=heard.generation)
        untagged = Tag(digest="", generation=heard.generation)
        fields = [self._tag(place, tag, untagged) for tag in event.tags]
        await self._store.learn(
            event.project, f"{heard.id} facts", [self._presence(place, event.digest, gone), *fields]
        )
        # It may live elsewhere, or its next push was heard first: there it is without an attestation now.
        await self._attesting.consider(event.project, event.digest, heard.traceparent)

    async def on_scanned(self, heard: Heard[ScanCompleted]) -> None:
        """A scan is done: remember what it found, and sign what meets a threshold."""
        event = heard.event
        scan = Scan.of(event, await self._top(event), heard.generation)
        key = self._store.version_key(event.project, event.digest)
        listed = Index(self._store.scanned_key(event.project), event.digest)
        field = Fold(key, SCAN, lambda before: _newer_scan(before, scan), (listed,))
        await self._store.learn(event.project, f"{heard.id} facts", [field])
        await self._attesting.consider(event.project, event.digest, heard.traceparent)

    async def on_occurrence(self, heard: Heard[OccurrenceChanged]) -> None:
        """Somebody attested an image at the scanner's face, or took that back."""
        event = heard.event
        if event.kind != "ATTESTATION":
            return
        reference = _reference(event.resource_uri)
        place = place_of(reference, self._registries) if reference else None
        if reference is None or place is None or not reference.digest:
            return
        key, name = self._store.version_key(place.project, reference.digest), EVIDENCE + event.occurrence
        kept, evidence = await self._store.evidence_by(key, event.project), await self._evidence(heard)
        if not shares.fits(kept, name, evidence):
            _LOG.warning("attestation not kept, its project has too many", digest=reference.digest, note=event.note)
            return
        dropped = [DropField(key, old) for old in shares.outlived(kept)] if evidence.withdrawn else []
        field = Fold(key, name, lambda before: _last_word(before, evidence), tuple(dropped))
        await self._store.learn(place.project, f"{heard.id} facts", [field])

    # Facts.

    def _presence(self, place: Place, digest: str, presence: Presence) -> Fold:
        key = self._store.version_key(place.project, digest)
        return Fold(key, PRESENCE + place.home, lambda before: _newer_presence(before, presence))

    def _tag(self, place: Place, tag: str, points: Tag) -> Fold:
        return Fold(self._store.tags_key(place), tag, lambda before: _newer_tag(before, points))

    async def _evidence(self, heard: Heard[OccurrenceChanged]) -> Evidence:
        """What an occurrence proves; nothing when it is gone."""
        event = heard.event
        withdrawn = Evidence(note="", payload="", signatures=(), generation=heard.generation)
        if not event.object:
            return withdrawn
        try:
            occurrence = Occurrence.read(await self._blobs.content(event.object))
            evidence = occurrence.attestation.evidence(event.note, event.object)
            return evidence.model_copy(update={"generation": heard.generation})
        except BlobMissing:
            return withdrawn
        except ValueError as error:
            raise Reject("the occurrence cannot be read") from error

    async def _top(self, event: ScanCompleted) -> tuple[Fix, ...]:
        if not event.findings or not any(event.fixable.values()):
            return ()
        try:
            return top_fixable(await self._blobs.content(event.findings, 32 * 1024 * 1024))
        except (BlobMissing, ValueError):
            return ()


def _last_word(before: str | None, evidence: Evidence) -> str | None:
    """Occurrences are written once and deleted once, so that what is withdrawn never comes back by a late event."""
    withdrawn = before is not None and Evidence.model_validate_json(before).withdrawn
    return None if withdrawn else evidence.stored()


def _newer_presence(before: str | None, presence: Presence) -> str | None:
    after = presence.after(None if before is None else Presence.model_validate_json(before))
    return None if after is None else after.stored()


def _newer_tag(before: str | None, points: Tag) -> str | None:
    if before is not None and Tag.model_validate_json(before).generation >= points.generation:
        return None
    return points.stored()


def _newer_scan(before: str | None, scan: Scan) -> str | None:
    known = None if before is None else Scan.model_validate_json(before)
    if known is not None and (known.generation, known.scanned) >= (scan.generation, scan.scanned):
        return None
    return scan.stored()


def _place(event: ImageEvent) -> Place:
    return Place(event.project, event.location, event.repository, event.image)


def _reference(uri: str) -> Reference | None:
    try:
        return Reference.parse(uri.removeprefix("https://"))
    except ValueError:
        return None
