import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.attestor.patterns import check_pattern, matches
from services.attestor.references import Place, Reference, place_of

DIGEST = "sha256:" + "a" * 64
HOSTS = {"localhost:5000": "local"}

part = st.from_regex(r"[a-z0-9]{1,8}(-[a-z0-9]{1,4})?", fullmatch=True)
host = st.sampled_from(["localhost", "localhost:5000", "registry.example.com", "registry.example.com:443", "h:80"])
paths = st.lists(part, min_size=1, max_size=5).map("/".join)
tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,20}", fullmatch=True)


@given(host, paths, st.one_of(st.just(""), tags), st.sampled_from(["", DIGEST]))
def test_a_full_reference_is_read_as_it_was_written(host: str, path: str, tag: str, digest: str) -> None:
    text = f"{host}/{path}" + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    found = Reference.parse(text)
    assert (found.host, found.path, found.digest) == (host, path, digest)
    assert found.tag == (tag or ("" if digest else "latest"))
    assert Reference.parse(str(found)) == found


@given(st.text(max_size=60))
def test_any_text_is_a_reference_or_a_value_error(text: str) -> None:
    try:
        found = Reference.parse(text)
    except ValueError:
        return
    assert Reference.parse(str(found)) == found


@pytest.mark.parametrize(
    ("text", "full"),
    [
        ("nginx", "docker.io/library/nginx:latest"),
        ("foo/bar:1", "docker.io/foo/bar:1"),
        ("index.docker.io/foo/bar", "docker.io/foo/bar:latest"),
        (f"localhost:5000/demo/web/app@{DIGEST}", f"localhost:5000/demo/web/app@{DIGEST}"),
    ],
)
def test_short_names_are_docker_hubs(text: str, full: str) -> None:
    assert str(Reference.parse(text)) == full


@pytest.mark.parametrize("text", ["", "a:", "A/b", "a//b", "a/b:x y", "a@sha256:12", "a/../b", "x" * 600, "host:5000/"])
def test_what_is_no_reference_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        Reference.parse(text)


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("localhost:5000/demo/web/app", Place("demo", "local", "web", "app")),
        ("localhost:5000/demo/web/a/b", Place("demo", "local", "web", "a/b")),
        ("localhost:5000/demo/app", Place("demo", "local", "gcr.io", "app")),
        ("localhost:5000/app", None),
        ("elsewhere.example/demo/web/app", None),
    ],
)
def test_a_reference_points_into_our_registry_or_elsewhere(text: str, place: Place | None) -> None:
    assert place_of(Reference.parse(text), HOSTS) == place


@pytest.mark.parametrize(
    ("pattern", "image", "expected"),
    [
        ("gcr.io/p/*", "gcr.io/p/a:1", True),
        ("gcr.io/p/*", "gcr.io/p/a/b:1", False),
        ("gcr.io/p/**", "gcr.io/p/a/b:1", True),
        ("gcr.io/p/a", "gcr.io/p/a:1", True),
        ("gcr.io/p/a:1", "gcr.io/p/a:1", True),
        ("gcr.io/p/a:2", "gcr.io/p/a:1", False),
        ("gcr.io/p/a@" + DIGEST, "gcr.io/p/a@" + DIGEST, True),
        ("gcr.io/p/a@" + DIGEST, "gcr.io/p/a:1@" + DIGEST, True),
        ("gcr.io/p/a:1", "gcr.io/p/a:1@" + DIGEST, False),  # a digest runs, whatever tag is written beside it
        ("gcr.io/p/ng*", "gcr.io/p/nginx", True),
        ("gcr.io/p/ng*", "gcr.io/p/apache", False),
        ("docker.io/library/*", "nginx", True),
    ],
)
def test_patterns_match_to_the_next_slash_or_beyond(pattern: str, image: str, *, expected: bool) -> None:
    assert matches(check_pattern(pattern), Reference.parse(image)) is expected


@pytest.mark.parametrize(
    "pattern", ["*", "**", "gcr*", "gcr.io", "gcr.io/", "gcr.io/*/a", "gcr.io/a***", "gcr.io/a b", ""]
)
def test_a_wildcard_stands_only_at_the_end_behind_the_registry(pattern: str) -> None:
    with pytest.raises(ValueError):
        check_pattern(pattern)


@given(host, paths, st.integers(0, 40))
def test_a_cut_name_with_two_stars_matches_and_with_one_only_within_a_part(host: str, path: str, cut: int) -> None:
    head = path[: min(cut, len(path))]
    reference = Reference.parse(f"{host}/{path}")
    assert matches(check_pattern(f"{host}/{head}**"), reference)
    assert matches(check_pattern(f"{host}/{head}*"), reference) is ("/" not in path[len(head) :])
