"""Images that are none: whatever lies in a layout or an archive, it is read or refused in a sentence."""

import io
import json
import tarfile
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from cli.exits import Failed, Missing
from cli.transport.archive import extract
from cli.transport.content import OCI_INDEX, OCI_MANIFEST, Manifest, media_type_of
from cli.transport.docker_archive import DockerArchive
from cli.transport.layout import Layout

DEEP = b"[" * 100_000


def fields(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Objects, many with fields that mean something."""
    known = ["digest", "size", "mediaType", "manifests", "config", "layers", "annotations", "platform", "RepoTags"]
    names = st.sampled_from([*known, "Config", "Layers", "schemaVersion"]) | st.text(max_size=4)
    return st.dictionaries(names, inner, max_size=4)


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | fields(inner), max_leaves=8)


def as_json(found: Any) -> bytes:
    return json.dumps(found).encode()


CONTENTS = ANYTHING.map(as_json) | fields(ANYTHING).map(as_json) | st.binary(max_size=64)
ENTRIES = st.lists(fields(ANYTHING) | SCALARS, max_size=2)


@given(CONTENTS | ENTRIES.map(lambda found: as_json({"manifests": found})))
@example(DEEP)
@example(as_json({"manifests": [{"digest": "sha256:" + "0" * 64, "annotations": []}]}))
def test_any_index_is_a_layout_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "index.json").write_bytes(content)
        for name in ("", "v1"):
            with suppress(Failed, Missing):
                Layout(Path(folder), name).manifest(None)


@given(CONTENTS, st.sampled_from([OCI_MANIFEST, OCI_INDEX]))
@example(DEEP, OCI_MANIFEST)
@example(as_json({"layers": [{"digest": "sha256:" + "0" * 64, "size": float("inf")}]}), OCI_MANIFEST)
def test_any_bytes_are_a_manifest_or_refused(content: bytes, kind: str) -> None:
    with suppress(Failed):
        media_type_of(content)
    for read in (Manifest(kind, content).blobs, Manifest(kind, content).children):
        with suppress(Failed):
            read()


@given(CONTENTS | ENTRIES.map(as_json))
@example(DEEP)
@example(as_json([{"Config": "manifest.json", "Layers": ["manifest.json"]}]))
@example(as_json([{"Config": "manifest.json"}]))
@example(as_json([{"Config": "", "Layers": [], "RepoTags": 1}]))
def test_any_entry_is_a_docker_archive_or_refused(content: bytes) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "archive.tar")
        with tarfile.open(path, "w") as archive:
            member = tarfile.TarInfo("manifest.json")
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for name in ("", "app:v1"):
            with suppress(Failed, Missing):
                DockerArchive(path, name).manifest(None)


def packed() -> bytes:
    """A small archive, packed, as tools write them."""
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w:gz") as archive:
        for name, content in (("manifest.json", b'[{"Config": "c.json", "Layers": []}]'), ("c.json", b"{}")):
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return written.getvalue()


PACKED = packed()


@settings(max_examples=150)
@given(st.integers(0, len(PACKED) - 1), st.integers(0, 255), st.integers(0, len(PACKED)))
def test_an_archive_with_any_byte_changed_or_cut_anywhere_is_read_or_refused(place: int, byte: int, end: int) -> None:
    for content in (PACKED[:place] + bytes([byte]) + PACKED[place + 1 :], PACKED[:end]):
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, "archive.tar.gz")
            path.write_bytes(content)
            with suppress(Failed, Missing):
                DockerArchive(path, "").manifest(None)
            with suppress(Failed, Missing):
                extract(path, Path(folder, "out"))


def test_a_layout_that_is_none_is_named() -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.raises(Missing, match="no OCI layout"):
        Layout(Path(folder), "").manifest(None)
