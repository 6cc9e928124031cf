"""Whether an entry meets a filter."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, assert_never, cast

from services.audit_log.filters.parse import SEVERITIES, SEVERITY
from services.audit_log.filters.tree import And, Anywhere, Compare, LogId, Node, Not, Or, Present

_RANK: Final = {name: number for number, name in enumerate(SEVERITIES)}


def holds(node: Node, entry: Mapping[str, Any]) -> bool:  # noqa: PLR0911 - one for each kind of node
    """Whether the entry meets the filter. Texts compare without regard to case."""
    match node:
        case And(parts):
            return all(holds(part, entry) for part in parts)
        case Or(parts):
            return any(holds(part, entry) for part in parts)
        case Not(part):
            return not holds(part, entry)
        case Compare(path, operator, value):
            return _compare(path, operator, value, list(_values(entry, path)))
        case Present(path):
            return any(True for _ in _values(entry, path))
        case Anywhere(text):
            return _holds_text(entry, text.casefold())
        case LogId(log):
            return str(entry.get("logName", "")).partition("/logs/")[2] == log.replace("/", "%2F")
        case _:
            assert_never(node)


def _values(found: Any, path: Sequence[str]) -> Iterator[Any]:
    """What lies at the path; of a list, what lies at it in each of its items."""
    if isinstance(found, list):
        for item in cast("list[Any]", found):
            yield from _values(item, path)
    elif not path:
        yield found
    elif isinstance(found, Mapping) and path[0] in found:
        yield from _values(cast("Mapping[str, Any]", found)[path[0]], path[1:])


def _compare(path: tuple[str, ...], operator: str, value: str, found: list[Any]) -> bool:
    """A field that is not there meets no comparison, not even `!=`."""
    if operator == "!=":
        return bool(found) and not any(_meets(path, "=", value, one) for one in found)
    return any(_meets(path, operator, value, one) for one in found)


def _meets(path: tuple[str, ...], operator: str, value: str, found: Any) -> bool:
    if operator == ":":
        return _holds_text(found, value.casefold())
    if path == SEVERITY:
        return _ordered(operator, _RANK.get(str(found), 0), _RANK[value])
    if isinstance(found, bool) or found is None:
        return operator == "=" and _plain(found) == value.casefold()
    if isinstance(found, int | float):
        number = _number(value)
        return number is not None and _ordered(operator, float(found), number)
    if isinstance(found, str):
        return _texts(operator, found, value)
    return False


def _texts(operator: str, found: str, value: str) -> bool:
    left, right = _number(found), _number(value)
    if operator != "=" and left is not None and right is not None:
        return _ordered(operator, left, right)
    return _ordered(operator, found.casefold(), value.casefold())


def _ordered(operator: str, left: Any, right: Any) -> bool:
    match operator:
        case "=":
            return left == right
        case "<":
            return left < right
        case "<=":
            return left <= right
        case ">":
            return left > right
        case _:
            return left >= right


def _number(text: str) -> float | None:
    try:
        return float(text) if len(text) < 40 else None
    except ValueError:
        return None


def _plain(found: object) -> str:
    return "null_value" if found is None else str(found).casefold()


def _holds_text(found: Any, text: str) -> bool:
    match found:
        case dict():
            return any(_holds_text(inner, text) for inner in cast("dict[str, Any]", found).values())
        case list():
            return any(_holds_text(inner, text) for inner in cast("list[Any]", found))
        case _:
            return text in (found.casefold() if isinstance(found, str) else _plain(found))
