"""The part of CEL that IAM conditions may use here; everything else is refused when the policy is written.

Known are `request.time` compared with `timestamp("...")`, `resource.name` compared with a text or asked for its
beginning or end, `true`, `false`, and `&&`, `||`, `!` and parentheses around them. There are no loops, so the cost of
a condition is its length.
"""

import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 12

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\\n]*"|'[^'\\\n]*')|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<sign>&&|\|\||[<>=!]=|[<>!()]))"""
)
_ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}


class ConditionUnknown(ValueError):
    """The expression is not of the part of CEL that is understood here."""


@dataclass(frozen=True)
class Asked:
    """What a condition may look at."""

    time: float
    resource: str


Test = Callable[[Asked], bool]


def compiled(expression: str) -> Test:
    """The expression as a function of what is asked. Raises ConditionUnknown."""
    if len(expression) > MAX_LENGTH:
        raise ConditionUnknown(f"the condition is longer than {MAX_LENGTH} characters")
    reader = _Reader(_tokens(expression))
    test = reader.either(0)
    reader.end()
    return test


def _tokens(expression: str) -> list[str]:
    found: list[str] = []
    position, expression = 0, expression.rstrip()
    while position < len(expression):
        token = _TOKEN.match(expression, position)
        if token is None:
            raise ConditionUnknown(f"not understood at {expression[position : position + 40]!r}")
        found.append(token[0].strip())
        position = token.end()
    return found


class _Reader:
    """Recursive descent over the tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def either(self, depth: int) -> Test:
        parts = [self._both(depth)]
        while self._take("||"):
            parts.append(self._both(depth))
        return parts[0] if len(parts) == 1 else lambda asked: any(part(asked) for part in parts)

    def end(self) -> None:
        if self._at != len(self._tokens):
            raise ConditionUnknown(f"not understood at {self._tokens[self._at]!r}")

    def _both(self, depth: int) -> Test:
        parts = [self._one(depth)]
        while self._take("&&"):
            parts.append(self._one(depth))
        return parts[0] if len(parts) == 1 else lambda asked: all(part(asked) for part in parts)

    def _one(self, depth: int) -> Test:
        if depth > MAX_DEPTH:
            raise ConditionUnknown("the condition is nested too deeply")
        if self._take("!"):
            inner = self._one(depth + 1)
            return lambda asked: not inner(asked)
        if self._take("("):
            inner = self.either(depth + 1)
            self._expect(")")
            return inner
        return self._comparison(self._next())

    def _comparison(self, name: str) -> Test:
        match name:
            case "true" | "false":
                return lambda _: name == "true"
            case "request.time":
                return self._time()
            case "resource.name":
                compare = _ORDER[self._sign("==", "!=")]
                wanted = self._text()
                return lambda asked: compare(asked.resource, wanted)
            case "resource.name.startsWith":
                start = self._argument()
                return lambda asked: asked.resource.startswith(start)
            case "resource.name.endsWith":
                end = self._argument()
                return lambda asked: asked.resource.endswith(end)
            case _:
                raise ConditionUnknown(f"not understood: {name!r}; known are request.time and resource.name")

    def _time(self) -> Test:
        compare = _ORDER[self._sign(*_ORDER)]
        self._expect("timestamp")
        moment = _moment(self._argument())
        return lambda asked: compare(asked.time, moment)

    def _argument(self) -> str:
        self._expect("(")
        text = self._text()
        self._expect(")")
        return text

    def _text(self) -> str:
        token = self._next()
        if token[0] not in "\"'":
            raise ConditionUnknown(f"a text in quotes is needed, not {token!r}")
        return token[1:-1]

    def _sign(self, *known: str) -> str:
        token = self._next()
        if token not in known:
            raise ConditionUnknown(f"a comparison is needed, not {token!r}")
        return token

    def _next(self) -> str:
        if self._at == len(self._tokens):
            raise ConditionUnknown("the condition ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _take(self, token: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at] == token
        self._at += found
        return found

    def _expect(self, token: str) -> None:
        if not self._take(token):
            raise ConditionUnknown(f"{token!r} is needed")


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConditionUnknown(f"not a timestamp: {text!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
