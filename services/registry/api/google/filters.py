"""Filters of Artifact Registry's lists: `name="projects/.../packages/web*"`, `annotations.team:web`, joined by AND."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from shared.http.errors import InvalidArgument

_LONGEST = 2048
_MOST_TERMS = 16
_WORD = r'"(?:[^"\\]|\\.)*"|`[^`]*`|[^\s"`=:<>()!,]+'
_TERM = re.compile(
    rf"\s*(?P<field>[A-Za-z_]+)(?P<key>\.(?:`[^`]*`|[^\s\"`=:]+))?\s*"
    rf"(?:(?P<op>[=:])\s*(?P<value>(?:{_WORD})(?:(?:{_WORD}|[=:])*)))?\s*"
)
_AND = re.compile(r"AND(?=\s)")


@dataclass(frozen=True)
class Term:
    """One comparison; letters' case does not count, `*` stands for any text."""

    field: str
    key: str
    """Of an annotation; empty for other fields."""
    value: str | None
    """None: the annotation has any value."""

    def matches(self, thing: Mapping[str, Any]) -> bool:
        """Whether a thing, as it is answered, is meant."""
        found = thing.get(self.field)
        if not self.key:
            return isinstance(found, str) and _like(self.value or "", found)
        entries = cast("Mapping[str, str]", found if isinstance(found, Mapping) else {})
        return any(
            _like(self.key, key) and (self.value is None or _like(self.value, value)) for key, value in entries.items()
        )


@dataclass(frozen=True)
class Filter:
    """All terms must hold."""

    terms: tuple[Term, ...] = ()

    def matches(self, thing: Mapping[str, Any]) -> bool:
        """Whether a thing, as it is answered, is meant."""
        return all(term.matches(thing) for term in self.terms)

    def exact(self, field: str) -> str:
        """The one value that a field must have; empty where it may have several."""
        values = [term.value for term in self.terms if term.field == field and not term.key]
        return values[0] or "" if len(values) == 1 and "*" not in (values[0] or "*") else ""


def filter_of(text: str, fields: Sequence[str]) -> Filter:
    """Read a filter over these fields; raises InvalidArgument, saying which there are."""
    if len(text) > _LONGEST:
        raise InvalidArgument(f"filter has more than {_LONGEST} characters.")
    terms: list[Term] = []
    rest = _unwrapped(text.strip())
    while rest:
        rest = _joined(rest) if terms else rest
        found = _TERM.match(rest)
        if not found or not found.end():
            raise InvalidArgument(f"filter cannot be read at {rest[:40]!r}.")
        terms.append(_term(found, fields))
        rest = rest[found.end() :]
    if len(terms) > _MOST_TERMS:
        raise InvalidArgument(f"filter has more than {_MOST_TERMS} comparisons.")
    return Filter(tuple(terms))


def _term(found: re.Match[str], fields: Sequence[str]) -> Term:
    field = _camel(found["field"])
    if field not in fields:
        raise InvalidArgument(f"filter: {field[:40]} is none of the fields that can be asked for: {', '.join(fields)}.")
    key = _plain((found["key"] or "").removeprefix("."))
    if bool(key) != (field == "annotations"):
        raise InvalidArgument("filter: an annotation is named annotations.KEY, and no other field has keys.")
    if found["op"] is None and not key:
        raise InvalidArgument(f"filter: {field} is compared with nothing.")
    return Term(field, key, None if found["op"] is None else _plain(found["value"]))


def _unwrapped(text: str) -> str:
    """Google's examples put a whole comparison of an annotation into double quotes."""
    whole = re.fullmatch(r'"(annotations\.[^"]*)"', text)
    return whole[1] if whole else text


def _joined(rest: str) -> str:
    found = _AND.match(rest)
    if not found:
        raise InvalidArgument(f"filter: comparisons are joined by AND, not by {rest[:20]!r}.")
    return rest[found.end() :]


def _plain(text: str) -> str:
    """Without the quotes or backquotes around it."""
    if len(text) >= 2 and text[0] == text[-1] == "`":
        return text[1:-1]
    if len(text) >= 2 and text[0] == text[-1] == '"':
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


def _camel(name: str) -> str:
    first, *others = name.lower().split("_") if "_" in name else [name]
    return first + "".join(other.capitalize() for other in others)


def _like(pattern: str, text: str) -> bool:
    """Piece by piece, so that no pattern takes longer than the text is long times its pieces."""
    pattern, text = pattern.casefold(), text.casefold()
    first, *others = pattern.split("*")
    if not others:
        return pattern == text
    last = others.pop()
    if not text.startswith(first) or len(text) < len(first) + len(last) or not text.endswith(last):
        return False
    at, end = len(first), len(text) - len(last)
    for piece in others:
        found = text.find(piece, at, end)
        if found < 0:
            return False
        at = found + len(piece)
    return True
