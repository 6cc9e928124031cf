import json
import stat
from pathlib import Path

import pytest

from infra.compose import bucket
from infra.compose.init import init, main
from infra.embedded.ports import SERVICES
from shared.settings import secret


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("first")
    init(folder / "vault", folder / "parts", tls=False)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_everything_made_is_readable_by_its_owner_alone(started: Path) -> None:
    modes = {stat.S_IMODE(path.stat().st_mode) for path in started.rglob("*") if path.is_file()}
    assert modes == {0o600}


def test_a_second_start_changes_nothing(started: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(started)
    assert main(["--vault", str(started / "vault"), "--parts", str(started / "parts")]) == 0
    assert capsys.readouterr().out == "nothing has changed\n"
    assert contents(started) == before


def test_what_is_missing_is_handed_out_again_as_it_was(tmp_path: Path) -> None:
    init(tmp_path / "vault", tmp_path / "parts", tls=False)
    before = contents(tmp_path)
    (tmp_path / "parts" / "scanner" / "bus.password").unlink()
    (tmp_path / "parts" / "nats" / "nats.conf").write_text("spoilt")
    assert init(tmp_path / "vault", tmp_path / "parts", tls=False) == {
        "nats": ["nats.conf"],
        "scanner": ["bus.password"],
    }
    assert contents(tmp_path) == before


def test_two_deployments_have_no_secret_in_common(started: Path, tmp_path: Path) -> None:
    init(tmp_path / "vault", tmp_path / "parts", tls=False)
    secrets = {name for name in contents(tmp_path) if not name.endswith((".conf", ".toml"))}
    shared = [name for name in secrets if contents(tmp_path)[name] == contents(started).get(name)]
    assert shared == []


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_given_its_own_secrets_and_no_others(started: Path, service: str) -> None:
    given = contents(started / "parts" / service)
    others = {
        content
        for other in (*SERVICES, "provision", "s3")
        if other != service
        for name, content in contents(started / "parts" / other).items()
        if name != "root.pub"
    }
    assert not set(given.values()) & (others - {given["root.pub"]})
    assert ("root.pem" in given) == (service == "identity")
    assert secret(started / "parts" / service / "bus.password")


def test_the_servers_are_given_hashes_where_they_need_no_more(started: Path) -> None:
    parts = started / "parts"
    passwords = [
        (parts / service / kind).read_bytes() for service in SERVICES for kind in ("bus.password", "state.password")
    ]
    known = b"".join([*contents(parts / "nats").values(), *contents(parts / "valkey").values()])
    assert not [password for password in passwords if password in known]


def test_no_user_of_the_state_store_sees_keys_of_two_services(started: Path) -> None:
    users = (started / "parts" / "valkey" / "users.acl").read_text().splitlines()
    assert users[0].startswith("user default off")
    for service in SERVICES:
        (line,) = [line for line in users if line.startswith(f"user {service} ")]
        assert [word for word in line.split() if word.startswith("~")] == [f"~{{??}}:{service}:*"]


def test_each_prefix_of_the_bucket_is_written_by_one_service() -> None:
    owned = [prefix for rights in bucket.RIGHTS.values() for prefix in rights.owns]
    assert len(owned) == len(set(owned))
    assert all(prefix.endswith(("/", "-")) for prefix in owned)


def test_no_account_of_the_bucket_is_without_a_key_or_without_a_limit(started: Path) -> None:
    listed = json.loads((started / "parts" / "s3" / "identities.json").read_text())["identities"]
    assert {one["name"] for one in listed} == {*bucket.RIGHTS, bucket.PROVISIONER}
    for one in listed:
        assert all(len(pair["secretKey"]) == 64 for pair in one["credentials"])
        assert all(f":{bucket.BUCKET}" in action for action in one["actions"])


def test_the_gateway_speaks_tls_when_told_so(tmp_path: Path) -> None:
    init(tmp_path / "vault", tmp_path / "parts", tls=True)
    written = (tmp_path / "parts" / "gateway" / "nginx.conf").read_text()
    assert written.count(" ssl;") == len(SERVICES)
    assert "ssl_certificate_key /entrepot/tls/tls.key;" in written
