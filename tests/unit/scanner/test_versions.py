"""Version keys order as the reference of each ecosystem does."""

import re
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from packaging.version import InvalidVersion, Version

from services.scanner.versions import VersionInvalid, key_of


def sign(number: int) -> int:
    return (number > 0) - (number < 0)


def compared(ecosystem: str, one: str, other: str) -> int:
    left, right = key_of(ecosystem, one), key_of(ecosystem, other)
    return (left > right) - (left < right)


# Debian: the algorithm of Debian's policy, written down as it stands there.


def debian_order(one: str, other: str) -> int:
    (epoch, upstream, revision), (epoch2, upstream2, revision2) = debian_parts(one), debian_parts(other)
    return sign(epoch - epoch2) or part_order(upstream, upstream2) or part_order(revision, revision2)


def debian_parts(version: str) -> tuple[int, str, str]:
    epoch, colon, rest = version.partition(":")
    if not colon:
        epoch, rest = "0", version
    upstream, dash, revision = rest.rpartition("-")
    return int(epoch), upstream if dash else rest, revision if dash else "0"


def part_order(one: str, other: str) -> int:
    while one or other:
        left, right = re.match(r"\D*", one), re.match(r"\D*", other)
        assert left
        assert right
        found = word_order(left[0], right[0])
        if found:
            return found
        one, other = one[left.end() :], other[right.end() :]
        left, right = re.match(r"\d*", one), re.match(r"\d*", other)
        assert left
        assert right
        found = sign(int(left[0] or 0) - int(right[0] or 0))
        if found:
            return found
        one, other = one[left.end() :], other[right.end() :]
    return 0


def word_order(one: str, other: str) -> int:
    def weight(word: str, place: int) -> int:
        if place >= len(word):
            return 0
        letter = word[place]
        return -1 if letter == "~" else ord(letter) if letter.isalpha() else ord(letter) + 256

    for place in range(max(len(one), len(other))):
        found = sign(weight(one, place) - weight(other, place))
        if found:
            return found
    return 0


DEBIAN = st.builds(
    lambda epoch, upstream, revision: f"{epoch}{upstream}{revision}",
    st.sampled_from(["", "0:", "1:", "10:"]),
    st.from_regex(r"[0-9][0-9a-zA-Z.+~]{0,8}", fullmatch=True),
    st.one_of(st.just(""), st.from_regex(r"-[0-9a-zA-Z.+~]{1,6}", fullmatch=True)),
)


@settings(max_examples=400, deadline=None)
@given(DEBIAN, DEBIAN)
def test_debian_versions_order_as_policy_says(one: str, other: str) -> None:
    assert compared("Debian:12", one, other) == debian_order(one, other)


def test_debian_versions_known_to_be_tricky() -> None:
    ordered = "1.0~~ 1.0~~a 1.0~ 1.0 1.0-0.1 1.0-1 1.0-1+b1 1.0-1+deb12u1 1.0a 1.0+b 1.0.1 1.10 1:0.1"
    for one, other in pairwise(ordered.split()):
        assert compared("Debian:12", one, other) == -1, (one, other)
    assert compared("Debian:12", "1.0-0", "1.0") == 0
    assert compared("Debian:12", "0:1.00", "1.0") == 0


# Python: packaging is the reference.


PYTHON = st.from_regex(
    r"(?:[01]!)?[0-3](?:\.[0-9]{1,2}){0,3}(?:(?:a|b|rc)[0-2])?(?:\.post[0-2])?(?:\.dev[0-2])?(?:\+[a-c0-9]{1,3}(?:\.[a-c0-9]{1,2})?)?",
    fullmatch=True,
)


@settings(max_examples=400, deadline=None)
@given(PYTHON, PYTHON)
def test_python_versions_order_as_packaging_says(one: str, other: str) -> None:
    left, right = Version(one), Version(other)
    assert compared("PyPI", one, other) == (left > right) - (left < right)


@given(st.text("0123456789.abcrdevpost+-_!v ", max_size=12))
def test_what_packaging_refuses_has_no_key(text: str) -> None:
    try:
        Version(text)
    except InvalidVersion:
        with pytest.raises(VersionInvalid):
            key_of("PyPI", text)
    else:
        assert key_of("PyPI", text)


# npm: the precedence of semver.org, written down as it stands there.


def semver_order(one: str, other: str) -> int:
    (numbers, words), (numbers2, words2) = semver_parts(one), semver_parts(other)
    if numbers != numbers2:
        return 1 if numbers > numbers2 else -1
    if not words or not words2:
        return sign(bool(words2) - bool(words))
    for left, right in zip(words, words2, strict=False):
        if left == right:
            continue
        if left.isdigit() and right.isdigit():
            return sign(int(left) - int(right))
        if left.isdigit() != right.isdigit():
            return -1 if left.isdigit() else 1
        return 1 if left > right else -1
    return sign(len(words) - len(words2))


def semver_parts(version: str) -> tuple[list[int], list[str]]:
    numbers, _, words = version.partition("+")[0].partition("-")
    return [int(number) for number in numbers.split(".")], words.split(".") if words else []


WORD = st.from_regex(r"0|[1-9][0-9]{0,2}|[0-9a-b-]{0,2}[a-b-][0-9a-b-]{0,2}", fullmatch=True)
SEMVER = st.builds(
    lambda numbers, words, build: ".".join(map(str, numbers)) + (f"-{'.'.join(words)}" if words else "") + build,
    st.lists(st.integers(0, 12), min_size=3, max_size=3),
    st.lists(WORD, max_size=3),
    st.sampled_from(["", "+build.5"]),
)


@settings(max_examples=400, deadline=None)
@given(SEMVER, SEMVER)
def test_npm_versions_order_as_semver_says(one: str, other: str) -> None:
    assert compared("npm", one, other) == semver_order(one, other)


def test_semver_versions_of_the_specification_and_loose_ones() -> None:
    ordered = "1.0.0-alpha 1.0.0-alpha.1 1.0.0-alpha.beta 1.0.0-beta 1.0.0-beta.2 1.0.0-beta.11 1.0.0-rc.1 1.0.0"
    for one, other in pairwise(ordered.split()):
        assert compared("npm", one, other) == -1
    for loose in ("v1.0.0", "=1.0.0", "1.0", "1", " 1.0.0 ", "1.0.0+build"):
        assert compared("npm", loose, "1.0.0") == 0


@pytest.mark.parametrize("ecosystem", ["Debian:12", "PyPI", "npm"])
@pytest.mark.parametrize("version", ["", " ", "1.0 && true", "1" * 600, "ä", "1.0\n2", "../../etc"])
def test_a_malformed_version_has_no_key(ecosystem: str, version: str) -> None:
    with pytest.raises(VersionInvalid):
        key_of(ecosystem, version)


@given(st.text(max_size=40), st.sampled_from(["Debian:12", "PyPI", "npm"]))
def test_any_text_has_a_key_or_is_invalid(text: str, ecosystem: str) -> None:
    with suppress(VersionInvalid):
        assert key_of(ecosystem, text)
