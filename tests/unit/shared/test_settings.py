"""Settings from the environment, secrets from files."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.settings import Settings, SettingsWrong, read, secret, secret_or_nothing


def test_a_process_without_settings_is_whole_and_in_memory() -> None:
    settings = read(Settings, {"PATH": "/bin", "ENTREPOT_REGISTRY_TAGS_PAGE": "7", "ENTREPOT_PORT": ""})
    assert (settings.state_url, settings.bus_url, settings.bucket, settings.port) == ("", "", "memory", 0)


def test_settings_are_read_by_their_names() -> None:
    given_ = {"ENTREPOT_PORT": "5000", "ENTREPOT_STATE_ACCEPT_LOSS": "true", "ENTREPOT_DATA": "/data"}
    settings = read(Settings, given_)
    assert (settings.port, settings.state_accept_loss, settings.data) == (5000, True, Path("/data"))


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("PORT", "hunter2", "ENTREPOT_PORT: "),
        ("PORT", "70000", "ENTREPOT_PORT: "),
        ("BUCKET", "hunter2", "ENTREPOT_BUCKET: "),
        ("BUCKET", "directory", "bucket=directory needs bucket_directory"),
        ("BUCKET", "s3", "bucket_endpoint"),
        ("TLS_KEY", "/k", "go together"),
        ("LOCATION", "Not A Place", "ENTREPOT_LOCATION: "),
        ("TRUSTED_PROXIES", "10.0.0.0/8,hunter2", "ENTREPOT_TRUSTED_PROXIES: "),
        ("LOG_LEVEL", "hunter2", "'debug', 'info'"),
    ],
)
def test_a_wrong_value_is_named_and_a_secret_in_the_wrong_place_is_not_shown(
    name: str, value: str, sentence: str
) -> None:
    with pytest.raises(SettingsWrong, match=sentence) as refused:
        read(Settings, {f"ENTREPOT_{name}": value})
    assert name == "TRUSTED_PROXIES" or "hunter2" not in str(refused.value)


def test_a_secret_is_read_from_a_file_that_only_its_owner_reads(tmp_path: Path) -> None:
    path = tmp_path / "secret"
    path.write_text(" pass word \n")
    path.chmod(0o600)
    assert secret(path) == " pass word "
    assert secret_or_nothing(None) == ""


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660])
def test_a_secret_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "secret"
    path.write_text("hunter2")
    path.chmod(mode)
    with pytest.raises(SettingsWrong, match=f"chmod 600 {path}"):
        secret(path)


def test_a_secret_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsWrong, match="cannot be read: FileNotFoundError"):
        secret(tmp_path / "nothing")


@given(st.sampled_from(sorted(Settings.model_fields)), st.text(max_size=40))
def test_any_value_is_taken_or_refused_in_one_way(name: str, value: str) -> None:
    try:
        settings = read(Settings, {f"ENTREPOT_{name.upper()}": value})
    except SettingsWrong:
        return
    assert isinstance(settings, Settings)
