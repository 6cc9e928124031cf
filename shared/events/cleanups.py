"""What cleanup says: plans, what went, and the jobs that ask each owner to delete."""

from typing import ClassVar

from pydantic import BaseModel, ConfigDict

from shared.events.event import Event, Job
from shared.names import subject_token


class CleanupPlanned(Event):
    """What would go and why."""

    topic: ClassVar[str] = "cleanup.planned"

    repository: str
    run: str
    dry_run: bool
    count: int
    bytes: int = 0
    object: str
    """Name of the object with the plan."""

    def resource(self) -> str:
        """Announced by repository."""
        return self.repository


class CleanupCompleted(Event):
    """What went."""

    topic: ClassVar[str] = "cleanup.completed"

    repository: str
    run: str
    requested: int
    deleted: int = 0
    """Of these, how many are gone; the owner kept the others: changed since, or held by something."""

    def resource(self) -> str:
        """Announced by repository."""
        return self.repository


class Doomed(BaseModel):
    """One image version that is to go, if it is still as the plan saw it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    image: str
    digest: str
    generation: int
    """Generation of the last event the plan knew about this digest; the owner refuses when it has moved on."""
    tags: tuple[str, ...] = ()
    reason: str = ""


class CleanupRequested(Job):
    """Delete these, if unchanged and held by nothing."""

    topic: ClassVar[str] = "cleanup.requested"

    owner: str
    """The service that owns the things and hears this."""
    repository: str
    run: str
    policies: str = ""
    """Fingerprint of the repository's policies that the plan went by: once they are others, its owner deletes nothing.

    Empty: the plan went by policies that came with the wish for it.
    """
    versions: tuple[Doomed, ...] = ()

    def resource(self) -> str:
        """Asked by repository."""
        return self.repository

    def subject(self) -> str:
        """The owner is a token of its own, so that each owner hears only its jobs."""
        topic, _, rest = super().subject().partition(self.topic)
        return f"{topic}{self.topic}.{subject_token(self.owner)}{rest}"
