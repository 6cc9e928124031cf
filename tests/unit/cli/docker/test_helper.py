"""The credential program, spoken to as container clients do."""

import io
import json
import stat
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from cli.docker import helper, kept
from cli.exits import Failed
from cli.transport.credentials import Credentials

HOST = "registry.example:5000"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    return tmp_path


@pytest.fixture
def key(tmp_path: Path) -> Path:
    private = ec.generate_private_key(ec.SECP256R1()).private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = tmp_path / "key.json"
    fields = {"client_email": "ci@demo.iam.entrepot", "private_key_id": "k1", "private_key": private.decode()}
    path.write_text(json.dumps({**fields, "token_uri": "http://127.0.0.1:1/token"}))
    return path


@pytest.fixture
def exchanged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The accounts for which a token was fetched."""
    seen: list[str] = []

    def token(key: Any) -> str:
        seen.append(key.email)
        return "short-lived"

    monkeypatch.setattr(helper, "access_token", token)
    return seen


def ask(word: str, stdin: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> tuple[int, str]:
    monkeypatch.setattr("sys.stdin", io.StringIO(stdin))
    try:
        helper.main([word])
    except SystemExit as leaving:
        return int(str(leaving.code)), capsys.readouterr().out.strip()
    return 0, capsys.readouterr().out.strip()


def login(user: str, password: str, server: str = HOST) -> str:
    return json.dumps({"ServerURL": server, "Username": user, "Secret": password})


@pytest.mark.parametrize("server", [HOST, f"https://{HOST}", f"http://{HOST}/v2/", f" {HOST}\n"])
def test_a_stored_key_is_answered_with_a_token_and_never_with_itself(
    server: str, key: Path, exchanged: list[str]
) -> None:
    helper.store(login("_json_key", key.read_text(), f"https://{HOST}/v1/"))
    said = json.loads(helper.get(server))
    assert (said["Username"], said["Secret"]) == ("oauth2accesstoken", "short-lived")
    assert exchanged == ["ci@demo.iam.entrepot"]


def test_a_key_file_that_was_configured_stays_where_it_is(key: Path, exchanged: list[str], home: Path) -> None:
    kept.keep(HOST, Credentials(kept.KEY_FILE, str(key)))
    assert json.loads(helper.get(HOST))["Secret"] == "short-lived"
    assert exchanged
    assert "PRIVATE KEY" not in (home / "config/entrepot/registries.json").read_text()


def test_what_is_stored_is_readable_by_its_owner_alone(key: Path, home: Path) -> None:
    helper.store(login("_json_key", key.read_text()))
    written = home / "config/entrepot/registries.json"
    assert stat.S_IMODE(written.stat().st_mode) == 0o600
    assert [path.name for path in written.parent.iterdir() if path.name.startswith(".")] == []


def test_another_login_is_given_back_as_it_came() -> None:
    helper.store(login("ada", "pass:word"))
    said = json.loads(helper.get(HOST))
    assert (said["Username"], said["Secret"]) == ("ada", "pass:word")
    assert json.loads(helper.listed("")) == {HOST: "ada"}


def test_an_unknown_registry_is_said_in_the_words_that_clients_know(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert ask("get", HOST, monkeypatch, capsys) == (1, "credentials not found in native keychain")
    assert ask("erase", HOST, monkeypatch, capsys) == (1, "credentials not found in native keychain")


def test_an_erased_login_is_gone_and_the_others_stay() -> None:
    helper.store(login("ada", "one"))
    helper.store(login("ada", "two", "other.example"))
    helper.erase(HOST)
    assert json.loads(helper.listed("")) == {"other.example": "ada"}


@pytest.mark.parametrize("word", ["", "got", "--help"])
def test_an_unknown_word_is_answered_with_those_there_are(
    word: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, said = ask(word, "", monkeypatch, capsys)
    assert (code, said) == (1, "usage: docker-credential-entrepot get|store|erase|list|version")


def test_a_broken_key_is_refused_and_not_quoted() -> None:
    with pytest.raises(Failed, match="is not a key file") as refused:
        helper.store(login("_json_key", '{"private_key": "very secret", '))
    assert "very secret" not in str(refused.value)
    assert json.loads(helper.listed("")) == {}


def test_a_key_in_base64_that_is_none_is_refused() -> None:
    with pytest.raises(Failed, match="not base64"):
        helper.store(login("_json_key_base64", "%%%"))


def test_a_file_of_logins_that_is_broken_is_left_as_it_is(home: Path) -> None:
    path = home / "config/entrepot/registries.json"
    path.parent.mkdir(parents=True)
    path.write_text("[1]")
    with pytest.raises(Failed, match="cannot be read"):
        helper.store(login("ada", "one"))
    assert path.read_text() == "[1]"


@settings(max_examples=200)
@given(st.text(max_size=200))
def test_nothing_that_is_said_breaks_it(text: str) -> None:
    for act in (helper.get, helper.erase, helper.store):
        with pytest.raises(Failed):
            act(text)
