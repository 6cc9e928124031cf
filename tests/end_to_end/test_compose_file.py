"""The compose file as it is read: closed but for the gateway, without a password, each service told what it takes."""

import os
import re
import shutil
import subprocess
from typing import Any

import pytest
import yaml

from infra.compose import bucket
from shared.settings import Settings, read
from tests.support.compose import CONTAINERS, FILE, OUTSIDE, outside_settings
from tests.support.suite import ROOT, SERVICES

OUTSIDE_FILE: dict[str, Any] = yaml.safe_load((ROOT / OUTSIDE[1]).read_text())


@pytest.mark.skipif(shutil.which("docker-compose") is None, reason="docker-compose is not installed")
@pytest.mark.parametrize("more", [(), ("--file", "infra/compose/tls.yml"), OUTSIDE])
def test_compose_v1_reads_the_file(more: tuple[str, ...]) -> None:
    ran = subprocess.run(
        ["docker-compose", "--file", "docker-compose.yml", *more, "config"],
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], "ENTREPOT_TLS": "/certificates"},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert set(yaml.safe_load(ran.stdout)["services"]) == set(CONTAINERS)


def test_only_the_gateway_publishes_ports() -> None:
    assert [name for name, container in CONTAINERS.items() if "ports" in container] == ["gateway"]
    assert not any("host" in str(container.get("network_mode", "")) for container in CONTAINERS.values())


def test_the_servers_are_reached_by_services_alone() -> None:
    assert FILE["networks"]["servers"]["internal"] is True
    assert FILE["networks"]["services"]["internal"] is True
    for server in ("nats", "valkey", "s3"):
        assert CONTAINERS[server]["networks"] == ["servers"]
    assert "servers" not in CONTAINERS["gateway"]["networks"]


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_is_confined(name: str) -> None:
    container = CONTAINERS[name]
    assert container["user"] == "65532:65532"
    assert container["read_only"] is True
    assert container["cap_drop"] == ["ALL"]
    assert container["security_opt"] == ["no-new-privileges:true"]
    assert "privileged" not in container
    assert container["mem_limit"]
    assert not any(str(volume).startswith(("/", ".")) for volume in container.get("volumes", [])), "of the host"


@pytest.mark.parametrize("name", [service.replace("_", "-") for service in SERVICES])
def test_every_service_can_be_scaled(name: str) -> None:
    assert not {"container_name", "ports", "hostname"} & CONTAINERS[name].keys()


def test_no_password_stands_in_the_file_or_is_asked_for() -> None:
    for name, container in CONTAINERS.items():
        for setting, value in container.get("environment", {}).items():
            if re.search(r"PASSWORD|SECRET|_KEY|TOKEN", setting):
                is_path = setting.endswith(("_FILE", "_KEYS")) and str(value).startswith("/entrepot/")
                assert is_path or setting in {"ENTREPOT_BUCKET_ACCESS_KEY", "ENTREPOT_REGISTRY_TOKEN_REALM"}, name
    asked = set(re.findall(r"\$\{(\w+)", (ROOT / "docker-compose.yml").read_text()))
    assert not [variable for variable in asked if re.search(r"PASSWORD|SECRET|_KEY|TOKEN", variable)]


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_is_told_settings_that_it_takes(service: str) -> None:
    told = CONTAINERS[service.replace("_", "-")]["environment"]
    settings = read(Settings, {name: _with_defaults(str(value)) for name, value in told.items()})
    assert settings.bus_user == settings.state_user == service
    assert (settings.bucket == "s3") == (service in bucket.RIGHTS)
    if service in bucket.RIGHTS:
        assert settings.bucket_access_key == bucket.access_key(service)


def test_a_builder_on_the_machine_is_told_what_the_one_in_a_container_is_told_and_where_the_servers_open() -> None:
    outside, within = outside_settings(), CONTAINERS["builder"]["environment"]
    settings = read(Settings, outside)
    assert (settings.state_user, settings.bus_user) == ("builder", "builder")
    opened = {
        f"{name}:{port.rpartition(':')[2]}": port.rpartition(":")[0]
        for name, server in OUTSIDE_FILE["services"].items()
        for port in server["ports"]
    }
    assert all(address.startswith("127.0.0.1:") for address in opened.values())
    own = {"ENTREPOT_HOST", "ENTREPOT_PORT", "ENTREPOT_PUBLIC_URL", "ENTREPOT_REPLICA", "ENTREPOT_DATA"}
    assert outside.keys() - own == within.keys() - {
        "ENTREPOT_TRUSTED_PROXIES",
        "ENTREPOT_PUBLIC_URL",
        "ENTREPOT_START_AFTER",
    }
    for name, value in within.items():
        if name in outside.keys() - own:
            expected = _with_defaults(str(value)).replace("/entrepot/", "")
            for inside, address in opened.items():
                expected = expected.replace(inside, address)
            assert outside[name] == expected, name


def _with_defaults(text: str) -> str:
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text)
