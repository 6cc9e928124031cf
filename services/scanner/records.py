"""The small record that is kept of each image: what its last scan said."""

from pydantic import BaseModel, ConfigDict

from services.scanner.findings import Findings
from services.scanner.layers.facts import ANALYSER
from services.scanner.places import Place
from shared.events.scans import ScanCompleted

SUCCESS, FAILED, UNSUPPORTED = "FINISHED_SUCCESS", "FINISHED_FAILED", "FINISHED_UNSUPPORTED"


class Result(BaseModel):
    """What a scan says of an image."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    status: str = SUCCESS
    reason: str = ""
    counts: dict[str, int] = {}
    fixable: dict[str, int] = {}
    highest: float = 0.0
    packages: int = 0
    findings: str = ""
    """Name of the object with the findings."""

    @classmethod
    def of(cls, findings: Findings, name: str) -> "Result":
        """The result that a findings object stands for."""
        return cls(
            counts=findings.counts(),
            fixable=findings.fixable(),
            highest=findings.highest(),
            packages=findings.packages,
            findings=name,
        )


class Record(BaseModel):
    """An image as the scanner knows it. One that is deleted stays for a while, so that a late event is recognised."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    place: str
    generation: int
    deleted: bool = False
    result: Result = Result()
    advisories: str = ""
    """Id of the advisory snapshot it was matched against."""
    analyser: str = ""
    created: str = ""
    scanned: str = ""

    def is_current(self, advisories: str) -> bool:
        """Whether a scan now would say the same."""
        matched = self.advisories == advisories or self.result.status != SUCCESS
        return not self.deleted and matched and self.analyser == ANALYSER

    def completed(self, place: Place) -> ScanCompleted:
        """The event that says so."""
        result = self.result
        return ScanCompleted(
            project=place.project,
            location=place.location,
            repository=place.repository,
            image=place.image,
            digest=place.digest,
            status=result.status,
            reason=result.reason,
            advisories=self.advisories,
            counts=result.counts,
            fixable=result.fixable,
            highest_cvss=result.highest,
            packages=result.packages,
            findings=result.findings,
            scanned=self.scanned,
        )
