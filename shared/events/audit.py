"""Audit entries: one audited call or event each, in Google's LogEntry shape."""

from typing import Any, ClassVar

from shared.events.event import Event
from shared.names import subject_token


class AuditEntry(Event):
    """Common to the four kinds of audit entry."""

    stream: ClassVar[str] = "AUDIT"
    in_own_name: ClassVar[bool] = True

    producer: str
    """The service that writes it."""
    entry: dict[str, Any]
    """Google's LogEntry with an AuditLog in `protoPayload`, but for what the audit log adds itself."""

    def subject(self) -> str:
        """Kind, producer and project."""
        return f"{self.topic}.{subject_token(self.producer)}.{subject_token(self.project)}"


class AuditActivity(AuditEntry):
    """An API call that changed something (Admin Activity)."""

    topic: ClassVar[str] = "audit.activity"


class AuditAccess(AuditEntry):
    """An API call that read something, or wrote user data (Data Access)."""

    topic: ClassVar[str] = "audit.access"


class AuditSystem(AuditEntry):
    """Something Entrepot did by itself (System Event)."""

    topic: ClassVar[str] = "audit.system"


class AuditDenied(AuditEntry):
    """A call that was refused for lack of permission (Policy Denied)."""

    topic: ClassVar[str] = "audit.denied"


class LogExported(Event):
    """A sink wrote a batch of entries; subscribers read them from the object."""

    topic: ClassVar[str] = "log.exported"

    sink: str
    """`projects/P/sinks/S`."""
    object: str
    """Name of the object with the entries, NDJSON."""
    count: int
    first: int
    """Sequence of the first entry in the batch."""
    last: int

    def resource(self) -> str:
        """Announced by sink."""
        return self.sink.rpartition("/")[2]
