"""What the attestor knows of images: where they are, what their scan found, who signed them."""

import base64
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from pydantic import BaseModel, ConfigDict

from services.attestor.attestors import AutoAttest, Threshold
from services.attestor.references import Place
from shared.events.scans import NO_ADVISORIES, SEVERITIES, ScanCompleted


class _Fact(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")

    def stored(self) -> str:
        """The fact as it is kept."""
        return self.model_dump_json(exclude_defaults=True)


class Tag(_Fact):
    """What a tag points at; an empty digest says that it was taken away."""

    digest: str
    generation: int


class Presence(_Fact):
    """That an image of our registry holds a digest, or held it."""

    generation: int
    deleted: bool = False
    artifact: bool = False
    """Refers to a subject or is no container image: nothing that runs, nothing that is attested by itself."""
    buried: int = 0
    """Generation of its last deletion: what was attested before hung on what is gone."""

    def after(self, known: Self | None) -> Self | None:
        """What is true with this beside what was known, whichever of the two was said first; None: as it was."""
        if known is None:
            return self
        buried = max(known.buried, self.buried)
        if known.generation < self.generation:
            return self.model_copy(update={"buried": buried})
        return known.model_copy(update={"buried": buried}) if buried > known.buried else None


class Fix(_Fact):
    """A finding that an update would mend."""

    advisory: str
    severity: str
    package: str
    version: str
    fixed: str

    def __str__(self) -> str:
        """As a refusal names it."""
        return f"{self.advisory} ({self.severity}) in {self.package} {self.version}, fixed in {self.fixed}"


class Scan(_Fact):
    """What the last scan of a digest found."""

    status: str
    reason: str = ""
    advisories: str
    counts: dict[str, int] = {}
    fixable: dict[str, int] = {}
    highest_cvss: float = 0.0
    scanned: str
    top: tuple[Fix, ...] = ()
    generation: int = 0
    """Which of the scans of its project it was: clocks of replicas differ, so that times do not tell the later one."""

    @classmethod
    def of(cls, completed: ScanCompleted, top: tuple[Fix, ...], generation: int) -> Self:
        """What the scanner said."""
        return cls(
            status=completed.status,
            reason=completed.reason[:300],
            advisories=completed.advisories,
            counts=completed.counts,
            fixable=completed.fixable,
            highest_cvss=completed.highest_cvss,
            scanned=completed.scanned,
            top=top,
            generation=generation,
        )

    @property
    def finished(self) -> bool:
        """Whether it found what there is to find."""
        return self.status == "FINISHED_SUCCESS"

    def __str__(self) -> str:
        """As a reason says it."""
        if not self.finished:
            return f"its scan of {self.scanned[:19]} ended as {self.status}" + (
                f": {self.reason}" if self.reason else ""
            )
        if self.advisories == NO_ADVISORIES:
            return f"its scan of {self.scanned[:19]} had no advisories to hold it against"
        if not any(self.counts.values()):
            return f"its scan of {self.scanned[:19]} found nothing"
        ordered = (*reversed(SEVERITIES), *(name for name in self.counts if name not in SEVERITIES))
        counts = ", ".join(
            f"{self.counts[name]} {name} ({self.fixable.get(name, 0)} fixable)"
            for name in ordered
            if self.counts.get(name)
        )
        found = f"its scan of {self.scanned[:19]} found {counts}, highest CVSS {self.highest_cvss:g}"
        return found + (f"; update first: {'; '.join(map(str, self.top))}" if self.top else "")


class Signature(_Fact):
    """One detached signature."""

    key_id: str
    signature: str
    """Base64."""


class Evidence(_Fact):
    """An attestation as it was made: checked against the attestor's present keys whenever it is to count."""

    note: str
    payload: str
    """Base64 of the bytes that were signed."""
    signatures: tuple[Signature, ...]
    object: str = ""
    image: str = ""
    """Where it was hung on the digest, as `location/repository/image`; empty for what others attested."""
    life: int = 0
    """Which deletion of that image came before it."""
    generation: int = 0
    """Which of the changes to occurrences brought it; newer ones are looked at first."""

    @property
    def withdrawn(self) -> bool:
        """Whether it is the tombstone of one that was taken back: it hangs on no note, and so counts for nobody."""
        return not self.note

    @property
    def signers(self) -> set[str]:
        """Ids of the keys that it says it is signed with."""
        return {made.key_id for made in self.signatures}

    def content(self) -> bytes:
        """The bytes that were signed; raises ValueError."""
        return base64.b64decode(self.payload, validate=True)


@dataclass(frozen=True)
class Version:
    """All that is known of one digest in one project."""

    digest: str
    presences: Mapping[str, Presence]
    """By image, as `location/repository/image`."""
    scan: Scan | None
    evidence: Mapping[str, Evidence]

    def presence(self, place: Place) -> Presence | None:
        """What is known of it under that image; None: never heard of."""
        return self.presences.get(place.home)

    def hangs(self, evidence: Evidence) -> bool:
        """Whether what it was made for is there still: an image that was deleted and pushed again is another one."""
        presence = self.presences.get(evidence.image)
        return not evidence.image or (
            presence is not None and not presence.deleted and presence.buried == evidence.life
        )

    @property
    def counting(self) -> list[Evidence]:
        """What can count: also what hung on an image that is gone, as long as another one holds the digest."""
        living = {name for name, presence in self.presences.items() if not presence.deleted}
        return [found for found in self.evidence.values() if self.hangs(found) or living - {found.image}]

    @property
    def homes(self) -> list[str]:
        """Of each location the first image that holds it and may be attested."""
        living = (name for name, found in sorted(self.presences.items()) if not found.deleted and not found.artifact)
        first: dict[str, str] = {}
        for name in living:
            first.setdefault(name.partition("/")[0], name)
        return list(first.values())


_ORDER = ("BLOCK_ALL", *SEVERITIES)


def objection(scan: Scan, limits: AutoAttest) -> str:
    """Why a scan does not meet the threshold; empty when it does.

    A severity that nobody rated counts as CRITICAL: what is unknown is not harmless.
    """
    if not scan.finished:
        return f"the scan ended as {scan.status}"
    if scan.advisories == NO_ADVISORIES:
        return "the scanner had no advisories loaded"
    if limits.maximum_cvss is not None and scan.highest_cvss > limits.maximum_cvss:
        return f"CVSS {scan.highest_cvss:g} is above {limits.maximum_cvss:g}"
    for severity, count in scan.counts.items():
        fixable = scan.fixable.get(severity, 0)
        if fixable > 0 and _above(severity, limits.maximum_fixable_severity):
            return f"{fixable} fixable {severity} above {limits.maximum_fixable_severity}"
        if count - fixable > 0 and _above(severity, limits.maximum_unfixable_severity):
            return f"{count - fixable} unfixable {severity} above {limits.maximum_unfixable_severity}"
    return ""


def _above(severity: str, limit: Threshold) -> bool:
    if limit == "ALLOW_ALL":
        return False
    rated = severity if severity in SEVERITIES else "CRITICAL"
    return _ORDER.index(rated) > _ORDER.index(limit)
