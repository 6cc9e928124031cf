"""What streams and durables there are to be, as JetStream's own configuration says it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, field_validator

from shared.bus.streams import STREAMS, Keeps, Stream
from shared.events import MAX_EVENT_BYTES
from shared.events.contracts import BY_NAME, TOPICS, Topic, durable_of
from shared.names import PROJECT

NANOSECONDS = 1_000_000_000

ACK_SECONDS = 30
"""How long a message may go without an answer before it is delivered again; handlers that run say so every 10 s."""

MOST_DELIVERIES = 1000
"""A message that ends every process that takes it stops here, and the server's own notice of that lies in DEAD."""

ADMINISTRATOR = "provisioner"

Config = dict[str, Any]


class Subscriber(BaseModel):
    """Somebody outside, who may hear chosen topics of chosen projects and nothing else."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z][a-z0-9]{0,30}$")
    projects: tuple[str, ...] = Field(min_length=1)
    topics: tuple[str, ...] = Field(min_length=1)
    days: float = Field(default=7.0, gt=0)
    """How far back the copy that they read reaches."""

    @field_validator("topics")
    @classmethod
    def _are_events(cls, topics: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [name for name in topics if name not in BY_NAME or BY_NAME[name].event.stream != "EVENTS"]
        if wrong:
            raise ValueError(f"not topics of the stream EVENTS: {', '.join(wrong)}")
        return topics

    @field_validator("projects")
    @classmethod
    def _are_projects(cls, projects: tuple[str, ...]) -> tuple[str, ...]:
        wrong = [project for project in projects if not PROJECT.fullmatch(project)]
        if wrong:
            raise ValueError(f"not projects: {', '.join(wrong)}")
        return projects

    @property
    def account(self) -> str:
        """The account on the bus, all their own: what they do there no service can notice."""
        return f"OUTSIDE_{self.name.upper()}"

    @property
    def user(self) -> str:
        """The user that reads."""
        return f"outside-{self.name}"

    @property
    def administrator(self) -> str:
        """The user that makes the copy, for the provisioner."""
        return f"outside-{self.name}-{ADMINISTRATOR}"


@dataclass(frozen=True)
class Topology:
    """What the provisioner is to bring about."""

    replicas: int = 1
    sizes: Mapping[str, int] = field(default_factory=dict[str, int])
    """Bytes a stream may hold, where that differs from `shared.bus.streams`."""
    locations: tuple[str, ...] = ()
    """Where there are several, all of them."""

    def streams(self) -> list[Config]:
        """All streams of the services' account."""
        return [self._stream(stream) for stream in STREAMS.values()]

    def durables(self) -> list[tuple[str, Config]]:
        """All durables with their streams."""
        return [
            (topic.event.stream, _durable(topic, service, location))
            for topic in TOPICS
            for service in topic.work
            for location in (self.locations if topic.by_location and self.locations else ("",))
        ]

    def copy_for(self, subscriber: Subscriber) -> Config:
        """The stream in an outside subscriber's account: only what it may hear is in there."""
        pairs = [f"{topic}.{project}.>" for topic in subscriber.topics for project in subscriber.projects]
        return {
            **_kept(Stream("EVENTS", Keeps.HISTORY, "", seconds=subscriber.days * 86_400)),
            "name": "EVENTS",
            "num_replicas": self.replicas,
            "sources": [
                {
                    "name": "EVENTS",
                    "subject_transforms": [{"src": pair, "dest": pair} for pair in pairs],
                    "external": {"api": "entrepot.api", "deliver": f"outside.{subscriber.name}"},
                }
            ],
        }

    def _stream(self, stream: Stream) -> Config:
        config = {
            **_kept(stream),
            "name": stream.name,
            "description": stream.says,
            "subjects": _subjects(stream.name),
            "num_replicas": self.replicas,
            "max_bytes": self.sizes.get(stream.name, stream.max_bytes),
            "max_msg_size": 4 * MAX_EVENT_BYTES,
            "duplicate_window": int(stream.dedupe * NANOSECONDS),
        }
        if stream.name != "DEAD":
            config["allow_atomic"] = True
        if stream.name not in {"DEAD", "JOBS"}:
            # From these two the operator takes what was redriven.
            config["deny_delete"] = True
        return config


def _kept(stream: Stream) -> Config:
    common = {"storage": "file", "compression": "s2", "max_age": int(stream.seconds * NANOSECONDS)}
    match stream.keeps:
        case Keeps.HISTORY:
            return common | {"retention": "limits", "discard": "old", "allow_direct": True}
        case Keeps.WORK:
            return common | {"retention": "workqueue", "discard": "new"}
        case Keeps.LAST:
            return common | {
                "retention": "limits",
                "discard": "old",
                "allow_direct": True,
                "max_msgs_per_subject": 1,
            }


def _subjects(stream: str) -> list[str]:
    if stream == "DEAD":
        # Each stream by its name: a wildcard inside a token, or in its place, would store nothing.
        notices = ("MAX_DELIVERIES", "MSG_TERMINATED")
        heard = ("EVENTS", "JOBS", "AUDIT")
        return ["dead.>", *(f"$JS.EVENT.ADVISORY.CONSUMER.{kind}.{name}.*" for kind in notices for name in heard)]
    return [topic.subjects for topic in TOPICS if topic.event.stream == stream]


def _durable(topic: Topic, service: str, location: str) -> Config:
    name = durable_of(service, topic.event, location)
    return {
        "name": name,
        "durable_name": name,
        "filter_subject": topic.heard_by(service, location),
        "deliver_policy": "all",
        "ack_policy": "explicit",
        "ack_wait": ACK_SECONDS * NANOSECONDS,
        # An audit entry is tried for ever: it may wait, but never be given up.
        "max_deliver": -1 if topic.event.stream == "AUDIT" else MOST_DELIVERIES,
        "max_ack_pending": 1000,
    }
