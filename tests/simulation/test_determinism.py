"""What would make two runs of one seed differ has no place in services: time and chance are handed in."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SERVICES = Path(__file__).parents[2] / "services"
FORBIDDEN = {
    "time.time": "a Clock is handed in",
    "time.time_ns": "a Clock is handed in",
    "time.monotonic": "a Clock is handed in",
    "time.perf_counter": "a Clock is handed in",
    "time.sleep": "a Clock is handed in",
    "datetime.now": "a Clock is handed in",
    "datetime.utcnow": "a Clock is handed in",
    "datetime.today": "a Clock is handed in",
    "asyncio.sleep": "a Clock is handed in",
    "os.urandom": "Ids are handed in",
    "uuid": "Ids are handed in",
    "random": "Ids are handed in",
    "secrets": "Ids are handed in",
    "asyncio.to_thread": "a Cpu is handed in",
    "run_in_executor": "a Cpu is handed in",
    "asyncio.wait": "it returns sets, whose order is that of addresses: gather",
    "asyncio.as_completed": "its order is that of addresses: gather",
    "asyncio.all_tasks": "its order is that of addresses",
    "TaskGroup": "it cancels its tasks in the order of their addresses: gather",
}
BUILDER = {"asyncio.to_thread", "asyncio.wait"}
"""The builder runs real containers on a real disk, which no simulation holds; clock and ids are handed in there too."""


def mentions(tree: ast.AST) -> Iterator[tuple[str, int]]:
    """Every dotted name that is used or imported, in full and without what stands before the last dots."""
    for node in ast.walk(tree):
        match node:
            case ast.Attribute():
                yield from _endings(ast.unparse(node), node.lineno)
            case ast.Import(names=names):
                yield from ((each.name, node.lineno) for each in names)
            case ast.ImportFrom(module=module, names=names):
                yield str(module), node.lineno
                yield from ((f"{module}.{each.name}", node.lineno) for each in names)
                yield from ((each.name, node.lineno) for each in names)
            case _:
                pass


def _endings(name: str, line: int) -> Iterator[tuple[str, int]]:
    parts = name.split(".")
    yield from ((".".join(parts[start:]), line) for start in range(len(parts)))


@pytest.mark.parametrize("service", sorted(path.name for path in SERVICES.iterdir() if (path / "app.py").exists()))
def test_a_service_takes_time_and_chance_from_what_it_is_handed(service: str) -> None:
    allowed = BUILDER if service == "builder" else set[str]()
    found = [
        f"{file.relative_to(SERVICES)}:{line} {name}: {FORBIDDEN[name]}"
        for file in sorted((SERVICES / service).rglob("*.py"))
        for name, line in mentions(ast.parse(file.read_text()))
        if name in FORBIDDEN and name not in allowed
    ]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    "code", ["import random", "from time import time", "import os; os.urandom(3)", "datetime.datetime.now(UTC)"]
)
def test_what_is_forbidden_is_seen(code: str) -> None:
    assert any(name in FORBIDDEN for name, _ in mentions(ast.parse(code)))
