from collections.abc import Callable
from pathlib import Path
from tempfile import mkdtemp

import pytest

from cli.exits import Failed, Missing
from cli.transport.copying import copy
from cli.transport.docker_archive import DockerArchive, DockerArchiveTarget
from cli.transport.layout import ArchivedLayout, Layout
from tests.support.images import tar_of
from tests.support.layouts import LayoutWriter

FILES = [{"etc/os-release": b"ID=debian\n", "bin/sh": b"\x7fELF" * 1000}, {"app.py": b"print('hello')\n"}]


@pytest.fixture
def between(tmp_path: Path) -> Callable[[], Path]:
    """A fresh empty folder each time."""
    return lambda: Path(mkdtemp(dir=tmp_path))


@pytest.fixture
def written(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "source")


def test_an_index_arrives_whole_with_the_same_digest(written: LayoutWriter, tmp_path: Path) -> None:
    both = {platform: written.image(FILES, platform) for platform in ("linux/amd64", "linux/arm64")}
    digest = written.name(written.index(both), "1")
    target = Layout(tmp_path / "target", "1")

    assert copy(Layout(written.folder, "1"), target) == digest
    assert target.manifest(None).content == Layout(written.folder, "1").manifest(None).content
    assert len(list((tmp_path / "target" / "blobs" / "sha256").iterdir())) == 7


def test_one_platform_of_an_index_is_chosen(written: LayoutWriter, tmp_path: Path) -> None:
    arm = written.image(FILES, "linux/arm64")
    written.name(written.index({"linux/amd64": written.image(FILES), "linux/arm64": arm}), "1")

    assert copy(Layout(written.folder, ""), Layout(tmp_path / "target", "arm"), "linux/arm64") == arm["digest"]


def test_a_platform_that_is_not_there_is_named_with_those_that_are(written: LayoutWriter, tmp_path: Path) -> None:
    written.name(written.index({"linux/amd64": written.image(FILES)}), "1")

    with pytest.raises(Missing, match=r"no platform linux/s390x; it has linux/amd64"):
        copy(Layout(written.folder, "1"), Layout(tmp_path / "target", "1"), "linux/s390x")


def test_bytes_that_are_not_what_the_manifest_says_are_not_stored(written: LayoutWriter, tmp_path: Path) -> None:
    written.name(written.image(FILES), "1")
    layer = Layout(written.folder, "1").manifest(None).blobs()[1]
    path = written.folder / "blobs" / "sha256" / layer.digest.hex
    path.write_bytes(b"x" * layer.size)

    with pytest.raises(Failed, match="other bytes"):
        copy(Layout(written.folder, "1"), Layout(tmp_path / "target", "1"))
    assert not (tmp_path / "target" / "blobs" / "sha256" / layer.digest.hex).exists()
    assert not (tmp_path / "target" / "index.json").exists()


def test_an_archive_of_a_layout_gives_the_image_back(
    written: LayoutWriter, tmp_path: Path, between: Callable[[], Path]
) -> None:
    digest = written.name(written.image(FILES), "1")
    archive = tmp_path / "image.tar"

    assert copy(Layout(written.folder, "1"), ArchivedLayout(archive, "1", between(), reading=False)) == digest
    assert copy(ArchivedLayout(archive, "1", between(), reading=True), Layout(tmp_path / "again", "1")) == digest


def test_the_same_image_gives_the_same_archive(
    written: LayoutWriter, tmp_path: Path, between: Callable[[], Path]
) -> None:
    written.name(written.image(FILES), "1")
    for name in ("a.tar", "b.tar"):
        copy(Layout(written.folder, "1"), ArchivedLayout(tmp_path / name, "1", between(), reading=False))

    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_a_docker_archive_keeps_config_and_layers(
    written: LayoutWriter, tmp_path: Path, between: Callable[[], Path]
) -> None:
    written.name(written.image(FILES), "1")
    archive = tmp_path / "image.tar"
    copy(Layout(written.folder, "1"), DockerArchiveTarget(archive, "app:1", between()))

    copy(DockerArchive(archive, "app:1"), Layout(tmp_path / "again", "1"))

    before, after = (Layout(folder, "1").manifest(None).blobs() for folder in (written.folder, tmp_path / "again"))
    assert after[0].digest == before[0].digest
    assert [layer.media_type.rpartition(".")[2] for layer in after[1:]] == ["tar", "tar"]


def test_a_docker_archive_holds_no_index(written: LayoutWriter, tmp_path: Path, between: Callable[[], Path]) -> None:
    written.name(written.index({"linux/amd64": written.image(FILES)}), "1")

    with pytest.raises(Failed, match="--platform"):
        copy(Layout(written.folder, "1"), DockerArchiveTarget(tmp_path / "image.tar", "app:1", between()))


def test_an_archive_that_leads_out_of_its_folder_is_refused(tmp_path: Path, between: Callable[[], Path]) -> None:
    archive = tmp_path / "evil.tar"
    archive.write_bytes(tar_of({"../outside": b"x"}))

    with pytest.raises(Failed, match="leads out"):
        ArchivedLayout(archive, "", between(), reading=True)
    assert not (tmp_path / "outside").exists()


def test_an_unknown_name_is_answered_with_the_known_ones(written: LayoutWriter) -> None:
    written.name(written.image(FILES), "1.0")

    with pytest.raises(Missing, match=r"there are: 1\.0"):
        Layout(written.folder, "2.0").manifest(None)
