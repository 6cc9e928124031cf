"""That plain HTTP will do is written for registries on this machine, and for no other."""

from pathlib import Path

import pytest

from cli.docker.loopback import is_loopback
from tests.unit.cli.docker.test_configure import config, run
from tests.unit.cli.docker.test_helper import home, key

__all__ = ["config", "home", "key"]


@pytest.mark.parametrize(
    "host", ["127.0.0.1:5000", "127.0.0.1", "127.1.2.3:80", "localhost:5000", "localhost", "[::1]:5"]
)
def test_these_are_this_machine(host: str) -> None:
    assert is_loopback(host)


@pytest.mark.parametrize("host", ["registry.example:5000", "10.0.0.1", "localhost.example", "1127.0.0.1", "::2", ""])
def test_these_are_not(host: str) -> None:
    assert not is_loopback(host)


@pytest.mark.usefixtures("config")
def test_podman_is_told_of_plain_http_for_a_registry_here_and_for_no_other(
    key: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert run("127.0.0.1:5000", "registry.example", "--key-file", str(key))[0] == 0
    (written,) = (tmp_path / ".config" / "containers" / "registries.conf.d").iterdir()
    assert written.read_text() == '[[registry]]\nlocation = "127.0.0.1:5000"\ninsecure = true\n'
