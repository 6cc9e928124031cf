"""What cleanup is told beside what every service is told."""

from pydantic import BaseModel, ConfigDict, Field


class CleanupSettings(BaseModel):
    """Fields are read from `ENTREPOT_CLEANUP_<FIELD>`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    interval_seconds: float = Field(default=86_400.0, gt=0)
    """How often each repository is cleaned by its policies."""
    check_seconds: float = Field(default=5.0, gt=0)
    """How often it is looked what is due and what is done."""
    running_days: float = Field(default=30.0, ge=0)
    """How long an image that was let into a cluster is taken to run there, and is kept; 0: not at all."""
