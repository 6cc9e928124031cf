"""Findings: what a scan says of an image, as an object that others read too."""

from collections import Counter
from typing import Self

import orjson
from pydantic import BaseModel, ConfigDict

from services.scanner.advisories.database import content_id
from services.scanner.advisories.severity import UNRATED, Rating
from services.scanner.layers.facts import ANALYSER


class Finding(BaseModel):
    """One advisory that speaks of one package of the image."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    advisory: str
    """Its CVE where it has one, otherwise the database's id."""
    ids: tuple[str, ...] = ()
    """All its names."""
    severity: str = UNRATED
    score: float = 0.0
    vector: str = ""
    ecosystem: str
    package: str
    """As the advisory names it; for Debian the source package."""
    version: str
    binaries: tuple[str, ...] = ()
    """The Debian packages built from that source that are installed."""
    fixed: str = ""
    layer: str = ""
    """Digest of the first layer that has the package in this version."""
    layer_index: int = 0
    paths: tuple[str, ...] = ()

    @property
    def rating(self) -> Rating:
        """Severity, score and vector."""
        return Rating(severity=self.severity, score=self.score, vector=self.vector)


class Findings(BaseModel):
    """All findings of an image, and what was looked at."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    digest: str
    analyser: str = ANALYSER
    distribution: str = ""
    packages: int = 0
    kinds: tuple[str, ...] = ()
    """Kinds of packages that were found: deb, npm, pypi."""
    findings: tuple[Finding, ...] = ()

    def written(self) -> bytes:
        """The object's content: the same findings are the same bytes."""
        return orjson.dumps(self.model_dump(mode="json", exclude_defaults=True) | {"analyser": self.analyser})

    @classmethod
    def read(cls, content: bytes) -> Self:
        """Findings from the store."""
        return cls.model_validate_json(content)

    def counts(self) -> dict[str, int]:
        """Findings by severity."""
        return dict(Counter(finding.severity for finding in self.findings))

    def fixable(self) -> dict[str, int]:
        """Findings by severity that have a fix."""
        return dict(Counter(finding.severity for finding in self.findings if finding.fixed))

    def highest(self) -> float:
        """The highest CVSS score."""
        return max((finding.score for finding in self.findings), default=0.0)


def findings_object(project: str, digest: str, content: bytes, number: int = 0) -> str:
    """Where findings lie; what was found twice lies there once.

    Names that were cleared are not taken again: `number` says how many of this content were.
    """
    name = f"scanner/findings/{project}/{digest.replace(':', '/')}/{content_id(content)}"
    return f"{name}-{number}" if number else name
