"""A filter's text as tokens, each with its place."""

from dataclasses import dataclass
from enum import Enum
from typing import Final

from services.audit_log.filters.errors import FilterWrong
from services.audit_log.filters.tree import OPERATORS

MOST_CHARACTERS: Final = 20_000
_ENDS_TEXT: Final = frozenset(' \t\r\n()",=<>!:~')
_ESCAPES: Final = {"n": "\n", "t": "\t", "r": "\r"}


class Kind(Enum):
    """What a token is."""

    TEXT = "text"
    STRING = "string"
    OPERATOR = "operator"
    OPEN = "("
    CLOSE = ")"
    MINUS = "-"
    END = "the end"


@dataclass(frozen=True)
class Token:
    """One token."""

    kind: Kind
    text: str
    position: int
    segments: tuple[str, ...] = ()
    """Of a TEXT: its parts between dots; parts may be quoted."""


def tokens_of(text: str) -> list[Token]:
    """All tokens, the last one of kind END. Raises FilterWrong."""
    if len(text) > MOST_CHARACTERS:
        raise FilterWrong(f"a filter has at most {MOST_CHARACTERS} characters", MOST_CHARACTERS)
    found: list[Token] = []
    place = 0
    while True:
        while place < len(text) and text[place].isspace():
            place += 1
        if place >= len(text):
            return [*found, Token(Kind.END, "", place)]
        token, place = _next(text, place)
        found.append(token)


def _next(text: str, place: int) -> tuple[Token, int]:
    letter = text[place]
    if letter in "()":
        return Token(Kind(letter), letter, place), place + 1
    if letter == '"':
        content, end = _string(text, place)
        return Token(Kind.STRING, content, place), end
    operator = next((found for found in OPERATORS if text.startswith(found, place)), "")
    if text.startswith(("=~", "!~"), place):
        raise FilterWrong("regular expressions are not taken here yet", place)
    if operator:
        return Token(Kind.OPERATOR, operator, place), place + len(operator)
    if letter == "-" and _begins_term(text, place + 1):
        return Token(Kind.MINUS, letter, place), place + 1
    if letter in _ENDS_TEXT:
        raise FilterWrong(f"{letter!r} does not belong here", place)
    return _text(text, place)


def _begins_term(text: str, place: int) -> bool:
    return place < len(text) and not text[place].isdigit() and not text[place].isspace() and text[place] != "."


def _text(text: str, place: int) -> tuple[Token, int]:
    """A run of letters; behind a dot, a quoted part belongs to it: `labels."a b".c`."""
    segments, current, quoted = list[str](), "", False
    at = place
    while at < len(text):
        letter = text[at]
        if letter == '"' and at > place and text[at - 1] == "." and not current:
            current, at = _string(text, at)
            quoted = True
        elif letter in _ENDS_TEXT:
            break
        elif letter == ".":
            segments.append(current)
            current, quoted = "", False
            at += 1
        elif quoted:
            raise FilterWrong("a dot or an operator is missing", at)
        else:
            current += letter
            at += 1
    return Token(Kind.TEXT, text[place:at], place, (*segments, current)), at


def _string(text: str, place: int) -> tuple[str, int]:
    """The content of the string that begins at `place`, and where it ends."""
    pieces: list[str] = []
    at = place + 1
    while at < len(text):
        letter = text[at]
        if letter == '"':
            return "".join(pieces), at + 1
        if letter == "\\":
            at += 1
            letter = _ESCAPES.get(text[at : at + 1], text[at : at + 1])
        pieces.append(letter)
        at += 1
    raise FilterWrong("the string is not closed", place)
