"""What the audit log does about what it hears: it writes it down, and only then is the event done."""

from typing import TypeVar

from services.audit_log.entries import pending
from services.audit_log.sequencer import Sequencer
from shared.bus import Heard
from shared.clock import Clock
from shared.events.audit import AuditEntry

E = TypeVar("E", bound=AuditEntry)


class Handlers:
    """Event in; an entry in the log out."""

    def __init__(self, sequencer: Sequencer, clock: Clock) -> None:
        self._sequencer = sequencer
        self._clock = clock

    async def on_entry(self, heard: Heard[E]) -> None:
        """Write the entry down; returns when it is durable and chained."""
        await self._sequencer.add(pending(heard, self._clock.now()))
