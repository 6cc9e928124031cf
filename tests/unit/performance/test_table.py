"""The page about performance: a run writes its figures into it, and touches nothing that people wrote."""

from pathlib import Path

import pytest

from tests.performance.events import Latency
from tests.performance.listing import Pages
from tests.performance.mixed import Mixed
from tests.performance.rows import Row, Target
from tests.performance.table import Alone, measured, written

PAGE = Path(__file__).parents[3] / "docs" / "performance.md"


async def nothing(target: Target, count: int) -> None:
    del target, count


def figures() -> dict[str, str]:
    """What a run with invented costs would write."""
    costs = {"peer": [4.0, 6.0, 8.0], "ours": [2.0, 2.0, 2.0]}
    table = [
        Row("manifest", "µs", nothing, 1, 1.0, costs=costs),
        Row("blob", "s/GB", nothing, 1, 1.0, is_file=True, costs={**costs, "files": [1.0, 1.0, 2.0]}),
        Row("push", "µs", nothing, 1, 1.0, settle=1.0, costs={**costs, "Valkey": [3.0]}),
    ]
    alone = Alone(Latency(0.042, 0.087, 16.0), Pages(700, 707, 1.01), Mixed([0.01] * 100, 7), 60.0)
    return measured(table, ("peer", "ours", "files"), alone, "some machine")


def between(page: str, name: str) -> str:
    _, _, begun = page.partition(f"<!-- {name}: ")
    _, _, text = begun.partition(" -->\n")
    return text.partition(f"\n<!-- end of {name} -->")[0]


def test_every_part_that_a_run_measures_has_its_place_in_the_page() -> None:
    parts = figures()
    page = written(PAGE.read_text(), parts)
    assert {name: between(page, name) for name in parts} == parts


def test_what_people_wrote_stays_letter_by_letter() -> None:
    before = PAGE.read_text()
    after = written(before, figures())
    assert after.partition("<!-- place")[0] == before.partition("<!-- place")[0]
    for section in ("## Where a read goes", "## Where a small push goes", "## How to read it"):
        assert len(section_of(before, section)) > 100
        assert section_of(after, section) == section_of(before, section)


def section_of(page: str, title: str) -> str:
    text = page.partition(title)[2].partition("\n## ")[0]
    return text.partition("\n<!-- ")[0]


def test_writing_twice_is_writing_once() -> None:
    once = written(PAGE.read_text(), figures())
    assert written(once, figures()) == once


def test_a_page_without_a_place_is_refused_instead_of_losing_figures() -> None:
    parts = figures()
    page = PAGE.read_text().replace("<!-- end of events -->", "")
    with pytest.raises(LookupError, match="events"):
        written(page, parts)


def test_backslashes_in_figures_are_only_letters() -> None:
    page = written(PAGE.read_text(), {"events": r"\1 \g<0>"})
    assert between(page, "events") == r"\1 \g<0>"


def test_a_ratio_is_taken_round_by_round() -> None:
    first = figures()["rows"].splitlines()[2]
    assert first.endswith("| 6 | 2 | µs | 3.00 (2.00 to 4.00) |")
