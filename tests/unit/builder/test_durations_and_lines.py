"""Durations, and lines cut from a stream."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.builder.durations import seconds
from services.builder.lines import MAX_LINE, Lines


@pytest.mark.parametrize(("text", "value"), [("600s", 600.0), ("1.5s", 1.5), ("0s", 0.0)])
def test_a_duration_is_read(text: str, value: float) -> None:
    assert seconds(text) == value


@pytest.mark.parametrize("text", ["", "s", "10", "10m", "-1s", "1e3s", "1.s", "1" * 12 + "s", "\u0661s"])
def test_other_forms_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(text)


@given(st.text(alphabet="0123456789.s-e ", max_size=24))
def test_any_text_is_a_duration_or_refused(text: str) -> None:
    with contextlib.suppress(ValueError):
        assert seconds(text) == pytest.approx(float(text.removesuffix("s")))


@given(st.lists(st.binary(max_size=40), max_size=20))
def test_lines_do_not_depend_on_how_the_stream_was_cut(pieces: list[bytes]) -> None:
    lines, whole = Lines(), Lines()
    cut = [line for piece in pieces for line in lines.feed(piece)] + lines.end()
    assert cut == whole.feed(b"".join(pieces)) + whole.end()


def test_a_line_without_end_is_cut_and_not_kept_in_memory() -> None:
    lines = Lines()
    cut = lines.feed(b"x" * (3 * MAX_LINE + 5))
    assert [len(line) for line in cut] == [MAX_LINE] * 3
    assert lines.end() == [b"x" * 5]
