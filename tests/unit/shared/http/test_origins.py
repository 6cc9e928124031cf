"""Where a call comes from."""

import pytest
from aiohttp.test_utils import make_mocked_request
from hypothesis import given
from hypothesis import strategies as st

from shared.http.origins import behind


def _origin(proxies: str, peer: str, forwarded: str | None) -> str:
    request = make_mocked_request("GET", "/", headers={} if forwarded is None else {"X-Forwarded-For": forwarded})
    return behind(proxies)(request.clone(remote=peer))


@pytest.mark.parametrize(
    ("proxies", "peer", "forwarded", "origin"),
    [
        ("", "10.0.0.1", "6.6.6.6", "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "6.6.6.6", "6.6.6.6"),
        ("10.0.0.0/8", "8.8.8.8", "6.6.6.6", "8.8.8.8"),
        ("10.0.0.0/8", "10.0.0.1", "6.6.6.6, 7.7.7.7, 10.0.0.2", "7.7.7.7"),
        ("10.0.0.0/8", "10.0.0.1", None, "10.0.0.1"),
        ("10.0.0.0/8", "10.0.0.1", "<script>", "10.0.0.1"),
        ("10.0.0.0/8, fd00::/8", "fd00::1", "2001:db8::9", "2001:db8::9"),
    ],
)
def test_only_gateways_that_are_trusted_are_believed(
    proxies: str, peer: str, forwarded: str | None, origin: str
) -> None:
    assert _origin(proxies, peer, forwarded) == origin


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=60))
def test_nothing_that_is_written_there_breaks_a_call(forwarded: str) -> None:
    assert _origin("10.0.0.0/8", "10.0.0.1", forwarded)
