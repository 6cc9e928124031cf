"""Image references."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.builder.errors import ImageUnavailable
from services.builder.references import parse_reference

DIGEST = "sha256:" + "a" * 64


@pytest.mark.parametrize(
    ("text", "host", "name", "wanted", "local"),
    [
        ("localhost:5000/demo/web/app:v1", "localhost:5000", "demo/web/app", "v1", True),
        ("127.0.0.1:5000/demo/app", "127.0.0.1:5000", "demo/app", "latest", True),
        ("[::1]:5000/demo/app", "[::1]:5000", "demo/app", "latest", True),
        (f"registry.example/a/b@{DIGEST}", "registry.example", "a/b", DIGEST, False),
        (f"registry.example/a/b:v1@{DIGEST}", "registry.example", "a/b", DIGEST, False),
    ],
)
def test_a_reference_is_read(text: str, host: str, name: str, wanted: str, local: bool) -> None:  # noqa: FBT001
    reference = parse_reference(text)
    assert (reference.host, reference.name, reference.wanted, reference.local) == (host, name, wanted, local)
    assert str(reference) == text


@pytest.mark.parametrize(
    "text",
    [
        "busybox",
        "library/busybox",
        "",
        "localhost/",
        "localhost/UPPER",
        "localhost/a/../b",
        f"localhost/a@{DIGEST[:-1]}",
        "localhost/a:" + "x" * 129,
        "a" * 600,
    ],
)
def test_what_names_no_registry_or_is_malformed_is_refused(text: str) -> None:
    with pytest.raises(ImageUnavailable):
        parse_reference(text)


@given(st.text(alphabet="abC.:/@-_01[]", max_size=40))
def test_any_text_is_a_reference_that_reads_the_same_again_or_refused(text: str) -> None:
    try:
        reference = parse_reference(text)
    except ImageUnavailable:
        return
    assert parse_reference(str(reference)) == reference
