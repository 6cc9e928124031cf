"""The page of rules names tests that are there."""

import re

from tests.support.suite import ROOT

PAGE = ROOT / "docs" / "services" / "registry-rules.md"
NAMES = {
    name.replace("_", " ")
    for path in (ROOT / "tests" / "conformance").glob("test_*.py")
    for name in re.findall(r"def test_(\w+)", path.read_text())
}


def test_every_rule_is_held_by_tests_that_are_there() -> None:
    rows = re.findall(r"^\| (\d+) \| .+ \| (.+) \|$", PAGE.read_text(), re.MULTILINE)
    assert [int(number) for number, _ in rows] == list(range(1, 39))
    named = {name for _, tests in rows for name in tests.split("; ")}
    assert not named - NAMES
