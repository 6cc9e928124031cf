"""What logs say is constant, and data stands beside it: so lines can be counted, searched, and hold no secret."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEVELS = frozenset({"debug", "info", "warning", "error", "exception", "critical"})


def calls(code: str) -> Iterator[ast.Call]:
    """Every call of a logger: something named like one, and a level's name."""
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in LEVELS:
            on = node.func.value
            name = on.id if isinstance(on, ast.Name) else on.attr if isinstance(on, ast.Attribute) else ""
            if "log" in name.lower().split("_"):
                yield node


def is_constant(call: ast.Call) -> bool:
    """Whether a call's message is written out."""
    return len(call.args) == 1 and isinstance(call.args[0], ast.Constant) and isinstance(call.args[0].value, str)


@pytest.mark.parametrize("folder", ["services", "shared", "infra"])
def test_every_log_message_is_constant(folder: str) -> None:
    found = [
        (f"{path.relative_to(ROOT)}:{call.lineno}", is_constant(call))
        for path in sorted((ROOT / folder).rglob("*.py"))
        for call in calls(path.read_text())
    ]
    assert len(found) > 0 or folder == "infra"
    assert [place for place, constant in found if not constant] == []


@pytest.mark.parametrize("code", ['log.info(f"pushed {name}")', '_log.error("a %s", 1)', "self._log.warning(text)"])
def test_a_message_that_is_not_constant_is_found(code: str) -> None:
    (call,) = calls(code)
    assert not is_constant(call)
