import json

import pytest

from cli.output import show

ROWS = [{"name": "a", "vulnerability": {"severity": "HIGH"}, "tags": ["1", "2"]}, {"name": "longer"}]


def test_a_table_has_heads_and_values_out_of_nested_records(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, ["name", "vulnerability.severity", "tags"], "table")

    assert capsys.readouterr().out.splitlines() == ["NAME    SEVERITY  TAGS", "a       HIGH      1, 2", "longer"]


def test_json_has_the_whole_records(capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, ["name"], "json")

    assert json.loads(capsys.readouterr().out) == ROWS
