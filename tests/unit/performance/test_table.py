"""The page about performance: a run writes its figures into it, and touches nothing that people wrote."""

import asyncio
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


def blob_row() -> Row:
    """A row that a server of files can do, too."""
    costs = {"peer": [4.0, 6.0, 8.0], "ours": [2.0, 2.0, 2.0], "files": [1.0, 1.0, 2.0]}
    took = {"ours": [3.0, 4.0, 5.0]}
    return Row("blob", "s/GB", nothing, 1, 1.0, is_file=True, costs=costs, idle=[0.1, 0.1, 0.2], took=took)


def figures() -> dict[str, str]:
    """What a run with invented costs would write."""
    costs = {"peer": [4.0, 6.0, 8.0], "ours": [2.0, 2.0, 2.0]}
    table = [
        Row("manifest", "µs", nothing, 1, 1.0, costs=costs),
        blob_row(),
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


def test_beside_a_server_of_files_it_is_said_what_the_suite_takes_at_rest() -> None:
    said = figures()["rows"]
    assert "ours 2.00 times as much (1.00 to 2.00), 0.4 s/GB of it for what the suite does" in said


class Resting(Target):
    """A target that takes a hundredth of a second each time it is looked at."""

    def cpu(self) -> float:
        looked.append(0.01)
        return sum(looked)


looked: list[float] = []


async def test_what_the_suite_takes_at_rest_is_measured_in_the_rounds_of_others() -> None:
    async def work(target: Target, count: int) -> None:
        del target, count
        await asyncio.sleep(0.05)

    row, files, ours = Row("blob", "s/GB", work, 2, 10.0), Target("files", [], [], "", {}), Resting("o", [], [], "", {})
    await row.measure(files, ours)
    assert 0 < row.idle[0] <= 0.01 / 0.05
    assert row.took["files"][0] >= 0.05 / 2 * 10
    assert row.costs == {"files": [0.0]}
