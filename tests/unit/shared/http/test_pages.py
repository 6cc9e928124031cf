"""Page tokens and sizes."""

import base64

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.http.errors import InvalidArgument
from shared.http.pages import Page, after_of, listed, next_token, page_of


@given(st.text(min_size=1, max_size=300))
def test_a_token_holds_the_last_name(last: str) -> None:
    assert after_of(next_token(last)) == last


@given(st.text(max_size=200) | st.binary(max_size=90).map(lambda raw: base64.urlsafe_b64encode(raw).decode()))
def test_whatever_else_is_sent_as_a_token_is_refused(token: str) -> None:
    try:
        last = after_of(token)
    except InvalidArgument:
        return
    assert next_token(last) == token


@pytest.mark.parametrize(
    ("query", "page"),
    [
        ("", Page(100)),
        ("?pageSize=0", Page(100)),
        ("?pageSize=7", Page(7)),
        ("?pageSize=5000", Page(1000)),
        (f"?pageSize=2&pageToken={next_token('b')}", Page(2, "b")),
    ],
)
def test_the_page_is_what_the_query_asks_for(query: str, page: Page) -> None:
    assert page_of(make_mocked_request("GET", f"/things{query}")) == page


@pytest.mark.parametrize("size", ["-1", "ten", "1.5", "99999999999999", "٣"])
def test_a_size_that_is_no_number_is_refused(size: str) -> None:
    with pytest.raises(InvalidArgument, match="pageSize"):
        page_of(make_mocked_request("GET", f"/things?pageSize={size}"))


def test_the_end_of_a_list_is_an_empty_token() -> None:
    assert next_token("") == ""


@settings(deadline=None, max_examples=40)
@given(st.dictionaries(st.text(min_size=1, max_size=4), st.integers(), max_size=12), st.integers(1, 5))
def test_the_pages_of_a_list_hold_all_that_was_found_once_and_in_order(found: dict[str, int], size: int) -> None:
    token, values = "", list[object]()
    for _ in range(len(found) // size + 1):
        request = make_mocked_request("GET", f"/?pageSize={size}&pageToken={token}")
        body = listed(request, "things", found, lambda value: value)
        page = body["things"]
        assert isinstance(page, list)
        values += page
        assert len(page) <= size
        token = str(body.get("nextPageToken", ""))
        if not token:
            break
    assert not token
    assert values == [found[name] for name in sorted(found)]
