"""How bad an advisory is: CVSS vectors first, the words of the database otherwise."""

from collections.abc import Sequence
from typing import Any

from cvss import CVSS2, CVSS3, CVSS4, CVSSError
from pydantic import BaseModel, ConfigDict

UNRATED = "SEVERITY_UNSPECIFIED"
"""Nobody rated it: that is not the same as harmless."""

_BANDS = ((9.0, "CRITICAL"), (7.0, "HIGH"), (4.0, "MEDIUM"), (0.1, "LOW"))
_WORDS = {
    "CRITICAL": "CRITICAL",
    "HIGH": "HIGH",
    "IMPORTANT": "HIGH",
    "MODERATE": "MEDIUM",
    "MEDIUM": "MEDIUM",
    "LOW": "LOW",
    "MINIMAL": "MINIMAL",
    "NEGLIGIBLE": "MINIMAL",
    "UNIMPORTANT": "MINIMAL",
}
_KINDS: dict[str, Any] = {"CVSS_V4": CVSS4, "CVSS_V3": CVSS3, "CVSS_V2": CVSS2}
"""The newer form first."""
_WORD_FIELDS = ("severity", "urgency", "cvss_severity")


class Rating(BaseModel):
    """A severity, and the vector it comes from."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    severity: str = UNRATED
    score: float = 0.0
    vector: str = ""

    @property
    def rank(self) -> tuple[float, int]:
        """For choosing the worse of two."""
        order = [UNRATED, "MINIMAL", *(band for _, band in reversed(_BANDS))]
        return self.score, order.index(self.severity)


def rated(severities: Sequence[dict[str, Any]], specific: Sequence[dict[str, Any]]) -> Rating:
    """The rating of a record: `severities` in OSV's form, `specific` what its database adds."""
    vectors = {kind: _text(one, "score") for one in severities if (kind := _text(one, "type"))}
    for kind in _KINDS:
        score = _score(kind, vectors.get(kind, ""))
        if score is not None:
            return Rating(severity=band(score), score=score, vector=vectors[kind])
    words = [_text(fields, name).upper() for fields in specific for name in _WORD_FIELDS]
    return Rating(severity=next((_WORDS[word] for word in words if word in _WORDS), UNRATED))


def band(score: float) -> str:
    """The word for a score, by CVSS's own bands."""
    return next((word for floor, word in _BANDS if score >= floor), "MINIMAL")


def _text(fields: dict[str, Any], name: str) -> str:
    found = fields.get(name)
    return found if isinstance(found, str) else ""


def _score(kind: str, vector: str) -> float | None:
    if not vector or len(vector) > 400:
        return None
    try:
        return float(_KINDS[kind](vector).base_score)
    except (CVSSError, ValueError, KeyError, ArithmeticError):
        return None
