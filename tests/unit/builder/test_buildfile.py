"""What a build file may say."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from services.builder.buildfile import MAX_BYTES, MAX_STEPS, BuildRequest, parse_file, parse_request
from services.builder.errors import BuildfileInvalid

IMAGE = "localhost:5000/demo/tools/busybox"

SAMPLE = b"""
steps:
- name: localhost:5000/demo/tools/busybox
  id: compile
  args: [echo, hello]
  env: [A=1]
- name: localhost:5000/demo/tools/busybox
  waitFor: [compile]
  script: |
    echo done
images: [localhost:5000/demo/app/web:v1]
timeout: 600s
tags: [nightly]
"""


def test_a_build_file_is_read_with_its_defaults() -> None:
    request = parse_file(SAMPLE)
    assert [step.id for step in request.steps] == ["compile", None]
    assert request.steps[1].wait_for == ["compile"]
    assert request.timeout == "600s"
    assert request.queue_ttl == "3600s"
    assert request.all_images() == ["localhost:5000/demo/app/web:v1"]


def test_an_image_named_twice_is_pushed_once() -> None:
    request = parse_request({"steps": [{"name": IMAGE}], "images": ["a/b"], "artifacts": {"images": ["a/b", "a/c"]}})
    assert request.all_images() == ["a/b", "a/c"]


@pytest.mark.parametrize(
    ("change", "place"),
    [
        ({"steps": []}, "steps"),
        ({"steps": [{"name": IMAGE, "argz": []}]}, "argz"),
        ({"timeout": "abc"}, "timeout"),
        ({"timeout": "-5s"}, "timeout"),
        ({"substitutions": {"lower": "x"}}, "substitutions"),
        ({"steps": [{"name": IMAGE, "env": ["NOEQUALS"]}]}, "env"),
        ({"steps": [{"name": IMAGE}] * (MAX_STEPS + 1)}, "steps"),
        ({"availableSecrets": {}}, "availableSecrets"),
        ({"options": {"volumes": [{"name": "v", "path": "relative"}]}}, "path"),
    ],
)
def test_what_cannot_be_is_refused_by_name(change: dict[str, Any], place: str) -> None:
    with pytest.raises(BuildfileInvalid, match=place):
        parse_request({"steps": [{"name": IMAGE}], **change})


def test_aliases_are_refused_before_they_grow() -> None:
    bomb = b"a: &a [x, x]\nb: &b [*a, *a]\nsteps: [*b]"
    with pytest.raises(BuildfileInvalid, match="aliases"):
        parse_file(bomb)


@pytest.mark.parametrize(
    "content",
    [b"\xff\xfe\x00", b"{", b"[1, 2]", b"", b"- " * 100, b"x" * (MAX_BYTES + 1), b"a: !!python/object:os.system x"],
)
def test_what_is_no_build_file_is_refused_in_words(content: bytes) -> None:
    with pytest.raises(BuildfileInvalid):
        parse_file(content)


@given(st.binary(max_size=300))
def test_any_bytes_are_a_build_or_refused(content: bytes) -> None:
    try:
        request = parse_file(content)
    except BuildfileInvalid:
        return
    assert request.steps


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["steps", "name", "args", "env", "timeout", "images"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_JSON)
def test_any_json_is_a_build_or_refused(data: Any) -> None:
    try:
        request = parse_request(data)
    except BuildfileInvalid:
        return
    assert parse_request(request.model_dump(by_alias=True, exclude_defaults=True)) == request


@given(st.lists(st.text(alphabet="abc$_{}", max_size=12), max_size=4))
def test_a_build_survives_yaml(args: list[str]) -> None:
    data = {"steps": [{"name": IMAGE, "args": args}]}
    assert parse_file(yaml.safe_dump(data).encode()) == BuildRequest.model_validate(data)
