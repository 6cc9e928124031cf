"""The streams: what each keeps, for how long, and what it does when it is full."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

DAY = 86_400.0
DEDUPE_SECONDS = 600.0
"""How long the bus remembers message ids."""


class Keeps(StrEnum):
    """What a stream keeps of what was said."""

    HISTORY = "history"
    """Everything, for as long as its age allows; the oldest goes first."""
    WORK = "work"
    """What is not done yet; a full stream refuses, so that nothing is lost."""
    LAST = "last"
    """The last word on each subject, for ever."""


@dataclass(frozen=True)
class Stream:
    """One stream of the bus."""

    name: str
    keeps: Keeps
    says: str
    seconds: float = 0.0
    """Age at which messages go; 0: never."""
    max_bytes: int = -1
    """Size at which the oldest message goes, or new ones are refused; -1: as much as the server has.

    The server sets this much of the disk aside, and makes no stream where it cannot.
    """
    dedupe: float = DEDUPE_SECONDS


STREAMS: Mapping[str, Stream] = {
    stream.name: stream
    for stream in (
        Stream("EVENTS", Keeps.HISTORY, "what happened", seconds=31 * DAY),
        Stream("JOBS", Keeps.WORK, "what is to be done; each job has one hearer", max_bytes=2**28),
        Stream("STATE", Keeps.LAST, "the last word on each thing"),
        Stream("AUDIT", Keeps.WORK, "audit entries on their way to the audit log", max_bytes=2**30),
        Stream("LOGS", Keeps.HISTORY, "build logs as they are written", seconds=DAY, max_bytes=2**28),
        Stream("DEAD", Keeps.HISTORY, "what could not be handled, with the reason", seconds=90 * DAY),
    )
}
