"""From text to tree. As in Cloud Logging, NOT binds tightest, then OR, then AND, and terms side by side mean AND."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Final

from services.audit_log.filters.errors import FilterWrong
from services.audit_log.filters.tokens import Kind, Token, tokens_of
from services.audit_log.filters.tree import EVERYTHING, And, Anywhere, Compare, LogId, Node, Not, Or, Present

DEEPEST: Final = 32
MOST_TERMS: Final = 500
TIMES: Final = (("timestamp",), ("receiveTimestamp",))
SEVERITY: Final = ("severity",)
SEVERITIES: Final = (
    "DEFAULT",
    "DEBUG",
    "INFO",
    "NOTICE",
    "WARNING",
    "ERROR",
    "CRITICAL",
    "ALERT",
    "EMERGENCY",
)
_RESERVED: Final = ("AND", "OR", "NOT")


def parse(text: str) -> Node:
    """Read a filter; raises FilterWrong. An empty one takes everything."""
    parser = _Parser(tokens_of(text))
    if parser.sees(Kind.END):
        return EVERYTHING
    found = parser.conjunction(0)
    parser.demand(Kind.END)
    return found


class _Parser:
    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._terms = 0

    @property
    def _token(self) -> Token:
        return self._tokens[self._at]

    def sees(self, kind: Kind, text: str = "") -> bool:
        return self._token.kind is kind and text in {"", self._token.text}

    def demand(self, kind: Kind) -> Token:
        if not self.sees(kind):
            raise self._unexpected(kind.value)
        return self._pass()

    def conjunction(self, depth: int) -> Node:
        if depth > DEEPEST:
            raise FilterWrong(f"nested deeper than {DEEPEST}", self._token.position)
        parts = [self._disjunction(depth)]
        while not self.sees(Kind.END) and not self.sees(Kind.CLOSE):
            if self.sees(Kind.TEXT, "AND"):
                self._pass()
            parts.append(self._disjunction(depth))
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _disjunction(self, depth: int) -> Node:
        parts = [self._term(depth)]
        while self.sees(Kind.TEXT, "OR"):
            self._pass()
            parts.append(self._term(depth))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _term(self, depth: int) -> Node:
        if self.sees(Kind.MINUS) or self.sees(Kind.TEXT, "NOT"):
            if depth > DEEPEST:
                raise FilterWrong(f"nested deeper than {DEEPEST}", self._token.position)
            self._pass()
            return Not(self._term(depth + 1))
        if self.sees(Kind.OPEN):
            self._pass()
            inner = self.conjunction(depth + 1)
            self.demand(Kind.CLOSE)
            return inner
        return self._restriction(depth)

    def _restriction(self, depth: int) -> Node:
        self._count()
        token = self._value_token()
        if self.sees(Kind.OPEN) and token.kind is Kind.TEXT:
            return self._function(token)
        if not self.sees(Kind.OPERATOR):
            return Anywhere(token.text)
        if token.kind is not Kind.TEXT or not all(token.segments):
            raise FilterWrong("a comparison begins with a field's name", token.position)
        operator = self._pass()
        return self._values(depth, lambda value: _comparison(token, operator.text, value))

    def _function(self, name: Token) -> Node:
        if name.text != "log_id":
            raise FilterWrong(f"there is no function {name.text[:40]} here", name.position)
        self.demand(Kind.OPEN)
        argument = self.demand(Kind.STRING)
        self.demand(Kind.CLOSE)
        return LogId(argument.text)

    def _values(self, depth: int, make: Callable[[Token], Node]) -> Node:
        """One value, or several in brackets joined by AND, OR and NOT."""
        if not self.sees(Kind.OPEN):
            return make(self._value_token())
        if depth > DEEPEST:
            raise FilterWrong(f"nested deeper than {DEEPEST}", self._token.position)
        self._pass()
        parts = [self._value_choice(depth, make)]
        while not self.sees(Kind.CLOSE):
            if self.sees(Kind.TEXT, "AND"):
                self._pass()
            parts.append(self._value_choice(depth, make))
        self._pass()
        return parts[0] if len(parts) == 1 else And(tuple(parts))

    def _value_choice(self, depth: int, make: Callable[[Token], Node]) -> Node:
        parts = [self._one_value(depth, make)]
        while self.sees(Kind.TEXT, "OR"):
            self._pass()
            parts.append(self._one_value(depth, make))
        return parts[0] if len(parts) == 1 else Or(tuple(parts))

    def _one_value(self, depth: int, make: Callable[[Token], Node]) -> Node:
        self._count()
        if depth > DEEPEST:
            raise FilterWrong(f"nested deeper than {DEEPEST}", self._token.position)
        if self.sees(Kind.MINUS) or self.sees(Kind.TEXT, "NOT"):
            self._pass()
            return Not(self._one_value(depth + 1, make))
        return self._values(depth + 1, make)

    def _value_token(self) -> Token:
        if self.sees(Kind.STRING) or (self.sees(Kind.TEXT) and self._token.text not in _RESERVED):
            return self._pass()
        raise self._unexpected("a value")

    def _count(self) -> None:
        self._terms += 1
        if self._terms > MOST_TERMS:
            raise FilterWrong(f"more than {MOST_TERMS} terms", self._token.position)

    def _pass(self) -> Token:
        token = self._token
        if token.kind is not Kind.END:
            self._at += 1
        return token

    def _unexpected(self, wanted: str) -> FilterWrong:
        found = self._token.text[:40] or self._token.kind.value
        return FilterWrong(f"{wanted} is expected, not {found!r}", self._token.position)


def _comparison(field: Token, operator: str, value: Token) -> Node:
    path = field.segments
    if operator == ":" and value.kind is Kind.TEXT and value.text == "*":
        return Present(path)
    if path in TIMES and operator != ":":
        return Compare(path, operator, _time(value))
    if path == SEVERITY and operator != ":":
        return Compare(path, operator, _severity(value))
    return Compare(path, operator, value.text)


def _time(value: Token) -> str:
    """A time as entries write it, so that texts compare as times."""
    try:
        found = datetime.fromisoformat(value.text)
        found = found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise FilterWrong(f"not a time: {value.text[:40]!r}", value.position) from error
    return found.strftime("%Y-%m-%dT%H:%M:%S.%fZ").rjust(27, "0")


def _severity(value: Token) -> str:
    name = value.text.upper()
    if name.isascii() and name.isdigit() and len(name) < 4:
        return SEVERITIES[min(int(name) // 100, len(SEVERITIES) - 1)]
    if name not in SEVERITIES:
        raise FilterWrong(f"not a severity: {value.text[:40]!r}", value.position)
    return name
