"""The CloudEvents 1.0 envelope that every event travels in."""

import hashlib
from dataclasses import dataclass
from typing import Any, Self

import orjson
from pydantic import BaseModel, ConfigDict

from shared.events.event import MAX_EVENT_BYTES, Event


class EventTooLarge(ValueError):
    """An event is over 64 KiB: its lists belong into an object that it names."""


@dataclass(frozen=True)
class Cause:
    """Why something is done: the request or event behind it, who asked, and the trace it belongs to."""

    id: str
    actor: str = ""
    """A member as IAM writes it, such as `serviceAccount:ci@demo.iam.entrepot`."""
    traceparent: str = ""


class Envelope(BaseModel):
    """A CloudEvents 1.0 event with Entrepot's extensions; `data` is the event of its topic."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    specversion: str = "1.0"
    id: str
    source: str
    type: str
    subject: str
    time: str
    dataschema: str
    datacontenttype: str = "application/json"
    data: dict[str, Any]
    sequence: int = 0
    """Gapless per producer, topic and project, so that a gap shows."""
    generation: int = 0
    """Counter of the resource, never reset, so that a late event is recognised."""
    partitionkey: str
    actor: str = ""
    traceparent: str = ""

    @classmethod
    def parse(cls, content: bytes) -> Self:
        """Read an envelope; raises pydantic's ValidationError, a ValueError."""
        return cls.model_validate_json(content)

    def cause(self) -> Cause:
        """This event as the cause of what a handler does about it."""
        return Cause(id=self.id, actor=self.actor, traceparent=self.traceparent)


def caused_id(cause: str, topic: str, position: int) -> str:
    """The id of a caused event: the same for the same cause, so that a handler that runs twice says one event twice."""
    return hashlib.sha256(f"{cause}\n{topic}\n{position}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Draft:
    """An event that is ready to be said, but for the sequence and generation that the atomic step gives it."""

    id: str
    topic: str
    stream: str
    project: str
    subject: str
    body: bytes
    """The envelope's JSON object without `sequence` and `generation`."""

    def finished(self, sequence: int, generation: int) -> bytes:
        """The envelope as it is published."""
        return finish(self.body, sequence, generation)


def finish(body: bytes, sequence: int, generation: int) -> bytes:
    """Add the two numbers to an envelope's JSON without parsing it again."""
    return b'%b,"sequence":%d,"generation":%d}' % (body[:-1], sequence, generation)


def draft(event: Event, *, producer: str, cause: Cause, position: int, time: str) -> Draft:
    """Prepare `event` for the outbox; `position` numbers the events of one cause. Raises EventTooLarge."""
    identity = caused_id(cause.id, event.topic, position)
    subject = event.subject()
    envelope = {
        "specversion": "1.0",
        "id": identity,
        "source": f"/services/{producer}",
        "type": event.topic,
        "subject": subject,
        "time": time,
        "dataschema": f"/schemas/{event.topic}.v{event.schema_version}.schema.json",
        "datacontenttype": "application/json",
        "partitionkey": event.project,
        "actor": cause.actor,
        "traceparent": cause.traceparent,
        "data": orjson.Fragment(event.content()),
    }
    body = orjson.dumps(envelope)
    if len(body) > MAX_EVENT_BYTES - 64:
        raise EventTooLarge(f"{event.topic} of {event.project} would be {len(body)} bytes")
    return Draft(id=identity, topic=event.topic, stream=event.stream, project=event.project, subject=subject, body=body)
