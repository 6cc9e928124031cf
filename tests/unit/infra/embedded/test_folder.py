import json
import os
import stat
from pathlib import Path

import pytest

from infra.embedded.errors import CannotStart
from infra.embedded.folder import DataFolder, refuse_a_foreign_folder, secret, write


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_nobody_else_can_read_the_folder_or_a_room_in_it(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path / "data")

    assert {mode(path) for path in (folder.root, *folder.root.iterdir())} == {0o700}


def test_a_folder_that_was_open_to_others_is_closed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir(mode=0o755)

    assert mode(DataFolder.at(tmp_path / "data").root) == 0o700


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(CannotStart, match=r"file/data cannot be made"):
        DataFolder.at(tmp_path / "file" / "data")


def test_a_second_start_on_the_same_folder_is_refused_with_what_to_do(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    lock = folder.lock()

    with pytest.raises(
        CannotStart, match=rf"running on .* already \(process {os.getpid()}\): stop it with `entrepot down"
    ):
        folder.lock()
    os.close(lock)


def test_the_lock_goes_with_whoever_held_it(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    os.close(folder.lock())

    os.close(folder.lock())


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "keys" / "one"

    first = secret(path)

    assert secret(path) == first
    assert len(first) == 64
    assert mode(path) == 0o600


def test_writing_replaces_the_whole_file(tmp_path: Path) -> None:
    write(tmp_path / "file", b"long content")
    write(tmp_path / "file", b"short")

    assert (tmp_path / "file").read_bytes() == b"short"
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_the_description_is_json_for_the_command_line(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    folder.describe({"services": {}})

    assert json.loads(folder.description.read_bytes()) == {"services": {}}


def test_a_long_log_is_put_aside_and_kept_once(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    with folder.log("registry").open("wb") as log:
        log.truncate(60 * 2**20)

    assert not folder.log("registry").exists()
    assert (tmp_path / "logs" / "registry.log.1").exists()


def test_bytes_stay_in_the_bucket_that_the_folder_began_with(tmp_path: Path) -> None:
    folder = DataFolder.at(tmp_path)
    folder.keep_bytes_in("s3")
    folder.keep_bytes_in("s3")

    with pytest.raises(CannotStart, match="start it with `--blobs s3`"):
        folder.keep_bytes_in("directory")


def test_a_folder_that_holds_something_else_is_left_alone(tmp_path: Path) -> None:
    refuse_a_foreign_folder(tmp_path / "none")
    refuse_a_foreign_folder(tmp_path)
    (tmp_path / "letters").mkdir(mode=0o755)

    with pytest.raises(CannotStart, match="is not empty"):
        refuse_a_foreign_folder(tmp_path)
    DataFolder.at(tmp_path / "data")
    refuse_a_foreign_folder(tmp_path / "data")
