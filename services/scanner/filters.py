"""The filter of a list of occurrences: equalities joined by AND, as Google's clients send them."""

import re
from dataclasses import dataclass

from shared.http.errors import InvalidArgument

_TERM = re.compile(r"\s*(\w+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s\"()]+))\s*")
_AND = re.compile(r"AND\s")
_FIELDS = {
    "resourceUrl": "resource",
    "resource_url": "resource",
    "resourceUri": "resource",
    "kind": "kind",
    "noteId": "note",
    "note_id": "note",
    "noteProjectId": "note_project",
    "severity": "severity",
}
MOST = 4096


@dataclass(frozen=True)
class Filter:
    """What is asked for; an empty field asks for all."""

    resource: str = ""
    kind: str = ""
    note: str = ""
    note_project: str = ""
    severity: str = ""

    def takes(self, occurrence: dict[str, object]) -> bool:
        """Whether an occurrence is asked for; its resource was chosen before."""
        owner, _, note = str(occurrence["noteName"]).partition("/notes/")
        details = occurrence.get("vulnerability")
        severity = details.get("severity") if isinstance(details, dict) else ""  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]
        return (
            self.kind in {"", occurrence["kind"]}
            and self.note in {"", note}
            and self.note_project in {"", owner.removeprefix("projects/")}
            and self.severity in {"", severity}
        )


def filter_of(text: str) -> Filter:
    """Read a filter; raises InvalidArgument for what is not understood here."""
    terms: dict[str, str] = {}
    position = 0
    while position < len(text):
        found = _TERM.match(text, position)
        if found is None or found[1] not in _FIELDS or len(text) > MOST:
            raise InvalidArgument(f'This filter is not understood: it joins {", ".join(_FIELDS)} = "value" by AND.')
        value = re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3]
        if terms.setdefault(_FIELDS[found[1]], value) != value:
            raise InvalidArgument("The filter asks for two values of one field.")
        position = found.end()
        joined = _AND.match(text, position)
        position = joined.end() if joined else position
    return Filter(**terms)
