"""Filters of lists, as Google's clients write them."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.api.google.filters import filter_of
from shared.http.errors import InvalidArgument

FIELDS = ("name", "version", "owner", "annotations", "attachmentNamespace")


def matches(text: str, **thing: Any) -> bool:
    return filter_of(text, FIELDS).matches(thing)


@pytest.mark.parametrize(
    ("text", "name", "meant"),
    [
        ('name="projects/p/tags/v1"', "projects/p/tags/v1", True),
        ('name = "projects/p/tags/v1"', "projects/p/tags/V1", True),
        ('name="projects/p/tags/v1"', "projects/p/tags/v10", False),
        ('name="projects/p/tags/v1*"', "projects/p/tags/v10", True),
        ('name="*v1"', "projects/p/tags/v1", True),
        ('name="*a*b*"', "xxaxxbxx", True),
        ('name="*a*b*"', "xxbxxaxx", False),
        ('name="ab*ba"', "aba", False),
        ("name:projects/p/tags/v1", "projects/p/tags/v1", True),
        ("", "anything", True),
    ],
)
def test_names_match_whole_with_stars_for_any_text(text: str, name: str, meant: bool) -> None:  # noqa: FBT001
    assert matches(text, name=name) is meant


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ('"annotations.team:web"', True),
        ("annotations.team:web", True),
        ('"annotations.team"', True),
        ("annotations.none", False),
        ("annotations.team:api", False),
        ("annotations.`site.link`:`https://example.org/a b`", True),
        ("annotations.*link:`*example.org*`", True),
    ],
)
def test_annotations_match_by_key_and_value(text: str, meant: bool) -> None:  # noqa: FBT001
    found = {"team": "web", "site.link": "https://example.org/a b"}
    assert matches(text, annotations=found) is meant
    assert not matches(text, name="nothing")


def test_comparisons_are_joined_by_and() -> None:
    assert matches('name="a*" AND annotations.x:1', name="ab", annotations={"x": "1"})
    assert not matches('name="a*" AND annotations.x:1', name="ab", annotations={"x": "2"})


def test_a_field_in_googles_other_spelling_is_the_same_field() -> None:
    assert matches("attachment_namespace=n", attachmentNamespace="n")


def test_the_one_value_that_a_field_must_have_is_known() -> None:
    assert filter_of('version="a/b" AND name="c*"', FIELDS).exact("version") == "a/b"
    assert filter_of('version="a/b" AND name="c*"', FIELDS).exact("name") == ""
    assert filter_of('version="a" AND version="b"', FIELDS).exact("version") == ""


@pytest.mark.parametrize(
    "text",
    [
        "size>5",
        "name",
        "name=",
        'name="a" OR name="b"',
        'name="a" name="b"',
        "digest=x",
        "name.key=x",
        "annotations=x",
        '"name="a"',
        "(",
        "name=a AND",
        "x" * 3000,
        " AND ".join(["name=a"] * 17),
    ],
)
def test_what_cannot_be_asked_is_said(text: str) -> None:
    with pytest.raises(InvalidArgument, match="filter"):
        filter_of(text, FIELDS)


@given(st.text(max_size=120))
def test_any_text_is_a_filter_or_refused(text: str) -> None:
    try:
        found = filter_of(text, FIELDS)
    except InvalidArgument:
        return
    assert isinstance(found.matches({"name": text, "annotations": {"a": text}}), bool)


@given(st.text(alphabet='ab* "\\', max_size=12), st.text(alphabet="ab ", max_size=12))
def test_a_quoted_name_matches_as_a_pattern_of_stars_does(pattern: str, name: str) -> None:
    quoted = pattern.replace("\\", "\\\\").replace('"', '\\"')
    import re  # noqa: PLC0415 - the peer of this one test

    peer = re.fullmatch(".*".join(map(re.escape, pattern.split("*"))), name, re.DOTALL)
    assert matches(f'name="{quoted}"', name=name) is bool(peer)
