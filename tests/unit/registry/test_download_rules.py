"""Conditions of rules for downloads, and which rule a version falls under."""

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.download_rules import FREE, Looked, Ruling, condition, rulebook
from shared.cel import ConditionUnknown

ONE, OTHER = "sha256:" + "1" * 64, "sha256:" + "2" * 64
UNSAID = Ruling(allowed=True)


def book(**rules: dict[str, Any]) -> Any:
    return rulebook(orjson.dumps(rules).decode())


def rule(action: str, expression: str = "", package: str = "") -> dict[str, Any]:
    told: dict[str, Any] = {"action": action, "operation": "DOWNLOAD"}
    return told | ({"condition": {"expression": expression}} if expression else {}) | {"packageId": package}


@pytest.mark.parametrize(
    ("expression", "tag", "holds"),
    [
        ("pkg.version.id < '3.0'", "2.9", True),
        ("pkg.version.id < '3.0'", "3.0", False),
        ("'3.0' > pkg.version.id", "2.9", True),
        ("'3.0' <= pkg.version.id", "2.9", False),
        ("pkg.version.id < '3.0'", "", False),
        ("pkg.version.id >= '3.0'", "", False),
        ("pkg.version.id == 'latest'", "latest", True),
        ("pkg.version.id != 'latest'", "latest", False),
        ("pkg.version.id != 'latest'", "", True),
        ("!(pkg.version.id == 'latest')", "v1", True),
        ("pkg.version.id in ['a', \"b\"]", "b", True),
        ("pkg.version.id in ['a', 'b']", "c", False),
        ("pkg.version.id.startsWith('rc-')", "rc-1", True),
        ("pkg.version.id.endsWith('-dev')", "v1-dev", True),
        ("pkg.version.id.contains('beta')", "v1-beta2", True),
        ("pkg.version.id.contains('beta')", "", False),
        (f"pkg.version.id == '{ONE}'", "latest", True),
        (f"pkg.version.id == '{OTHER}'", "latest", False),
        (f"pkg.version.id in ['{OTHER}', '{ONE}']", "", True),
        (f"pkg.version.id.startsWith('{ONE[:12]}')", "", True),
        ("pkg.package.id == 'team/app'", "v1", True),
        ("pkg.package.id.startsWith('team/') && pkg.version.id == 'v1'", "v1", True),
        ("pkg.package.id == 'app' || pkg.version.id == 'v1'", "v1", True),
        ("true", "v1", True),
        ("false", "v1", False),
    ],
)
def test_a_condition_looks_at_the_package_the_tag_and_the_digest(expression: str, tag: str, holds: bool) -> None:  # noqa: FBT001
    assert condition(expression).holds(Looked("team/app", ONE, tag)) is holds


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "pkg.version.id",
        "pkg.version.id == 3",
        "pkg.version.id < pkg.package.id",
        "pkg.version.id.matches('a+')",
        "pkg.version.id in []",
        "pkg.version.id in ['a'",
        "pkg.version.id in 'a'",
        "pkg.version.name == 'a'",
        "startsWith('a')",
        "'a' == 'b'",
        "'a'",
        "request.time < timestamp('2030-01-01T00:00:00Z')",
        "pkg.version.id == r'a'",
        "pkg.version.id == 'a' ? true : false",
        "[1].exists(x, x == 1)",
        "!" * 50 + "true",
        "true || " * 200 + "true",
    ],
)
def test_what_is_not_understood_is_refused(expression: str) -> None:
    with pytest.raises(ConditionUnknown):
        condition(expression)


WORDS = [
    "true",
    "(",
    ")",
    "!",
    "&&",
    "||",
    "pkg.version.id",
    "pkg.package.id.startsWith",
    "<",
    "in",
    "[",
    "]",
    "'a'",
    ",",
]


@given(st.text() | st.lists(st.sampled_from(WORDS)).map(" ".join), st.text(max_size=5))
def test_any_text_is_a_condition_or_refused(text: str, tag: str) -> None:
    try:
        found = condition(text)
    except ConditionUnknown:
        return
    assert found.holds(Looked("app", ONE, tag)) in {True, False}


TAGS = st.text("0123456789.", min_size=1, max_size=6)


@given(TAGS, TAGS, st.sampled_from(["<", "<=", ">", ">=", "==", "!="]))
def test_tags_are_compared_as_texts_from_either_side(tag: str, bound: str, sign: str) -> None:
    turned = {"<": ">", "<=": ">=", ">": "<", ">=": "<="}.get(sign, sign)
    expected = {"<": tag < bound, "<=": tag <= bound, ">": tag > bound, ">=": tag >= bound, "==": tag == bound}
    looked = Looked("app", ONE, tag)
    assert condition(f"pkg.version.id {sign} '{bound}'").holds(looked) is expected.get(sign, tag != bound)
    assert condition(f"'{bound}' {turned} pkg.version.id").holds(looked) is expected.get(sign, tag != bound)


def test_without_rules_everything_is_allowed() -> None:
    assert rulebook(None) is FREE
    assert FREE.ruling("app", ONE, ("v1",)) == UNSAID


def test_a_packages_rule_goes_before_the_one_for_all() -> None:
    found = book(all=rule("DENY"), app=rule("ALLOW", package="app"))
    assert found.ruling("app", ONE) == Ruling(allowed=True, rule="app")
    assert found.ruling("web", ONE) == Ruling(allowed=False, rule="all")


def test_where_its_condition_does_not_hold_the_one_for_all_is_asked() -> None:
    found = book(all=rule("DENY"), app=rule("ALLOW", "pkg.version.id.startsWith('release-')", "app"))
    assert found.ruling("app", ONE, ("release-1",)) == Ruling(allowed=True, rule="app", of_its_own=True)
    assert found.ruling("app", ONE, ("v1",)) == Ruling(allowed=False, rule="all")


def test_a_version_is_meant_by_any_of_its_tags() -> None:
    found = book(old=rule("DENY", "pkg.version.id < '2.0'"))
    assert found.ruling("app", ONE, ("1.0", "9.0")).rule == "old"
    assert found.ruling("app", ONE, ("2.0", "9.0")) == UNSAID
    assert found.ruling("app", ONE) == UNSAID


def test_a_rulebook_knows_whether_tags_have_to_be_looked_at() -> None:
    found = book(all=rule("DENY", "pkg.package.id == 'x'"), app=rule("DENY", f"pkg.version.id == '{ONE}'", "app"))
    assert (found.looks_at_versions("app"), found.looks_at_versions("web")) == (True, False)
    assert (found.names(ONE), found.names(OTHER)) == (True, False)
