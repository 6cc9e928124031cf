"""The findings of a scan that an update would mend, worst first: what a refusal names."""

from pydantic import BaseModel, ConfigDict

from services.attestor.facts import Fix
from shared.events.scans import SEVERITIES

MOST = 3


class _Finding(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    advisory: str
    severity: str = ""
    score: float = 0.0
    package: str
    version: str = ""
    fixed: str = ""


class _Findings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    findings: tuple[_Finding, ...] = ()


def top_fixable(content: bytes) -> tuple[Fix, ...]:
    """The worst findings that have a fix, from the scanner's object; raises a ValueError when it cannot be read."""
    fixable = [found for found in _Findings.model_validate_json(content).findings if found.fixed]
    worst = sorted(fixable, key=lambda found: (-_rank(found.severity), -found.score, found.advisory, found.package))
    return tuple(
        Fix(
            advisory=found.advisory[:100],
            severity=found.severity[:40],
            package=found.package[:200],
            version=found.version[:100],
            fixed=found.fixed[:100],
        )
        for found in worst[:MOST]
    )


def _rank(severity: str) -> int:
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
