"""The part of CEL that IAM conditions may use here; everything else is refused when the policy is written.

Known are `request.time` compared with `timestamp("...")`, and `resource.name` compared with a text or asked for its
beginning or end, joined as `shared.cel` says.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from shared import cel
from shared.cel import ORDER, ConditionUnknown, Words


@dataclass(frozen=True)
class Asked:
    """What a condition may look at."""

    time: float
    resource: str


Test = Callable[[Asked], bool]


def compiled(expression: str) -> Test:
    """The expression as a function of what is asked. Raises ConditionUnknown."""
    return cel.compiled(expression, _test)


def _test(words: Words, name: str) -> Test:
    match name:
        case "request.time":
            return _time(words)
        case "resource.name":
            compare = ORDER[words.sign("==", "!=")]
            wanted = words.text()
            return lambda asked: compare(asked.resource, wanted)
        case "resource.name.startsWith":
            start = words.argument()
            return lambda asked: asked.resource.startswith(start)
        case "resource.name.endsWith":
            end = words.argument()
            return lambda asked: asked.resource.endswith(end)
        case _:
            raise ConditionUnknown(f"not understood: {name!r}; known are request.time and resource.name")


def _time(words: Words) -> Test:
    compare = ORDER[words.sign(*ORDER)]
    words.expect("timestamp")
    moment = _moment(words.argument())
    return lambda asked: compare(asked.time, moment)


def _moment(text: str) -> float:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise ConditionUnknown(f"not a timestamp: {text!r}") from error
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
