"""A filter as a tree, and the tree as text again."""

import re
from dataclasses import dataclass
from typing import Final, assert_never

OPERATORS: Final = ("<=", ">=", "!=", "=", "<", ">", ":")
_PLAIN_SEGMENT: Final = re.compile(r"[A-Za-z_@][A-Za-z0-9_@/%+-]*")


@dataclass(frozen=True)
class Compare:
    """A field against a value."""

    path: tuple[str, ...]
    operator: str
    value: str


@dataclass(frozen=True)
class Present:
    """The field is there: `field:*`."""

    path: tuple[str, ...]


@dataclass(frozen=True)
class Anywhere:
    """Some value of the entry holds the text."""

    text: str


@dataclass(frozen=True)
class LogId:
    """The entry is in this log of whatever project: `log_id("...")`."""

    log: str


@dataclass(frozen=True)
class Not:
    """The part does not hold."""

    part: "Node"


@dataclass(frozen=True)
class And:
    """All parts hold."""

    parts: tuple["Node", ...]


@dataclass(frozen=True)
class Or:
    """Some part holds."""

    parts: tuple["Node", ...]


Node = Compare | Present | Anywhere | LogId | Not | And | Or

EVERYTHING: Final = And(())
"""The empty filter."""


def text_of(node: Node) -> str:  # noqa: PLR0911 - one for each kind of node
    """The filter as text; parsing it gives the same tree."""
    match node:
        case Compare(path, operator, value):
            return f"{_path(path)}{operator}{_quoted(value)}"
        case Present(path):
            return f"{_path(path)}:*"
        case Anywhere(text):
            return _quoted(text)
        case LogId(log):
            return f"log_id({_quoted(log)})"
        case Not(part):
            return f"NOT {_inner(part)}"
        case And(parts):
            return " AND ".join(map(_inner, parts))
        case Or(parts):
            return " OR ".join(map(_inner, parts))
        case _:
            assert_never(node)


def _inner(node: Node) -> str:
    return f"({text_of(node)})" if isinstance(node, And | Or | Not) else text_of(node)


def _path(path: tuple[str, ...]) -> str:
    first, *rest = path
    return ".".join((first, *(part if _PLAIN_SEGMENT.fullmatch(part) else _quoted(part) for part in rest)))


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
    return f'"{escaped}"'
