"""The order of a build's steps."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.builder.buildfile import BuildStep
from services.builder.errors import BuildfileInvalid
from services.builder.graph import predecessors


def steps(*described: tuple[str | None, list[str]]) -> list[BuildStep]:
    return [BuildStep(name="localhost/a/b", id=name, wait_for=awaited) for name, awaited in described]


def test_without_wait_for_a_step_follows_all_before_it() -> None:
    assert predecessors(steps((None, []), (None, []), (None, []))) == [frozenset(), {0}, {0, 1}]


def test_a_dash_begins_at_once() -> None:
    assert predecessors(steps(("a", []), (None, ["-"]))) == [frozenset(), frozenset()]


def test_a_step_waits_for_those_it_names() -> None:
    assert predecessors(steps(("a", []), ("b", ["-"]), (None, ["a"]))) == [frozenset(), frozenset(), {0}]


@pytest.mark.parametrize(
    "described",
    [
        [("a", []), ("a", [])],
        [("a", ["b"]), ("b", [])],
        [("a", ["a"])],
        [("-", [])],
        [(None, ["nobody"])],
    ],
)
def test_unknown_later_and_double_ids_are_refused(described: Any) -> None:
    with pytest.raises(BuildfileInvalid):
        predecessors(steps(*described))


@given(st.lists(st.lists(st.integers(0, 9), max_size=3), min_size=1, max_size=10))
def test_whatever_is_accepted_has_no_circle(waits: list[list[int]]) -> None:
    described = [(f"s{position}", [f"s{other}" for other in awaited]) for position, awaited in enumerate(waits)]
    try:
        order = predecessors(steps(*described))
    except BuildfileInvalid:
        return
    assert all(before < position for position, befores in enumerate(order) for before in befores)
