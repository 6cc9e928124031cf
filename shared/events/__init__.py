"""Events: the envelope, the topics and what each of them says."""

from shared.events.envelope import Cause, Draft, Envelope, EventTooLarge, caused_id, draft, finish
from shared.events.event import MAX_EVENT_BYTES, Event, Fact, Job

__all__ = [
    "MAX_EVENT_BYTES",
    "Cause",
    "Draft",
    "Envelope",
    "Event",
    "EventTooLarge",
    "Fact",
    "Job",
    "caused_id",
    "draft",
    "finish",
]
