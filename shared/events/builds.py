"""What the builder says and hears: builds, their steps, their log."""

from typing import ClassVar

from shared.events.event import Event, Job


class BuildRequested(Job):
    """Run this build."""

    topic: ClassVar[str] = "build.requested"

    build: str
    """The build's id."""
    object: str
    """Name of the object with the whole build as it was asked for."""

    def resource(self) -> str:
        """One subject per build."""
        return self.build


class BuildEvent(Event):
    """Common to all that happens to one build."""

    build: str

    def resource(self) -> str:
        """Announced by build."""
        return self.build


class BuildStarted(BuildEvent):
    """A worker runs the build now."""

    topic: ClassVar[str] = "build.started"

    worker: str
    attempt: int = 1


class BuildStepFinished(BuildEvent):
    """A step ended."""

    topic: ClassVar[str] = "build.step.finished"

    step: str
    index: int
    status: str
    exit_code: int = 0
    seconds: float = 0.0


class BuildFinished(BuildEvent):
    """A build ended, whichever way."""

    topic: ClassVar[str] = "build.finished"

    status: str
    """Cloud Build's status: SUCCESS, FAILURE, INTERNAL_ERROR, TIMEOUT or EXPIRED."""
    reason: str = ""
    images: dict[str, str] = {}
    """Pushed image name to its digest."""
    provenance: str = ""
    """Name of the object with the provenance statement."""
    log: str = ""
    """Name of the object with the whole log."""


class BuildCancelled(BuildEvent):
    """A build was ended by request."""

    topic: ClassVar[str] = "build.cancelled"

    worker: str = ""


class BuildLog(BuildEvent):
    """A batch of a build's log lines."""

    topic: ClassVar[str] = "build.log"
    stream: ClassVar[str] = "LOGS"

    step: str = ""
    offset: int
    """Where this batch begins in the build's log, in bytes."""
    text: str
