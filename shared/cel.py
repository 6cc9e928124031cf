"""The part of CEL that is understood here: tests, joined by `&&`, `||`, `!` and parentheses; `true` and `false`.

What a test is and what it may look at, says who reads a condition with it. There are no loops, so the cost of a
condition is its length; everything that is not understood is refused when the condition is written.
"""

import operator
import re
from collections.abc import Callable
from typing import Any, Final, TypeVar

MAX_LENGTH: Final = 1000
MAX_DEPTH: Final = 12

_TOKEN = re.compile(
    r"""\s*(?:(?P<text>"[^"\\\n]*"|'[^'\\\n]*')|(?P<name>[A-Za-z_][A-Za-z0-9_.]*)|(?P<sign>&&|\|\||[<>=!]=|[<>!()\[\],]))"""
)
ORDER: Final[dict[str, Callable[[Any, Any], bool]]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
}

Asked = TypeVar("Asked")


class ConditionUnknown(ValueError):
    """The expression is not of the part of CEL that is understood here."""


class Words:
    """The words of a condition, taken one after the other."""

    def __init__(self, tokens: list[str]) -> None:
        self._tokens = tokens
        self._at = 0

    def next(self) -> str:
        """The next word. Raises ConditionUnknown at the end."""
        if self._at == len(self._tokens):
            raise ConditionUnknown("the condition ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def take(self, word: str) -> bool:
        """Whether this is the next word, which then is taken."""
        found = self._at < len(self._tokens) and self._tokens[self._at] == word
        self._at += found
        return found

    def expect(self, word: str) -> None:
        """Take this word. Raises ConditionUnknown where it is another."""
        if not self.take(word):
            raise ConditionUnknown(f"{word!r} is needed")

    def text(self) -> str:
        """Take a text in quotes. Raises ConditionUnknown."""
        token = self.next()
        if token[0] not in "\"'":
            raise ConditionUnknown(f"a text in quotes is needed, not {token!r}")
        return token[1:-1]

    def texts(self) -> list[str]:
        """Take a list of them in brackets. Raises ConditionUnknown."""
        self.expect("[")
        found = [self.text()]
        while self.take(","):
            found.append(self.text())
        self.expect("]")
        return found

    def argument(self) -> str:
        """Take a text in parentheses. Raises ConditionUnknown."""
        self.expect("(")
        text = self.text()
        self.expect(")")
        return text

    def sign(self, *known: str) -> str:
        """Take one of these comparisons. Raises ConditionUnknown."""
        token = self.next()
        if token not in known:
            raise ConditionUnknown(f"a comparison is needed, not {token!r}")
        return token

    def end(self) -> None:
        """Nothing may be left. Raises ConditionUnknown."""
        if self._at != len(self._tokens):
            raise ConditionUnknown(f"not understood at {self._tokens[self._at]!r}")


def compiled(expression: str, test: Callable[[Words, str], Callable[[Asked], bool]]) -> Callable[[Asked], bool]:
    """The expression as a function of what is asked; `test` reads a test whose first word it is given.

    Raises ConditionUnknown.
    """
    if len(expression) > MAX_LENGTH:
        raise ConditionUnknown(f"the condition is longer than {MAX_LENGTH} characters")
    words = Words(_tokens(expression))
    found = _either(words, test, 0)
    words.end()
    return found


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


def _either(words: Words, test: Callable[[Words, str], Callable[[Asked], bool]], depth: int) -> Callable[[Asked], bool]:
    parts = [_both(words, test, depth)]
    while words.take("||"):
        parts.append(_both(words, test, depth))
    return parts[0] if len(parts) == 1 else lambda asked: any(part(asked) for part in parts)


def _both(words: Words, test: Callable[[Words, str], Callable[[Asked], bool]], depth: int) -> Callable[[Asked], bool]:
    parts = [_one(words, test, depth)]
    while words.take("&&"):
        parts.append(_one(words, test, depth))
    return parts[0] if len(parts) == 1 else lambda asked: all(part(asked) for part in parts)


def _one(words: Words, test: Callable[[Words, str], Callable[[Asked], bool]], depth: int) -> Callable[[Asked], bool]:
    if depth > MAX_DEPTH:
        raise ConditionUnknown("the condition is nested too deeply")
    if words.take("!"):
        inner = _one(words, test, depth + 1)
        return lambda asked: not inner(asked)
    if words.take("("):
        inner = _either(words, test, depth + 1)
        words.expect(")")
        return inner
    word = words.next()
    if word in ("true", "false"):
        return lambda _: word == "true"
    return test(words, word)
