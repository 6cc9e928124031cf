"""What identity does by itself: the first start, fresh keys, signatures for old ones, through absences of its parts."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import structlog

from services.identity.first_start import FirstStart
from services.identity.signing import LOOK_SECONDS, SigningKeys
from services.identity.vouching import Vouching
from shared.clock import Clock
from shared.state import LaneFull, Moved, StateUnavailable

_AGAIN_SECONDS: Final = 1.0
_log = structlog.get_logger("identity")


@dataclass
class Upkeep:
    """Begins, then looks after the signing keys for ever."""

    first_start: FirstStart
    signing: SigningKeys
    vouching: Vouching
    clock: Clock
    begun: bool = field(default=False, init=False)

    async def live(self) -> None:
        """The loop that runs as long as the process."""
        while not await self._done(self.signing.look):
            await self.clock.sleep(_AGAIN_SECONDS)
        while not await self._done(self.first_start.begin):
            await self.clock.sleep(_AGAIN_SECONDS)
        self.begun = True
        while True:
            await self._done(self.vouching.look)
            await self.clock.sleep(LOOK_SECONDS)
            await self._done(self.signing.look)

    def reasons(self) -> list[str]:
        """Why this replica is not ready."""
        found = [] if self.begun else ["the first start is not done"]
        return found if self.signing.ready else [*found, "there is no key to sign with"]

    async def _done(self, work: Callable[[], Awaitable[None]]) -> bool:
        try:
            await work()
        except (StateUnavailable, LaneFull, Moved) as error:
            _log.warning("identity will try again", work=work.__name__, error=type(error).__name__)
            return False
        return True
