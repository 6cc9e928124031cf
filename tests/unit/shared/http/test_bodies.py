"""Bodies of calls."""

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict

from shared.http.bodies import json_object, validated
from shared.http.errors import InvalidArgument

JSON: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=20,
)


class Thing(BaseModel):
    model_config = ConfigDict(extra="forbid")

    name: str
    count: int = 0


@given(st.dictionaries(st.text(max_size=8), JSON, max_size=5))
def test_an_object_is_read_as_it_was_written(content: dict[str, Any]) -> None:
    written = json.dumps(content).encode()
    assert json_object(written) == content
    assert json_object(written, strict=True) == content


@given(st.binary(max_size=200) | JSON.map(lambda value: json.dumps(value).encode()), st.booleans())
def test_anything_else_is_refused_and_breaks_nothing(content: bytes, strict: bool) -> None:  # noqa: FBT001
    with suppress(InvalidArgument):
        assert isinstance(json_object(content, strict=strict), dict)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"[]", "not a JSON object"),
        (b"{", "not JSON"),
        (b'{"a": NaN}', "not JSON"),
        (b'{"a": "\xff"}', "not JSON"),
        (b'{"a":' * 100 + b"1" + b"}" * 100, "nested deeper than 64"),
        (b"[" * 100_000, "nested deeper than 64"),
        (b'\xef\xbb\xbf{"a": 1}', "not JSON"),
    ],
)
def test_a_refusal_says_what_is_wrong(content: bytes, sentence: str) -> None:
    with pytest.raises(InvalidArgument, match=sentence):
        json_object(content)


def test_a_name_said_twice_is_refused_where_bytes_are_signed() -> None:
    assert json_object(b'{"a": 1, "a": 2}') == {"a": 2}
    with pytest.raises(InvalidArgument, match="twice"):
        json_object(b'{"b": {"a": 1, "\\u0061": 2}}', strict=True)


def test_a_number_of_many_digits_is_refused_where_bytes_are_signed() -> None:
    with pytest.raises(InvalidArgument):
        json_object(b'{"a": %s}' % (b"9" * 5000), strict=True)


def test_brackets_in_a_text_are_no_depth() -> None:
    content = json.dumps({"a": "[" * 1000 + '\\"' + "{" * 1000})
    assert json_object(content.encode()) == json.loads(content)


def test_an_empty_body_is_an_empty_object() -> None:
    assert json_object(b" \n") == {}


def test_a_model_names_the_fields_that_do_not_fit_and_not_their_values() -> None:
    assert validated(Thing, {"name": "a", "count": 2}) == Thing(name="a", count=2)
    with pytest.raises(InvalidArgument, match="count") as refused:
        validated(Thing, {"name": "a", "count": "hunter2", "more": "hunter3"})
    assert "hunter" not in str(refused.value.body())
    assert {found["field"] for found in refused.value.details[0]["fieldViolations"]} == {"count", "more"}
