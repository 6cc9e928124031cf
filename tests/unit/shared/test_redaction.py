"""Secrets are taken out of texts however quickly it is seen that there are none."""

from hypothesis import given
from hypothesis import strategies as st

from shared.redaction import _SECRET_VALUE, REDACTED, redacted, redacted_text

_WORDS = st.sampled_from(
    [
        "Bearer abcdefghij",
        "bAsIc dXNlcjpwYXNz",
        "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhIn0.c2ln",
        "?_state=abc",
        "&Token=xyz",
        "-----BEGIN EC PRIVATE KEY-----",
        "Ba\u017fic dXNlcjpwYXNz",
        "plain words",
        "=",
        "/v2/demo/web/app",
    ]
)


@given(st.lists(_WORDS | st.text(max_size=12), max_size=6).map(" ".join))
def test_the_short_way_finds_what_the_long_one_finds(text: str) -> None:
    long = _SECRET_VALUE.sub(REDACTED, text.encode(errors="replace").decode())
    assert redacted_text(text) == long


def test_names_of_secrets_hide_their_values_each_time() -> None:
    for _ in range(2):
        assert redacted({"password": "x", "digest": "y", "useToken": True}) == {
            "password": REDACTED,
            "digest": "y",
            "useToken": True,
        }
