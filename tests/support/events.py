"""Events as messages, as a relay would publish them."""

from shared.bus import Message
from shared.events import Cause, Event, draft


def said(
    event: Event,
    *,
    cause: str = "cause",
    position: int = 0,
    sequence: int = 1,
    generation: int = 1,
    producer: str = "registry",
    actor: str = "user:somebody@example.com",
    time: str = "2026-01-01T00:00:00.000000Z",
) -> Message:
    """The event as its producer publishes it."""
    prepared = draft(event, producer=producer, cause=Cause(id=cause, actor=actor), position=position, time=time)
    return Message(id=prepared.id, subject=prepared.subject, content=prepared.finished(sequence, generation))
