"""What is kept of an audit event: Google's LogEntry made whole, and where the event came from."""

import hashlib
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import orjson

from shared.bus import Heard
from shared.clock import rfc3339
from shared.events.audit import AuditAccess, AuditActivity, AuditDenied, AuditEntry, AuditSystem

E = TypeVar("E", bound=AuditEntry)

LOGS: Final[dict[type[AuditEntry], str]] = {
    AuditActivity: "activity",
    AuditAccess: "data_access",
    AuditSystem: "system_event",
    AuditDenied: "policy",
}
PRIVATE_LOG: Final = "data_access"


@dataclass(frozen=True)
class Source:
    """Where an entry comes from: its numbers have no gap, so that a lost entry shows."""

    producer: str
    topic: str
    project: str
    sequence: int
    event: str
    """Id of the event."""


@dataclass(frozen=True)
class Pending:
    """An entry that waits for its place in the log."""

    source: Source
    entry: dict[str, Any]

    @property
    def key(self) -> bytes:
        """By what twins are known."""
        return self.key_of(self.entry)

    @staticmethod
    def key_of(entry: dict[str, Any]) -> bytes:
        """Google's rule: insertId together with timestamp, in one log."""
        parts = (entry["logName"], entry["timestamp"], entry["insertId"])
        return hashlib.sha256("\n".join(map(str, parts)).encode()).digest()[:16]

    def line(self, sequence: int) -> bytes:
        """The canonical bytes of the entry at its place: what is stored, and what the tree's leaf is made of."""
        source = {
            "producer": self.source.producer,
            "topic": self.source.topic,
            "project": self.source.project,
            "sequence": self.source.sequence,
            "event": self.source.event,
        }
        record = {"sequence": sequence, "source": source, "entry": self.entry}
        return orjson.dumps(record, option=orjson.OPT_SORT_KEYS)


def pending(heard: Heard[E], now: float) -> Pending:
    """The entry of an event. What decides where it goes and who may read it is set here, whatever the event says."""
    event = heard.event
    log = LOGS[type(event)]
    entry = {
        "insertId": heard.id,
        "timestamp": heard.time,
        "severity": "NOTICE" if log in {"activity", "system_event"} else "INFO",
        **event.entry,
        "logName": log_name(event.project, log),
        "receiveTimestamp": rfc3339(now),
    }
    source = Source(
        heard.source.removeprefix("/services/") or event.producer, event.topic, event.project, heard.sequence, heard.id
    )
    return Pending(source, _texts(entry))


def log_name(project: str, log: str) -> str:
    """The log's name; what belongs to no project is under `projects/_`."""
    return f"projects/{project or '_'}/logs/cloudaudit.googleapis.com%2F{log}"


def _texts(entry: dict[str, Any]) -> dict[str, Any]:
    """The fields that order and name an entry are texts, whatever a producer wrote."""
    return entry | {name: str(entry[name])[:256] for name in ("insertId", "timestamp", "severity")}
