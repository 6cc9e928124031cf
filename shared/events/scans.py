"""What the scanner says and hears: scans, findings, advisories, notes, occurrences."""

from typing import ClassVar

from shared.events.event import Event, Job

NO_ADVISORIES = "none"
"""The id of the advisory snapshot while no advisories are loaded: a scan against it can find nothing."""

SEVERITIES = ("MINIMAL", "LOW", "MEDIUM", "HIGH", "CRITICAL")


class ScanRequested(Job):
    """Scan this digest now."""

    topic: ClassVar[str] = "scan.requested"

    repository: str
    image: str
    digest: str
    reason: str = ""

    def resource(self) -> str:
        """Scans are asked for by repository."""
        return self.repository


class ScanCompleted(Event):
    """The digest was analysed against this advisory snapshot."""

    topic: ClassVar[str] = "scan.completed"

    repository: str
    image: str
    digest: str
    status: str = "FINISHED_SUCCESS"
    """Google's analysis status: FINISHED_SUCCESS, FINISHED_FAILED or FINISHED_UNSUPPORTED."""
    reason: str = ""
    """Why it failed or is unsupported."""
    advisories: str
    """Id of the advisory snapshot; NO_ADVISORIES while there is none, and then no findings mean nothing."""
    counts: dict[str, int] = {}
    """Findings by severity; a severity without findings is left out."""
    fixable: dict[str, int] = {}
    """Of these, how many have a fix."""
    highest_cvss: float = 0.0
    packages: int = 0
    findings: str = ""
    """Name of the object with the findings."""
    scanned: str

    def resource(self) -> str:
        """Scans are announced by repository."""
        return self.repository


class VulnerabilityChange(Event):
    """Common to the two directions in which an image's exposure to an advisory changes."""

    repository: str
    image: str
    digest: str
    advisory: str
    severity: str
    package: str
    version: str

    def resource(self) -> str:
        """Announced by repository."""
        return self.repository


class VulnerabilityOpened(VulnerabilityChange):
    """An image that was clean of this advisory is affected now."""

    topic: ClassVar[str] = "vulnerability.opened"


class VulnerabilityClosed(VulnerabilityChange):
    """An image that was affected by this advisory is so no longer."""

    topic: ClassVar[str] = "vulnerability.closed"


class NoteChanged(Event):
    """Somebody wrote or deleted a note at the scanner's face."""

    topic: ClassVar[str] = "note.changed"

    note: str
    """`projects/P/notes/N`."""
    kind: str
    object: str = ""
    """Name of the object with the note; empty once it is deleted."""

    def resource(self) -> str:
        """Announced by note."""
        return self.note.rpartition("/")[2]


class OccurrenceChanged(Event):
    """Somebody wrote or deleted an occurrence at the scanner's face."""

    topic: ClassVar[str] = "occurrence.changed"

    occurrence: str
    note: str
    kind: str
    resource_uri: str
    object: str = ""
    """Name of the object with the occurrence; empty once it is deleted."""

    def resource(self) -> str:
        """Announced by occurrence."""
        return self.occurrence.rpartition("/")[2]


class AdvisoryUpdated(Event):
    """A feed brought new, changed or withdrawn advisories."""

    topic: ClassVar[str] = "advisory.updated"

    source: str
    snapshot: str
    """Id of the advisory snapshot that holds them."""
    count: int
    object: str = ""
    """Name of the object with the list of advisory ids."""

    def resource(self) -> str:
        """Announced by feed."""
        return self.source
