"""What becomes of a delivery: every adapter reads, handles and judges it by the same rules."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from pydantic import ValidationError

from shared.blobs.face import BucketUnavailable
from shared.bus.face import BusUnavailable, Handler, Heard, Later, Reject, StreamFull
from shared.events import Envelope, Event
from shared.state.face import LaneFull, Moved, StateUnavailable

DELAYS = (1.0, 5.0, 30.0, 120.0, 600.0)
MOST_FAILURES = 20
"""Deliveries after which an error that nobody foresaw is given up: about two and a half hours."""

_PASSING = (
    StateUnavailable,
    LaneFull,
    Moved,
    BusUnavailable,
    StreamFull,
    BucketUnavailable,
    OSError,
    TimeoutError,
)
"""Something is away or busy: retried for as long as it takes."""

log: structlog.stdlib.BoundLogger = structlog.get_logger()


@dataclass(frozen=True)
class Arrival:
    """A message as a stream delivers it."""

    subject: str
    content: bytes
    delivery: int = 1


@dataclass(frozen=True)
class Handled:
    """The effects are durable: acknowledge."""


@dataclass(frozen=True)
class Again:
    """Not now: deliver again after `seconds`."""

    seconds: float
    reason: str


@dataclass(frozen=True)
class Dead:
    """Never: to the dead letters with the reason, then terminate."""

    reason: str


Fate = Handled | Again | Dead


def delay_after(delivery: int) -> float:
    """Seconds until the next try, growing with the number of deliveries so far."""
    return DELAYS[min(max(delivery, 1), len(DELAYS)) - 1]


def read(arrival: Arrival, events: Mapping[str, type[Event]]) -> Heard[Any]:
    """The event in a message, one of `events` by topic. Raises Reject where it is none of them.

    The bus lets a service publish on its own subjects only: what a message says of itself must not say otherwise.
    """
    try:
        envelope = Envelope.parse(arrival.content)
        if envelope.subject != arrival.subject:
            # Who may publish on one subject could otherwise have the bus repeat it on another.
            raise Reject(f"says that its subject is {envelope.subject}")
        if envelope.type not in events:
            raise Reject(f"says that its topic is {envelope.type}")
        event = events[envelope.type].model_validate(envelope.data)
    except ValidationError as error:
        raise Reject(f"cannot be read: {_told(error)}") from error
    _refuse_what_belongs_elsewhere(event, envelope)
    return Heard(
        event=event,
        id=envelope.id,
        generation=envelope.generation,
        sequence=envelope.sequence,
        time=envelope.time,
        actor=envelope.actor,
        traceparent=envelope.traceparent,
        delivery=arrival.delivery,
        source=envelope.source,
    )


def _refuse_what_belongs_elsewhere(event: Event, envelope: Envelope) -> None:
    """Raise Reject where the content is about something else than the subject says, or the producer is another."""
    try:
        belongs = event.belongs_on(envelope.subject)
    except ValueError as error:
        raise Reject(str(error)) from error
    if not belongs:
        raise Reject(f"belongs on {event.subject()}")
    if event.in_own_name:
        producer = envelope.subject.removeprefix(f"{event.topic}.").partition(".")[0]
        if not f"{envelope.source}/".startswith(f"/services/{producer}/"):
            raise Reject(f"says in the name of {producer} that its source is {envelope.source}")


async def fate_of(arrival: Arrival, kind: type[Event], handler: Handler[Any]) -> Fate:
    """Let the handler do its work and say what becomes of the message."""
    try:
        await handler(read(arrival, {kind.topic: kind}))
    except Exception as error:  # noqa: BLE001 - whatever a handler raises decides about the message and is logged
        return _judged(error, arrival)
    return Handled()


def _judged(error: Exception, arrival: Arrival) -> Fate:
    fate = _fate_after(error, arrival.delivery)
    notice = log.error if isinstance(fate, Dead) else log.warning
    notice(
        "event not handled",
        subject=arrival.subject,
        delivery=arrival.delivery,
        fate=type(fate).__name__.lower(),
        reason=fate.reason,
        exc_info=error if _is_unforeseen(error) else None,
    )
    return fate


def _fate_after(error: Exception, delivery: int) -> Again | Dead:
    if isinstance(error, Later):
        return Again(error.seconds, str(error))
    if isinstance(error, Reject):
        return Dead(str(error))
    if isinstance(error, ValidationError):
        return Dead(f"ValidationError: {_told(error)}")
    reason = f"{type(error).__name__}: {error}"
    if _is_unforeseen(error) and delivery >= MOST_FAILURES:
        return Dead(f"failed {delivery} times, last: {reason}")
    return Again(delay_after(delivery), reason)


def _is_unforeseen(error: Exception) -> bool:
    return not isinstance(error, (Later, Reject, ValidationError, *_PASSING))


def _told(error: ValidationError) -> str:
    # Without the input: it may hold what must not be logged.
    found = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, part['loc']))}: {part['msg']}" for part in found[:5])


def show(heard: Callable[[Heard[Event]], None], arrival: Arrival, events: Mapping[str, type[Event]]) -> bool:
    """Give a message to a view; False, and logged, where it cannot take it: one bad fact must not hide what follows."""
    try:
        heard(read(arrival, events))
    except Reject as error:
        log.error("fact refused", subject=arrival.subject, reason=str(error))  # noqa: TRY400 - the reason says it all
        return False
    except Exception as error:
        log.error("fact not taken", subject=arrival.subject, reason=str(error), exc_info=error)  # noqa: TRY400
        return False
    return True
