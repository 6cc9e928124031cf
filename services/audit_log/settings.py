"""What the audit log is told beside what every service is told."""

from pydantic import BaseModel, ConfigDict, Field


class AuditLogSettings(BaseModel):
    """Fields are read from `ENTREPOT_AUDIT_LOG_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    linger_seconds: float = Field(default=0.05, ge=0, le=5)
    """How long the first of several entries waits for company; longer means fewer, larger segments."""
    at_once: int = Field(default=256, ge=1, le=4096)
    """Entries of one topic that are taken from the bus and not yet written."""
    export_seconds: float = Field(default=5.0, gt=0)
    """How often sinks are served."""
