"""The face of the journal: what changes nothing is written down first and told afterwards."""

from collections.abc import Sequence
from typing import Protocol

from shared.events import Cause, Event


class JournalFull(Exception):
    """The journal is at its bound because the bus takes nothing; the caller must not go on. Retryable."""


class JournalUnavailable(Exception):
    """The journal could not be written; whether the entry will be told is unknown. Retryable."""


class Journal(Protocol):
    """Where a service writes down what has no atomic step of its own."""

    def note(self, events: Sequence[Event], cause: Cause) -> None:
        """Write without waiting. A crash may lose the last 100 ms, which shows as a gap in the sequence.

        A full journal drops the events and takes their numbers, so that this is a gap too.
        """
        ...

    async def keep(self, events: Sequence[Event], cause: Cause) -> None:
        """Write, and return when it is durable: for answers that must not be given unwritten.

        Raises JournalFull, JournalUnavailable.
        """
        ...
