"""What the scanner does about what it hears."""

from services.scanner.advisories.knowledge import Knowledge
from services.scanner.places import Place
from services.scanner.scanning import ImageGone, Occasion, Scanner
from services.scanner.store import Store
from shared.bus import Heard, Later, Reject
from shared.events.attestations import AttestationCreated
from shared.events.images import ImageDeleted, ImagePushed
from shared.events.scans import AdvisoryUpdated, ScanRequested
from shared.state import Change

PATIENCE = 5
"""Deliveries after which a manifest that is not there will not come any more."""


class Handlers:
    """Event in; findings, records and what is said about them, out."""

    def __init__(self, scanner: Scanner, store: Store, knowledge: Knowledge) -> None:
        self._scanner = scanner
        self._store = store
        self._knowledge = knowledge

    async def on_pushed(self, heard: Heard[ImagePushed]) -> None:
        """An image is there: scan it. What refers to a subject is about an image and is none."""
        event = heard.event
        if event.subject_digest:
            return
        try:
            await self._scanner.bring_up_to_date(Place.of(event, event.digest), Occasion(heard.cause, heard.generation))
        except ImageGone as error:
            if heard.delivery < PATIENCE:
                raise Later(f"no manifest: {error}", 5) from error
            # Deleted before it was scanned; the deletion is announced by itself, so nothing is left to say.

    async def on_requested(self, heard: Heard[ScanRequested]) -> None:
        """Somebody wants an image scanned now, whether or not that was done."""
        event = heard.event
        place = Place(event.project, event.location, event.repository, event.image, event.digest)
        try:
            await self._scanner.bring_up_to_date(place, Occasion(heard.cause, again=True))
        except ImageGone as error:
            raise Reject(f"there is no image {error}") from error

    async def on_deleted(self, heard: Heard[ImageDeleted]) -> None:
        """An image is gone: so is what was found in it."""
        await self._scanner.forget(Place.of(heard.event, heard.event.digest), heard.generation, heard.cause)

    async def on_updated(self, heard: Heard[AdvisoryUpdated]) -> None:
        """Advisories changed: match all images anew that they hold for, from what is known of their packages."""
        if heard.event.project != self._knowledge.sharing:
            await self._match_all(heard.event.project, heard)
            return
        async for project in self._store.projects():
            await self._match_all(project, heard)

    async def on_attested(self, heard: Heard[AttestationCreated]) -> None:
        """An attestor vouches for an image: its occurrence is listed with the findings."""
        event = heard.event
        place = Place(event.project, event.location, event.repository, event.image, event.digest)
        attestation = {"attestor": event.attestor, "note": event.note, "key_id": event.key_id, "time": heard.time}
        await self._store.put_attestation(place, event.object, attestation, Change(f"{heard.id}:attested", heard.cause))

    async def _match_all(self, project: str, heard: Heard[AdvisoryUpdated]) -> None:
        async for place in self._store.all_places(project):
            try:
                await self._scanner.bring_up_to_date(place, Occasion(heard.cause))
            except ImageGone:
                continue
