"""What the registry does by itself: clears unfinished uploads and unused bytes, goes on with broken deletions."""

from dataclasses import dataclass

import structlog

from services.registry.acts import Act, Deed
from services.registry.cascading import Cascading
from services.registry.repositories import Repositories
from services.registry.searching import Searching
from services.registry.uploads import Uploads
from shared.blobs import BucketUnavailable
from shared.clock import Clock, Ids
from shared.events import Cause, Event
from shared.http.errors import ApiError
from shared.state import LaneFull, StateUnavailable

_log = structlog.get_logger("registry")

UPLOADS_SECONDS = 600.0
DELETIONS_SECONDS = 30.0
_PASSING = (BucketUnavailable, StateUnavailable, LaneFull, ApiError)


@dataclass(frozen=True)
class Housekeeping:
    """Loops that run beside the face, in every replica."""

    uploads: Uploads
    repositories: Repositories
    cascading: Cascading
    partitions: list[str]
    clock: Clock
    ids: Ids
    searching: Searching
    collect_seconds: float

    async def clear_uploads(self) -> None:
        """Clear expired uploads, now and then."""
        while True:
            await self.clock.sleep(UPLOADS_SECONDS)
            try:
                count = await self.uploads.forget_expired()
            except _PASSING as error:
                _log.warning("expired uploads stay for now", reason=str(error))
                continue
            if count:
                _log.info("expired uploads cleared", count=count)

    async def collect(self) -> None:
        """Clear what nothing holds any more."""
        while True:
            await self.clock.sleep(self.collect_seconds)
            try:
                await self.collect_once()
            except _PASSING as error:
                _log.warning("what is due stays for now", reason=str(error))

    async def collect_once(self) -> int:
        """Go through all partitions once, and through the bucket when it is time."""
        collecting = self.searching.collecting
        collecting.tally.would = 0
        done = sum([await collecting.once(partition) for partition in self.partitions])
        done += await self.searching.once()
        if done or collecting.tally.would:
            _log.info("collected", done=done, would=collecting.tally.would, cleared=collecting.tally.cleared)
        return done

    async def finish_deletions(self) -> None:
        """Go on with deletions whose beginner is gone: of repositories, and with all that belongs to something."""
        while True:
            await self.clock.sleep(DELETIONS_SECONDS)
            try:
                await self.finish_deletions_once()
            except _PASSING as error:
                _log.warning("a deletion waits", reason=str(error))

    async def finish_deletions_once(self) -> None:
        """Go through all partitions once, each asked about at the same time."""
        for project, repository in await self.repositories.unfinished(self.partitions):
            act = Act(Cause(id=self.ids.new()), _nobody)
            await self.repositories.finish_deletion(project, repository, act)
            _log.info("deletion finished", project=project, repository=repository)
        for name, digest in await self.cascading.unfinished(self.partitions):
            await self.cascading.finish(name, digest, Act(Cause(id=self.ids.new()), _nobody))
            _log.info("deletion finished", image=name.path, digest=digest)


def _nobody(deed: Deed) -> list[Event]:
    """The call that began the deletion is on record; what follows from it is announced, not asked for again."""
    del deed
    return []
