import io
import tarfile
from pathlib import Path

import pytest

from cli.advisories import fill, source_of
from cli.exits import Missing


def test_a_folder_is_sent_as_an_archive_of_its_advisories(tmp_path: Path) -> None:
    (tmp_path / "npm").mkdir()
    (tmp_path / "npm" / "GHSA-1.json").write_text("{}")
    (tmp_path / "README.md").write_text("not an advisory")
    body = io.BytesIO()
    fill(body, str(tmp_path))

    with tarfile.open(fileobj=io.BytesIO(body.getvalue())) as archive:
        assert archive.getnames() == ["npm/GHSA-1.json"]


def test_a_file_is_sent_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "all.zip").write_bytes(b"PK")
    body = io.BytesIO()
    fill(body, str(tmp_path / "all.zip"))

    assert body.getvalue() == b"PK"


@pytest.mark.parametrize("name", ["", "nowhere"])
def test_nothing_to_send_is_said_so(tmp_path: Path, name: str) -> None:
    with pytest.raises(Missing):
        fill(io.BytesIO(), str(tmp_path / name))


@pytest.mark.parametrize(
    ("place", "source"),
    [
        ("https://example.org/PyPI/all.zip?x=1", "all"),
        ("/data/Debian 12/", "debian-12"),
        ("seed.tar.gz", "seed"),
        ("...", "imported"),
    ],
)
def test_a_source_is_named_for_where_it_came_from(place: str, source: str) -> None:
    assert source_of(place) == source
