"""Who may do what on the bus: each service its own topics, its own durables and its own inbox, and nothing else."""

from collections.abc import Sequence
from dataclasses import dataclass

from infra.nats.topology import ADMINISTRATOR, Subscriber
from shared.bus.streams import STREAMS
from shared.events.contracts import SERVICES, TOPICS, durable_of
from shared.names import subject_token

OPERATOR = "operator"
"""Whoever looks after the dead letters."""


@dataclass(frozen=True)
class User:
    """A user of the bus with its permissions."""

    name: str
    publish: Sequence[str]
    subscribe: Sequence[str]


def users(locations: Sequence[str] = ()) -> list[User]:
    """The users of the services' account; `locations` where there are several."""
    return [administrator(ADMINISTRATOR), _operator(), *(service_user(service, locations) for service in SERVICES)]


def administrator(name: str) -> User:
    """Makes streams and durables; no service runs as this."""
    return User(name, publish=[">"], subscribe=[">"])


def inbox(user: str) -> str:
    """Where answers to a user arrive; nobody else may listen there."""
    return f"_INBOX_{user}"


def service_user(service: str, locations: Sequence[str] = ()) -> User:
    """What one service may do, by the topic table. Its deployments in all locations are one user."""
    publish = [topic.said_as(service) for topic in TOPICS if service in topic.said_by]
    for topic in TOPICS:
        if service in topic.work:
            for durable in {durable_of(service, topic.event, location): None for location in locations or ("",)}:
                publish += _durable_rights(topic.event.stream, durable)
            # No more than it hears: the operator says again what lies among the dead, in whoever's name that was.
            publish.append(f"dead.{subject_token(service)}.{topic.heard_by(service)}")
    viewed = [topic for topic in TOPICS if service in topic.views]
    for stream in sorted({topic.event.stream for topic in viewed}):
        publish += [f"$JS.API.STREAM.INFO.{stream}", f"$JS.API.DIRECT.GET.{stream}"]
    return User(service, publish, [f"{inbox(service)}.>", *(topic.subjects for topic in viewed)])


def subscriber_user(subscriber: Subscriber) -> User:
    """An outside subscriber in its own account: makes consumers on its copy of the events, and reads."""
    publish = [
        "$JS.API.INFO",
        "$JS.API.STREAM.INFO.EVENTS",
        "$JS.API.STREAM.NAMES",
        "$JS.API.CONSUMER.CREATE.EVENTS",
        "$JS.API.CONSUMER.CREATE.EVENTS.>",
        "$JS.API.CONSUMER.DURABLE.CREATE.EVENTS.>",
        "$JS.API.CONSUMER.INFO.EVENTS.>",
        "$JS.API.CONSUMER.MSG.NEXT.EVENTS.>",
        "$JS.API.CONSUMER.DELETE.EVENTS.>",
        "$JS.API.DIRECT.GET.EVENTS.>",
        "$JS.ACK.EVENTS.>",
        "$JS.FC.EVENTS.>",
    ]
    return User(subscriber.user, publish, ["_INBOX.>"])


def _operator() -> User:
    reads = [f"$JS.API.{call}.{name}" for name in STREAMS for call in ("STREAM.INFO", "STREAM.MSG.GET")]
    # Page by page, which is how a lost state is rebuilt from what was said.
    reads += [f"$JS.API.DIRECT.GET.{name}" for name in ("EVENTS", "STATE")]
    deletes = [f"$JS.API.STREAM.MSG.DELETE.{name}" for name in ("DEAD", "JOBS")]
    # What is only viewed has no dead letters.
    redrives = [*deletes, *(topic.subjects for topic in TOPICS if topic.work)]
    return User(OPERATOR, [*reads, *redrives], [f"{inbox(OPERATOR)}.>"])


def _durable_rights(stream: str, durable: str) -> list[str]:
    return [
        f"$JS.API.CONSUMER.INFO.{stream}.{durable}",
        f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{durable}",
        f"$JS.ACK.{stream}.{durable}.>",
    ]
