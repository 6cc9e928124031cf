import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.exits import Failed
from cli.transport.addresses import Local, Remote, parse, parse_remote
from cli.transport.door import parse_challenge

DIGEST = "sha256:" + "a" * 64


def test_a_registry_s_image_has_host_name_tag_and_digest() -> None:
    assert parse(f"docker://127.0.0.1:5000/demo/web/app:1@{DIGEST}") == Remote(
        "127.0.0.1:5000", "demo/web/app", "1", DIGEST
    )


def test_without_tag_and_digest_latest_is_meant() -> None:
    assert parse_remote("example.org/app").reference == "latest"


@pytest.mark.parametrize("kind", ["oci", "oci-archive", "docker-archive"])
def test_a_local_place_has_a_path_and_a_name(kind: str) -> None:
    assert parse(f"{kind}:/tmp/x:app:1") == Local(kind, "/tmp/x", "app:1")  # noqa: S108


@pytest.mark.parametrize(
    "text", ["", "app", "docker:app", "oci:", "oci::1", "docker://host", "docker://h/UPPER", "ftp:x"]
)
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(Failed):
        parse(text)


@given(st.text())
def test_no_text_breaks_the_parser(text: str) -> None:
    for start in ("", "docker://", "oci:"):
        try:
            parse(start + text)
        except Failed:
            continue


def test_a_challenge_is_read_with_its_quoted_parameters() -> None:
    header = 'Bearer realm="http://127.0.0.1:5001/token",service="127.0.0.1:5000",scope="repository:a/b:pull,push"'

    assert parse_challenge(header) == (
        "bearer",
        {"realm": "http://127.0.0.1:5001/token", "service": "127.0.0.1:5000", "scope": "repository:a/b:pull,push"},
    )


@given(st.text())
def test_no_header_breaks_the_challenge_parser(header: str) -> None:
    parse_challenge(header)
    parse_challenge(f"Bearer {header}")
