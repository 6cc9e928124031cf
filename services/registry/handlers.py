"""What others ask of the registry: attach a referrer, delete what a cleanup policy condemned."""

from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from services.registry.acts import Act, Deed
from services.registry.attaching import Attaching
from services.registry.deletion import Deletion, Guard
from services.registry.errors import DigestInvalid, ManifestInvalid, ManifestUnknown, NameInvalid, NameUnknown
from services.registry.names import ImageName, digest, is_image
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import BlobMissing
from shared.bus import Heard, Reject
from shared.cleanup_policies import fingerprint
from shared.clock import Clock
from shared.events import Event, caused_id
from shared.events.audit import AuditSystem
from shared.events.cleanups import CleanupRequested, Doomed
from shared.events.images import ReferrerRequested
from shared.http.entries import Asked, Origin, log_entry
from shared.identity.caller import Caller
from shared.names import REPOSITORY_ID

_log = structlog.get_logger("registry")


@dataclass(frozen=True)
class Handlers:
    """Event in; effects, and the events they cause, in one step."""

    store: Store
    attaching: Attaching
    deletion: Deletion
    voice: Voice
    clock: Clock

    async def attach(self, heard: Heard[ReferrerRequested]) -> None:
        """Attach an object as a referrer; where the subject has gone meanwhile there is nothing to attach to."""
        asked = heard.event
        name = _image(asked.project, asked.repository, asked.image)
        try:
            await self.attaching.attach(name, asked, self._act(heard, ()))
        except (ManifestUnknown, NameUnknown):
            _log.info("subject has gone", image=name.path, subject=asked.subject_digest)
        except BlobMissing as error:
            raise Reject(f"the object {asked.object} is not in the bucket") from error
        except (ManifestInvalid, ValueError) as error:
            raise Reject(f"this cannot become a referrer: {error}") from error

    async def clean(self, heard: Heard[CleanupRequested]) -> None:
        """Delete what is unchanged since the plan was made and held by nothing; the rest stays for the next plan.

        Once the policies that the plan went by are others, or only tried, or gone, nothing more of it is deleted.
        """
        asked = heard.event
        versions = [(_image(asked.project, asked.repository, doomed.image), doomed) for doomed in asked.versions]
        # Twice: what an index lists is free once the index, which may stand behind it, is gone.
        left = [pair for pair in versions if not await self._gone(heard, *pair)]
        for name, doomed in left:
            if not await self._gone(heard, name, doomed):
                _log.info("spared", image=name.path, digest=doomed.digest, run=asked.run)

    async def _gone(self, heard: Heard[CleanupRequested], name: ImageName, doomed: Doomed) -> bool:
        try:
            condemned = digest(doomed.digest)
        except DigestInvalid as error:
            raise Reject(str(error)) from error
        act = self._act(heard, ("system_event",)).part(f"{name.image}@{condemned}")
        if not await self._still_holds(heard.event):
            return False
        try:
            return await self.deletion.delete(name, condemned, act, Guard(doomed.generation, doomed.tags))
        except ManifestUnknown:
            return True

    async def _still_holds(self, asked: CleanupRequested) -> bool:
        if not asked.policies:
            return True
        found = await self.store.repository(asked.project, asked.repository)
        if found is None:
            return False
        settings = found.settings
        return asked.policies == fingerprint(settings.cleanup_policies, dry_run=settings.cleanup_policy_dry_run)

    def _act(self, heard: Heard[ReferrerRequested] | Heard[CleanupRequested], logs: Sequence[str]) -> Act:
        def witness(deed: Deed) -> list[Event]:
            return [self._entry(heard, deed, log) for log in logs]

        return Act(heard.cause, witness)

    def _entry(self, heard: Heard[ReferrerRequested] | Heard[CleanupRequested], deed: Deed, log: str) -> Event:
        origin = Origin("registry", Caller(heard.actor or "serviceAccount:cleanup"), "", "", heard.traceparent)
        asked = Asked(deed.method, deed.resource, request=deed.request, location=self.voice.location)
        insert_id = caused_id(heard.id, f"{log} {deed.resource}", 0)
        project = heard.event.project
        entry = log_entry(log, project, origin, asked, now=self.clock.now(), insert_id=insert_id)
        return AuditSystem(project=project, location=self.voice.location, producer="registry", entry=entry)


def _image(project: str, repository: str, image: str) -> ImageName:
    if not REPOSITORY_ID.fullmatch(repository) or not is_image(image):
        raise Reject(f"{repository}/{image} cannot be an image") from NameInvalid(image)
    return ImageName(project, repository, image)
