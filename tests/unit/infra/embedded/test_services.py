from pathlib import Path

import pytest

from infra.embedded import ports, services, valkey
from infra.embedded.folder import DataFolder
from infra.embedded.services import Place
from shared.settings import Settings, read


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(DataFolder.at(tmp_path), 5000)


@pytest.mark.parametrize("service", list(ports.SERVICES))
def test_every_service_can_read_what_it_is_told(place: Place, service: str) -> None:
    settings = read(Settings, services.environment(place, service))

    assert settings.port == 5000 + ports.SERVICES[service]
    assert settings.host == "127.0.0.1"


def test_workers_share_the_registry_s_port_and_each_has_a_number_and_a_port_of_its_own(tmp_path: Path) -> None:
    place = Place(DataFolder.at(tmp_path), 5000, workers=3)
    told = [read(Settings, services.environment(place, "registry", worker)) for worker in range(3)]

    assert [settings.port for settings in told] == [5000, 5000, 5000]
    assert [settings.replica for settings in told] == ["0", "1", "2"]
    assert [settings.own_port for settings in told] == place.worker_ports("registry")
    assert len({*place.worker_ports("registry"), *(5000 + offset for offset in ports.SERVICES.values())}) == 10
    assert place.worker_ports("scanner") == []


def test_no_worker_s_port_is_another_part_s() -> None:
    taken = {*ports.SERVICES.values(), ports.NATS, ports.NATS_MONITOR, ports.VALKEY, ports.S3, *ports.S3_INSIDE}

    assert taken.isdisjoint(ports.WORKERS)
    assert len(set(ports.WORKERS)) == 64


def test_every_service_that_there_is_is_started() -> None:
    folders = {path.name for path in Path("services").iterdir() if (path / "__init__.py").exists()}

    assert folders == set(ports.SERVICES)


@pytest.mark.parametrize("s3", [False, True])
def test_no_setting_holds_a_secret(tmp_path: Path, s3: bool) -> None:  # noqa: FBT001
    place = Place(DataFolder.at(tmp_path), 5000, s3=s3)
    services.make_secrets(place)
    told = {value for service in ports.SERVICES for value in services.environment(place, service).values()}
    secrets = {
        path.read_text()
        for path in place.folder.keys.rglob("*")
        if path.is_file() and path.name not in {"access", "root.pub"}
    }

    assert secrets
    assert told.isdisjoint(secrets)


def test_the_root_key_is_made_once(place: Place) -> None:
    services.make_secrets(place)
    first = (place.folder.keys / "root.pub").read_bytes()
    services.make_secrets(place)

    assert (place.folder.keys / "root.pub").read_bytes() == first


def test_the_state_server_gets_a_hash_of_each_password_and_no_default_user(place: Place) -> None:
    users = valkey.write_users(place.folder, ["registry"]).read_text()

    assert users.startswith("user default off")
    assert "~{??}:registry:*" in users
    assert valkey.password(place.folder, "registry").read_text() not in users
