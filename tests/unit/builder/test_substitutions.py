"""Substitutions in a build."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.builder.buildfile import parse_request
from services.builder.errors import SubstitutionInvalid
from services.builder.substitutions import replaced, substituted

KNOWN = {"PROJECT_ID": "demo", "BUILD_ID": "b-1"}


def first_args(arguments: list[str], **more: Any) -> list[str]:
    request = parse_request({"steps": [{"name": "localhost/a/b", "args": arguments}], **more})
    return substituted(request, KNOWN).steps[0].args


def test_built_in_and_own_names_are_replaced_in_both_forms() -> None:
    assert first_args(["$PROJECT_ID-${BUILD_ID}", "${_TAG}x"], substitutions={"_TAG": "v1"}) == ["demo-b-1", "v1x"]


def test_two_dollars_are_one_and_shell_variables_stay() -> None:
    assert first_args(["$$PROJECT_ID $HOME ${PATH} $1 $(date)"]) == ["$PROJECT_ID $HOME ${PATH} $1 $(date)"]


def test_a_built_in_name_without_a_value_is_empty() -> None:
    assert first_args(["<$COMMIT_SHA>"]) == ["<>"]


def test_a_name_that_is_used_and_not_defined_is_refused() -> None:
    with pytest.raises(SubstitutionInvalid, match="_MISSING"):
        first_args(["$_MISSING"])


def test_a_name_that_is_defined_and_not_used_is_refused() -> None:
    with pytest.raises(SubstitutionInvalid, match="_SPARE"):
        first_args(["x"], substitutions={"_SPARE": "1"})


def test_a_loose_build_takes_both() -> None:
    loose = {"options": {"substitutionOption": "ALLOW_LOOSE"}, "substitutions": {"_SPARE": "1"}}
    assert first_args(["<$_MISSING>"], **loose) == ["<>"]


def test_values_may_mention_others_where_the_build_asks_for_it() -> None:
    dynamic = {"options": {"dynamicSubstitutions": True}, "substitutions": {"_A": "x", "_B": "${_A}-$PROJECT_ID"}}
    assert first_args(["$_B$_A"], **dynamic) == ["x-demox"]


def test_automap_gives_steps_every_value_as_environment() -> None:
    request = parse_request(
        {"steps": [{"name": "localhost/a/b", "automapSubstitutions": True}], "substitutions": {"_TAG": "v1"}}
    )
    assert {"_TAG=v1", "PROJECT_ID=demo"} <= set(substituted(request, KNOWN).steps[0].env)


@given(st.text(max_size=50))
def test_a_value_is_never_replaced_again(value: str) -> None:
    assert replaced("${_A}", {"_A": value}, set(), strict=True) == value


@given(st.text(alphabet="$_{}AB ", max_size=30))
def test_any_text_without_own_names_is_replaced(text: str) -> None:
    assert replaced(text.replace("_", ""), {}, set(), strict=True).count("$$") <= text.count("$$")
