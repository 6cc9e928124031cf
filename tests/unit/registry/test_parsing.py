"""Everything that parses what came from outside: it understands, or refuses in its own words, and never breaks."""

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.registry.errors import (
    DigestInvalid,
    ManifestInvalid,
    NameInvalid,
    TagInvalid,
    UploadInvalid,
    UploadUnknown,
)
from services.registry.manifests import Manifest, config_tells
from services.registry.names import ImageName, Tag, digest, reference
from services.registry.ranges import Span, Unsatisfiable, asked, chunk
from services.registry.sessions import Session
from shared.digest import Digest
from tests.support.images import MANIFEST, descriptor
from tests.support.registry import DOCKER, INDEX, artifact, index_of, json_bytes, sha512_of

KEY = b"k" * 32
component = st.from_regex(r"[a-z0-9]{1,8}(?:[._-][a-z0-9]{1,8}){0,2}", fullmatch=True)
json_value = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
manifest_field = st.sampled_from(
    ["schemaVersion", "mediaType", "config", "layers", "manifests", "subject", "artifactType", "annotations"]
)


@given(st.from_regex(r"[a-z][a-z0-9-]{0,10}[a-z0-9]", fullmatch=True), st.lists(component, min_size=1, max_size=4))
def test_a_name_is_project_repository_image(project: str, image: list[str]) -> None:
    name = ImageName.parse(f"{project}/web/{'/'.join(image)}")
    assert (name.project, name.repository, name.image) == (project, "web", "/".join(image))
    assert ImageName.parse(name.path) == name


@given(st.text(max_size=300))
def test_any_text_is_a_name_or_is_refused(text: str) -> None:
    try:
        name = ImageName.parse(text)
    except NameInvalid:
        return
    assert ".." not in name.path
    assert ImageName.parse(name.path) == name


@pytest.mark.parametrize("text", ["a" * 256, "demo/web/" + "a" * 250, "demo/../x", "demo/web/a/", "/demo/web/a", ""])
def test_names_that_break_the_grammar_are_refused(text: str) -> None:
    with pytest.raises(NameInvalid):
        ImageName.parse(text)


@given(st.text(max_size=140))
def test_any_text_is_a_tag_a_digest_or_is_refused(text: str) -> None:
    try:
        found = reference(text)
    except (TagInvalid, DigestInvalid):
        return
    assert found == text
    assert isinstance(found, Digest) == (":" in text)


@given(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}", fullmatch=True))
def test_every_tag_of_the_grammar_is_taken(text: str) -> None:
    assert Tag.parse(text) == text


@given(st.sampled_from(["sha256:", "sha512:", "md5:", ""]), st.text("0123456789abcdefABCDEF", max_size=129))
def test_a_digest_has_a_known_algorithm_and_its_length(algorithm: str, digits: str) -> None:
    good = {"sha256:": 64, "sha512:": 128}.get(algorithm) == len(digits) and digits == digits.lower()
    if good:
        assert digest(algorithm + digits) == algorithm + digits
    else:
        with pytest.raises(DigestInvalid):
            digest(algorithm + digits)


@given(st.integers(0, 3000), st.integers(0, 3000), st.integers(0, 2000))
def test_a_range_is_inside_the_blob_or_unsatisfiable(first: int, last: int, size: int) -> None:
    try:
        span = asked(f"bytes={first}-{last}", size)
    except Unsatisfiable:
        assert first >= size or last < first
        return
    assert span == Span(first, min(last + 1, size))


@given(st.integers(0, 3000), st.integers(0, 2000))
def test_a_suffix_is_the_end_of_the_blob(length: int, size: int) -> None:
    try:
        span = asked(f"bytes=-{length}", size)
    except Unsatisfiable:
        assert 0 in {length, size}
        return
    assert span == Span(max(0, size - length), size)


@given(st.text(max_size=60), st.integers(0, 100))
def test_any_range_header_is_understood_or_passed_over(header: str, size: int) -> None:
    try:
        span = asked(header, size)
    except Unsatisfiable:
        return
    assert span is None or 0 <= span.start < span.end <= size


@given(st.text(max_size=60))
def test_any_content_range_is_understood_or_refused(header: str) -> None:
    try:
        span = chunk(header)
    except UploadInvalid:
        return
    assert 0 <= span.start < span.end


@given(st.integers(0, 10**12), st.integers(1, 10**9), st.sampled_from(["{}-{}", "bytes {}-{}/*", "bytes {}-{}/9"]))
def test_a_content_range_says_where_a_chunk_belongs(start: int, size: int, form: str) -> None:
    assert chunk(form.format(start, start + size - 1)) == Span(start, start + size)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_manifest_or_are_refused(content: bytes) -> None:
    with pytest.raises(ManifestInvalid):
        Manifest.parse(content, MANIFEST)


@given(manifest_field, json_value, st.sampled_from([MANIFEST, INDEX, DOCKER, "", "application/json"]))
def test_a_manifest_with_any_field_of_any_kind_is_understood_or_refused(
    field: str, value: object, content_type: str
) -> None:
    body = orjson.loads(artifact()) | {field: value}
    try:
        content = orjson.dumps(body)
    except TypeError:  # an integer that JSON here cannot hold
        return
    try:
        manifest = Manifest.parse(content, content_type)
    except (ManifestInvalid, DigestInvalid):
        return
    assert manifest.content == content
    assert manifest.size >= len(content)


def test_a_manifest_tells_its_blobs_once_and_its_size() -> None:
    layer = descriptor("application/vnd.oci.image.layer.v1.tar", b"12345")
    content = artifact(layers=[layer, layer])
    manifest = Manifest.parse(content)
    assert manifest.blobs == (Digest.of(b"{}"), Digest.of(b"12345"))
    assert manifest.size == len(content) + 2 + 5


def test_a_manifest_is_known_by_the_algorithm_it_was_asked_for_by() -> None:
    expected = Digest.parse(sha512_of(artifact()))
    assert Manifest.parse(artifact(), expected=expected).digest == expected


def test_an_index_tells_its_platforms() -> None:
    assert Manifest.parse(index_of(artifact(), b"x"), INDEX).platforms == ("linux/cpu0", "linux/cpu1")


def test_a_document_that_reads_two_ways_is_refused() -> None:
    body = orjson.loads(artifact()) | {"manifests": [descriptor(MANIFEST, b"other")]}
    with pytest.raises(ManifestInvalid, match="manifests"):
        Manifest.parse(json_bytes(body))


@pytest.mark.parametrize(
    ("content", "platform"),
    [
        (b'{"os":"linux","architecture":"arm","variant":"v7"}', "linux/arm/v7"),
        (b'{"os":"linux"}', ""),
        (b"no json", ""),
        (b"[]", ""),
    ],
)
def test_the_platform_of_an_image_stands_in_its_config(content: bytes, platform: str) -> None:
    assert config_tells(content) == (platform, "")


@pytest.mark.parametrize(
    ("created", "built"),
    [
        ("2024-01-02T03:04:05Z", "2024-01-02T03:04:05Z"),
        ("2024-01-02T03:04:05.123456789Z", "2024-01-02T03:04:05.123456789Z"),
        ("2024-01-02T03:04:05+02:00", "2024-01-02T01:04:05Z"),
        ("2024-01-02T03:04:05.5-01:30", "2024-01-02T04:34:05.500000Z"),
        ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
        ("0001-01-01T00:00:00+02:00", ""),
        ("2024-13-02T03:04:05Z", ""),
        ("2024-01-02T03:04:05", ""),
        ("yesterday", ""),
        (1704164645, ""),
        (None, ""),
    ],
)
def test_when_an_image_was_built_stands_in_its_config(created: object, built: str) -> None:
    assert config_tells(json_bytes({"created": created})) == ("", built)


@given(st.binary() | st.text().map(lambda text: json_bytes({"created": text})))
def test_no_config_is_too_strange(content: bytes) -> None:
    platform, built = config_tells(content)
    assert not built or built.endswith("Z")
    assert "\n" not in built
    assert not platform


def test_an_index_says_for_which_system_each_manifest_is() -> None:
    child = {
        **descriptor(MANIFEST, artifact()),
        "platform": {
            "os": "windows",
            "architecture": "amd64",
            "os.version": "10.0.14393.1066",
            "os.features": ["win32k", 1],
        },
    }
    (found,) = Manifest.parse(
        json_bytes({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]}), INDEX
    ).children
    assert (found.platform, found.os_version, found.os_features) == ("windows/amd64", "10.0.14393.1066", ("win32k",))


SESSION = Session("id", "demo", "web", "app", 10, "user:ada@example.org", offset=5, hashed="ab" * 32)


def test_a_sealed_session_is_read_back() -> None:
    assert Session.unseal(SESSION.seal(KEY), KEY) == SESSION


def test_a_session_sealed_with_another_key_is_unknown() -> None:
    with pytest.raises(UploadUnknown):
        Session.unseal(SESSION.seal(b"other" * 8), KEY)


@given(st.text(max_size=400) | st.text("ABCDabcd0123-_=", max_size=400))
def test_any_text_that_was_not_sealed_here_is_unknown(text: str) -> None:
    with pytest.raises(UploadUnknown):
        Session.unseal(text, KEY)


@given(st.integers(0, 199), st.integers(1, 63))
def test_a_session_changed_in_one_letter_is_unknown(place: int, by: int) -> None:
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    sealed = SESSION.seal(KEY)
    place %= len(sealed) - 1  # the last letter may hold bits that mean nothing
    other = letters[(letters.index(sealed[place]) + by) % 64]
    with pytest.raises(UploadUnknown):
        Session.unseal(sealed[:place] + other + sealed[place + 1 :], KEY)
