import zlib

from hypothesis import given
from hypothesis import strategies as st

from shared.journal.segments import FORM, MAX_RECORD, Entry, Header, Record, Rest, framed, read_segment, records

numbers = st.integers(min_value=0, max_value=2**53)
entries = st.builds(
    Entry, number=numbers, id=st.text(), subject=st.text(), counter=st.text(), sequence=numbers, content=st.binary()
)
headers = st.builds(Header, number=numbers, sequences=st.dictionaries(st.text(), numbers, max_size=5))
anything = st.one_of(headers, entries, st.just(Rest()))


@given(st.lists(anything, max_size=8))
def test_what_was_written_is_read_back(written: list[Record]) -> None:
    content = b"".join(map(framed, written))
    assert [record for record, _ in records(content)] == written
    assert [end for _, end in records(content)][-1:] == ([len(content)] if written else [])


@given(st.lists(anything, min_size=1, max_size=6), st.data())
def test_a_torn_segment_reads_up_to_the_last_whole_record(written: list[Record], data: st.DataObject) -> None:
    content = FORM + b"".join(map(framed, written))
    cut = data.draw(st.integers(len(FORM), len(content) - 1))
    segment = read_segment(content[:cut])
    assert segment.good <= cut
    whole = [record for record, end in records(content, len(FORM)) if end <= cut]
    assert segment.entries == [record for record in whole if isinstance(record, Entry)]


@given(st.lists(anything, min_size=1, max_size=6), st.data())
def test_a_flipped_bit_ends_the_segment_where_it_is(written: list[Record], data: st.DataObject) -> None:
    content = bytearray(FORM + b"".join(map(framed, written)))
    place = data.draw(st.integers(len(FORM), len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    before = [record for record, end in records(bytes(content), len(FORM)) if end <= place]
    assert read_segment(bytes(content)).entries == [record for record in before if isinstance(record, Entry)]


@given(st.binary())
def test_bytes_of_any_kind_are_read_without_an_error(content: bytes) -> None:
    assert read_segment(content).good <= len(content)
    assert read_segment(FORM + content).good >= len(FORM)


@given(st.binary(max_size=200), st.sampled_from([b"H", b"E", b"R", b"X"]))
def test_a_payload_that_checks_out_but_means_nothing_ends_the_segment(payload: bytes, kind: bytes) -> None:
    payload = kind + payload
    content = len(payload).to_bytes(4, "big") + zlib.crc32(payload).to_bytes(4, "big") + payload
    assert len(list(records(content))) <= 1


def test_a_length_beyond_all_bounds_is_not_believed() -> None:
    assert list(records((MAX_RECORD + 1).to_bytes(4, "big") + bytes(100))) == []


def test_the_numbers_at_the_end_are_those_of_the_last_entries() -> None:
    content = FORM + framed(Header(number=7, sequences={"a|p": 3, "b|p": 9}))
    assert (read_segment(content).number(), read_segment(content).sequences()) == (7, {"a|p": 3, "b|p": 9})
    content += framed(Entry(8, "id", "s", "a|p", 4, b"{}"))
    segment = read_segment(content + framed(Rest()))
    assert (segment.number(), segment.sequences(), segment.rests) == (8, {"a|p": 4, "b|p": 9}, True)
    assert not read_segment(content).rests
