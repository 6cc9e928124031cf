"""Where a rebuild reads and writes."""

from collections.abc import Callable
from dataclasses import dataclass

from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import Blobs
from shared.bus.history import History
from shared.clock import Clock, Ids
from shared.http.iam import Policies
from shared.state import Keys, State

PROGRESS_SECONDS = 2.0


@dataclass(frozen=True)
class Sources:
    """What a rebuild is given."""

    state: State
    keys: Keys
    store: Store
    blobs: Blobs
    policies: Policies
    voice: Voice
    history: History
    clock: Clock
    ids: Ids
    say: Callable[[str], object]
    """Hears one line of progress at a time."""

    def progress(self, line: str) -> Callable[[int], None]:
        """Says `line` with a count, every few seconds."""
        last = self.clock.monotonic()

        def tell(count: int) -> None:
            nonlocal last
            now = self.clock.monotonic()
            if now - last >= PROGRESS_SECONDS:
                last = now
                self.say(line.format(count))

        return tell
