from pathlib import Path

import pytest

from infra.embedded.folder import DataFolder
from infra.embedded.services import Place
from infra.embedded.suite import greeting


def test_it_says_where_everything_is_and_four_commands_to_try(tmp_path: Path) -> None:
    said = greeting(Place(DataFolder(tmp_path / "data"), 6000), 3.21, [])

    assert said.startswith("Entrepot is ready after 3.2 s.")
    assert "audit-log  http://127.0.0.1:6006" in said
    assert str(tmp_path / "data" / "keys" / "admin.json") in said
    assert len(said.partition("Try")[2].splitlines()) == 5
    assert f"entrepot events tail --data {tmp_path / 'data'}" in said
    assert "docker push 127.0.0.1:6000/demo/web/app:1" in said


def test_the_default_folder_is_not_named_in_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    assert "entrepot events tail\n" in greeting(Place(DataFolder(tmp_path / ".entrepot"), 5000), 1, [])


def test_what_is_not_ready_is_named_with_its_log(tmp_path: Path) -> None:
    said = greeting(Place(DataFolder(tmp_path), 5000), 60, ["scanner"])

    assert said.startswith("Entrepot is up after 60.0 s.")
    assert f"http://127.0.0.1:5003   not ready yet; see {tmp_path}/logs/scanner.log" in said
