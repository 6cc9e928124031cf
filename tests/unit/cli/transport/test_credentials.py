import base64
import json
from pathlib import Path

import pytest

from cli.exits import Failed
from cli.transport.credentials import Credentials, given, kept


@pytest.fixture
def home(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in ("REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    return tmp_path


def auth(user: str, password: str) -> dict[str, str]:
    return {"auth": base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_nothing_kept_is_nobody(home: Path) -> None:
    assert list(home.iterdir()) == []
    assert kept("127.0.0.1:5000") is None


def test_what_docker_login_kept_is_used_for_that_host_alone(home: Path) -> None:
    (home / "config.json").write_text(json.dumps({"auths": {"127.0.0.1:5000": auth("_json_key", '{"a":"b:c"}')}}))

    assert kept("127.0.0.1:5000") == Credentials("_json_key", '{"a":"b:c"}')
    assert kept("example.org") is None


def test_the_file_that_is_named_counts_first(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (home / "config.json").write_text(json.dumps({"auths": {"h": auth("docker", "x")}}))
    (home / "podman.json").write_text(json.dumps({"auths": {"h": auth("podman", "y")}}))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(home / "podman.json"))

    assert kept("h") == Credentials("podman", "y")


def test_a_credential_program_is_asked(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = home / "docker-credential-mine"
    program.write_text('#!/bin/sh\nread host; echo "{\\"Username\\":\\"me\\",\\"Secret\\":\\"for $host\\"}"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{home}:/usr/bin:/bin")
    (home / "config.json").write_text(json.dumps({"credHelpers": {"h": "mine"}}))

    assert kept("h") == Credentials("me", "for h")


def test_a_name_that_is_no_program_is_not_run(home: Path) -> None:
    (home / "config.json").write_text(json.dumps({"credsStore": "../evil"}))

    with pytest.raises(Failed, match="no name of a credential program"):
        kept("h")


def test_credentials_need_a_colon() -> None:
    assert given("me:a:b") == Credentials("me", "a:b")
    with pytest.raises(Failed, match="USER:PASSWORD"):
        given("me")


def test_a_broken_file_is_named(home: Path) -> None:
    (home / "config.json").write_text("{")

    with pytest.raises(Failed, match=r"config\.json cannot be read"):
        kept("h")
