"""The filter of a list of occurrences: equalities and prefixes, joined by AND and OR, as Google's clients send them."""

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, cast

from services.scanner.occurrences import Json
from services.scanner.places import path_of
from shared.http.errors import InvalidArgument

_TOKEN: Final = re.compile(r"\s*(?:([(),=])|\"((?:[^\"\\]|\\.)*)\"|([^\s\"(),=]+))\s*")
_FIELDS: Final = {
    "resourceUrl": "resource",
    "resource_url": "resource",
    "resourceUri": "resource",
    "kind": "kind",
    "noteId": "note",
    "note_id": "note",
    "noteProjectId": "note_project",
    "severity": "severity",
}
MOST: Final = 8192
_DEEPEST: Final = 16
_HELP = (
    f'it joins {", ".join(_FIELDS)} = "value", has_prefix(resourceUrl, "value") and has_suffix(resourceUrl, "value") '
    "by AND and OR, in parentheses."
)

Verdict = Callable[[str, Json | None], bool]
"""Whether an occurrence about that path is asked for; of None only whether any occurrence about it can be."""


@dataclass(frozen=True)
class Filter:
    """What is asked for."""

    verdict: Verdict = field(default=lambda _path, _occurrence: True)
    resources: frozenset[str] | None = None
    """The paths of all resources that can be meant; None where the filter does not narrow them down to some."""

    def takes(self, path: str, occurrence: Json | None = None) -> bool:
        """Whether an occurrence about that path is asked for; without one, whether some occurrence about it can be."""
        return self.verdict(path, occurrence)


def filter_of(text: str) -> Filter:
    """Read a filter; raises InvalidArgument for what is not understood here."""
    if len(text) > MOST:
        raise InvalidArgument(f"This filter is longer than {MOST} characters.")
    reader = _Reader(text)
    found = reader.any_of(0) if reader.more else Filter()
    reader.end()
    return found


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, text: str) -> None:
        self._tokens = _tokens(text)
        self._at = 0

    @property
    def more(self) -> bool:
        return self._at < len(self._tokens)

    def end(self) -> None:
        """Raises InvalidArgument where something is left."""
        if self.more:
            raise _not_understood()

    def any_of(self, depth: int) -> Filter:
        """Alternatives."""
        parts = [self._all_of(depth)]
        while self._take("OR"):
            parts.append(self._all_of(depth))
        return parts[0] if len(parts) == 1 else _any(parts)

    def _all_of(self, depth: int) -> Filter:
        """What is joined by AND, or by nothing, which means the same."""
        parts = [self._one(depth)]
        while self.more and self._next not in {")", "OR"}:
            self._take("AND")
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else _all(parts)

    def _one(self, depth: int) -> Filter:
        if self._take("("):
            if depth == _DEEPEST:
                raise InvalidArgument(f"This filter is nested deeper than {_DEEPEST} parentheses.")
            inner = self.any_of(depth + 1)
            self._need(")")
            return inner
        for word, chosen in (("has_prefix", _prefix), ("has_suffix", _suffix)):
            if self._take(word):
                return chosen(self._of_resource())
        name = self._field()
        self._need("=")
        return _equal(name, self._value())

    def _of_resource(self) -> str:
        self._need("(")
        if self._field() != "resource":
            raise _not_understood()
        self._need(",")
        value = self._value()
        self._need(")")
        return value

    def _field(self) -> str:
        name = _FIELDS.get(self._pop()[0])
        if name is None:
            raise _not_understood()
        return name

    def _value(self) -> str:
        value, quoted = self._pop()
        if value in {"(", ")", ",", "="} and not quoted:
            raise _not_understood()
        return value

    def _pop(self) -> tuple[str, bool]:
        if not self.more:
            raise _not_understood()
        self._at += 1
        return self._tokens[self._at - 1]

    @property
    def _next(self) -> str:
        value, quoted = self._tokens[self._at]
        return "" if quoted else value

    def _take(self, word: str) -> bool:
        taken = self.more and self._next == word
        self._at += taken
        return taken

    def _need(self, word: str) -> None:
        if not self._take(word):
            raise _not_understood()


def _tokens(text: str) -> list[tuple[str, bool]]:
    """Words and signs, each with whether it stood in quotes."""
    found: list[tuple[str, bool]] = []
    position = 0
    text = text.strip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise _not_understood()
        quoted = token[2] is not None
        found.append((re.sub(r"\\(.)", r"\1", token[2]) if quoted else token[1] or token[3], quoted))
        position = token.end()
    return found


def of_note(project: str, note: str, wanted: Filter) -> Filter:
    """What is asked for of the occurrences that hang on one note."""
    return _all([_equal("note_project", project), _equal("note", note), wanted])


def _any(parts: list[Filter]) -> Filter:
    known = [part.resources for part in parts if part.resources is not None]
    resources = frozenset[str]().union(*known) if len(known) == len(parts) else None
    return Filter(lambda path, one: any(part.takes(path, one) for part in parts), resources)


def _all(parts: list[Filter]) -> Filter:
    # The narrowest will do: what it chooses is still held against all parts.
    known = [part.resources for part in parts if part.resources is not None]
    return Filter(lambda path, one: all(part.takes(path, one) for part in parts), min(known, key=len, default=None))


def _equal(name: str, value: str) -> Filter:
    if name == "resource":
        wanted = path_of(value)
        return Filter(lambda path, _: path == wanted, frozenset({wanted}))
    return Filter(lambda _, one: one is None or _value_of(one, name) == value)


def _prefix(value: str) -> Filter:
    """Only what follows the host counts: an image is the same under every name of the registry."""
    path = value.rpartition("://")[2].partition("/")[2]
    return Filter(lambda found, _: found.startswith(path))


def _suffix(value: str) -> Filter:
    return Filter(lambda path, _: path.endswith(value))


def _value_of(occurrence: Json, name: str) -> str:
    owner, _, note = str(occurrence["noteName"]).partition("/notes/")
    details = cast("Json", occurrence.get("vulnerability") or {})
    return {
        "kind": str(occurrence["kind"]),
        "note": note,
        "note_project": owner.removeprefix("projects/"),
        "severity": str(details.get("severity", "")),
    }[name]


def _not_understood() -> InvalidArgument:
    return InvalidArgument(f"This filter is not understood: {_HELP}")
