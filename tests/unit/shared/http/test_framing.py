"""Where bodies end: by their length or by their chunks, however the wire cuts them."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.http.framing import LONGEST_LINE, Chunked, Counted, Framing, WronglyFramed

PARTS = st.lists(st.binary(min_size=1, max_size=40), max_size=6)
EXTENSIONS = st.sampled_from([b"", b";a=b", b"; quoted"])
TRAILERS = st.sampled_from([b"", b"Checksum: 1\r\n", b"A: b\r\nC:\r\n"])


def chunked(parts: list[bytes], extension: bytes = b"", trailers: bytes = b"") -> bytes:
    lines = [b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts]
    return b"".join(lines) + b"0\r\n" + trailers + b"\r\n"


def taken(framing: Framing, wire: bytes, cuts: list[int]) -> bytes:
    """All content of the bytes, which arrive in pieces."""
    places = sorted({0, *(cut % (len(wire) + 1) for cut in cuts), len(wire)})
    return b"".join([framing.take(wire[start:end]) for start, end in itertools.pairwise(places)])


@given(PARTS, EXTENSIONS, TRAILERS, st.lists(st.integers(0, 500)))
def test_chunks_are_put_together_wherever_the_wire_cuts_them(
    parts: list[bytes], extension: bytes, trailers: bytes, cuts: list[int]
) -> None:
    framing = Chunked()
    assert taken(framing, chunked(parts, extension, trailers), cuts) == b"".join(parts)
    assert framing.ended
    assert framing.rest == b""


@given(PARTS, st.binary(min_size=1, max_size=30))
def test_what_comes_behind_the_last_chunk_is_left_for_the_next_request(parts: list[bytes], behind: bytes) -> None:
    framing = Chunked()
    assert framing.take(chunked(parts) + behind) == b"".join(parts)
    assert framing.ended
    assert framing.rest == behind


@given(st.binary(max_size=60), st.binary(max_size=20), st.lists(st.integers(0, 100)))
def test_a_counted_body_ends_with_its_last_byte(content: bytes, behind: bytes, cuts: list[int]) -> None:
    framing = Counted(len(content))
    assert taken(framing, content, cuts) == content
    assert framing.ended
    assert framing.take(behind) == b""
    assert framing.rest == behind


@pytest.mark.parametrize(
    "wire",
    [
        b"\r\n",
        b"x\r\n",
        b"-1\r\na",
        b"+1\r\na",
        b"0x1\r\na",
        b"1_0\r\n",
        b" 1\r\na",
        b"1 \r\na",
        b"1\na\n",
        b"1\r\nab\r\n",
        b"1\r\na\n0\r\n\r\n",
        b"1\r\na0\r\n\r\n",
        b"1\r\na\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"1;a\nb\r\na",
        b"0\r\nno header\r\n\r\n",
        b"0\r\n: no name\r\n\r\n",
        b"0\r\n folded: x\r\n\r\n",
    ],
)
def test_lines_that_could_be_read_in_two_ways_are_refused(wire: bytes) -> None:
    with pytest.raises(WronglyFramed):
        Chunked().take(wire + b"\r\n\r\n")
    with pytest.raises(WronglyFramed):
        taken(Chunked(), wire + b"\r\n\r\n", list(range(len(wire) + 4)))


@pytest.mark.parametrize("wire", [b"0" * (LONGEST_LINE + 1), b"0\r\n" + b"a: b\r\n" * LONGEST_LINE])
def test_lines_without_an_end_are_not_waited_for(wire: bytes) -> None:
    with pytest.raises(WronglyFramed):
        Chunked().take(wire)


@given(st.binary(max_size=80))
def test_whatever_arrives_is_taken_or_refused(wire: bytes) -> None:
    framing = Chunked()
    try:
        content = framing.take(wire)
    except WronglyFramed:
        return
    assert len(content) + len(framing.rest) <= len(wire)
