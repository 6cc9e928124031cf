"""Field masks."""

from typing import Any

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from shared.http.errors import InvalidArgument
from shared.http.masks import apply_mask, check_paths, field_mask, paths_of

NAMES = st.from_regex(r"[a-z][a-zA-Z0-9]{0,8}", fullmatch=True)
THINGS = st.dictionaries(NAMES, st.integers() | st.dictionaries(NAMES, st.integers(), max_size=3), max_size=5)


def test_a_mask_names_fields_in_either_spelling() -> None:
    assert field_mask(make_mocked_request("PATCH", "/x?updateMask=display_name,labels.a,displayName")) == (
        "displayName",
        "labels.a",
    )
    assert field_mask(make_mocked_request("PATCH", "/x?update_mask=description")) == ("description",)
    assert field_mask(make_mocked_request("PATCH", "/x")) == ()


@pytest.mark.parametrize(
    "text", ["a,,", "a..b", "*,a", ".a", "a b", "1a", "a.`b", ",".join(f"f{n}" for n in range(65))]
)
def test_a_mask_that_names_no_field_is_refused(text: str) -> None:
    if text == "a,,":
        assert paths_of(text) == ("a",)
        return
    with pytest.raises(InvalidArgument, match="updateMask"):
        paths_of(text)


@given(st.text(max_size=80))
def test_any_text_is_a_mask_or_is_refused(text: str) -> None:
    try:
        paths = paths_of(text)
    except InvalidArgument:
        return
    assert apply_mask({}, {}, paths) == {} or all("." in path for path in paths)


@pytest.mark.parametrize(
    ("paths", "result"),
    [
        ((), {"a": 2, "b": 1, "m": {"x": 9}}),
        (("a",), {"a": 2, "b": 1, "m": {"x": 1, "y": 1}}),
        (("b",), {"a": 1, "m": {"x": 1, "y": 1}}),
        (("m.x",), {"a": 1, "b": 1, "m": {"x": 9, "y": 1}}),
        (("m.y",), {"a": 1, "b": 1, "m": {"x": 1}}),
        (("*",), {"a": 2, "m": {"x": 9}}),
    ],
)
def test_only_the_named_fields_change(paths: tuple[str, ...], result: dict[str, Any]) -> None:
    current = {"a": 1, "b": 1, "m": {"x": 1, "y": 1}}
    assert apply_mask(current, {"a": 2, "m": {"x": 9}}, paths) == result
    assert current == {"a": 1, "b": 1, "m": {"x": 1, "y": 1}}


def test_a_maps_key_may_hold_what_it_likes_in_backquotes() -> None:
    (path,) = paths_of("labels.`a.b,c`")
    assert apply_mask({"labels": {"k": "1"}}, {"labels": {"a.b,c": "2"}}, (path,)) == {
        "labels": {"k": "1", "a.b,c": "2"}
    }


@given(THINGS, THINGS)
def test_all_fields_of_the_patch_are_meant_where_there_is_no_mask(current: Any, patch: Any) -> None:
    assert apply_mask(current, patch, ()) == {**current, **patch}


def test_fields_that_may_not_change_are_named() -> None:
    check_paths(("labels.a", "*"), ("labels",))
    with pytest.raises(InvalidArgument, match="createTime cannot be changed"):
        check_paths(("createTime",), ("labels",))
