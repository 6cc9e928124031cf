"""What `entrepot configure-docker` writes among the clients' settings."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from cli.docker import kept
from cli.docker.configure import configure_docker
from tests.unit.cli.docker.test_helper import HOST, home, key

__all__ = ["home", "key"]


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("ENTREPOT_ADDRESS", f"http://{HOST}")
    return tmp_path / "docker" / "config.json"


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(configure_docker, arguments)
    return done.exit_code, str(done.exception or done.output)


def test_the_suites_registry_is_configured_and_nothing_secret_written(config: Path, key: Path) -> None:
    assert run("--key-file", str(key))[0] == 0
    assert json.loads(config.read_text()) == {"credHelpers": {HOST: "entrepot"}}
    assert kept.all_kept()[HOST].password == str(key)


def test_settings_that_are_there_stay_but_for_the_password_that_is_replaced(config: Path, key: Path) -> None:
    config.parent.mkdir()
    before = {"auths": {"a.example": {"auth": "eA=="}, "b.example": {}}, "credHelpers": {"c.example": "x"}, "more": 1}
    config.write_text(json.dumps(before))
    assert run("a.example", "--key-file", str(key))[0] == 0
    assert json.loads(config.read_text()) == {
        "auths": {"b.example": {}},
        "credHelpers": {"c.example": "x", "a.example": "entrepot"},
        "more": 1,
    }


@pytest.mark.parametrize("broken", ["", "[]", '{"credHelpers": null}', '{"auths": 5}'])
def test_settings_that_are_no_settings_are_left_as_they_are(config: Path, key: Path, broken: str) -> None:
    config.parent.mkdir()
    config.write_text(broken)
    code, said = run("--key-file", str(key))
    assert code == 1
    assert "cannot be read" in said
    assert config.read_text() == broken
    assert kept.all_kept() == {}
