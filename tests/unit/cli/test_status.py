"""`entrepot status` and `down` believe the data folder's lock and its launcher's record, never a port alone."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from cli import suite
from cli.down import down
from cli.exits import Failed
from cli.status import status
from infra.embedded.folder import DataFolder
from infra.embedded.services import Place
from infra.embedded.suite import describe
from tests.support.answering import Answer, answering


@contextmanager
def ready(run: str) -> Generator[int]:
    """One port behind which every service of that run says that it is ready."""
    body = json.dumps({"ready": True, "reasons": [], "suite": run}).encode()
    with answering(lambda _: Answer(body)) as address:
        yield int(address.rpartition(":")[2])


@pytest.fixture
def folder(tmp_path: Path) -> DataFolder:
    return DataFolder.at(tmp_path / "data")


@pytest.fixture
def held(folder: DataFolder) -> Iterator[int]:
    handle = folder.lock()
    yield handle
    os.close(handle)


def described(folder: DataFolder, port: int, *, run: str, pid: int | None = None) -> None:
    """The launcher's record, with all services behind one port."""
    describe(Place(folder, 5000, run=run))
    record = json.loads(folder.description.read_bytes())
    record["services"] = dict.fromkeys(record["services"], f"http://127.0.0.1:{port}")
    folder.describe(record | ({"pid": pid} if pid else {}))


def asked(folder: DataFolder) -> tuple[dict[str, Any], str]:
    ran = CliRunner().invoke(status, ["--data", str(folder.root), "--format", "json"])
    return json.loads(ran.stdout), str(ran.exception) if isinstance(ran.exception, Failed) else ""


def test_a_suite_that_runs_and_is_ready_is_said_to_be(folder: DataFolder, held: int) -> None:
    assert held
    with ready("abc") as port:
        described(folder, port, run="abc")
        told, why = asked(folder)
    assert not why
    assert {service["ready"] for service in told["services"].values()} == {True}


def test_a_service_is_ready_when_each_of_its_workers_is(folder: DataFolder, held: int) -> None:
    assert held
    with ready("abc") as port, ready("theirs") as other:
        described(folder, port, run="abc")
        record: dict[str, Any] = json.loads(folder.description.read_bytes())
        workers = [f"http://127.0.0.1:{one}" for one in (port, other)]
        folder.describe({**record, "services": {"registry": "http://127.0.0.1:9"}, "workers": {"registry": workers}})
        told, why = asked(folder)
    assert why == "not ready: registry"
    assert not told["services"]["registry"]["ready"]
    assert [worker["ready"] for worker in told["services"]["registry"]["workers"]] == [True, False]


def test_what_answers_on_the_ports_of_a_suite_that_ended_is_not_it(folder: DataFolder) -> None:
    os.close(folder.lock())
    with ready("abc") as port:
        described(folder, port, run="abc")
        told, why = asked(folder)
    assert "no suite runs on" in why
    assert {service["ready"] for service in told["services"].values()} == {False}


def test_a_service_of_another_suite_on_our_port_is_not_ours(folder: DataFolder, held: int) -> None:
    assert held
    with ready("theirs") as port:
        described(folder, port, run="ours")
        told, why = asked(folder)
    assert why.startswith("not ready: ")
    assert {service["ready"] for service in told["services"].values()} == {False}


def test_while_a_suite_starts_the_record_of_the_one_before_does_not_count(folder: DataFolder, held: int) -> None:
    assert held
    with ready("abc") as port:
        described(folder, port, run="abc", pid=os.getpid() + 1)
        told, why = asked(folder)
    assert "is being started" in why
    assert {service["ready"] for service in told["services"].values()} == {False}


def test_the_holder_of_a_folder_is_the_process_that_has_it(folder: DataFolder) -> None:
    assert suite.holder(folder.root) == 0
    handle = folder.lock()
    assert suite.holder(folder.root) == os.getpid()
    os.close(handle)
    assert suite.holder(folder.root) == 0
    assert suite.holder(folder.root / "nowhere") == 0


def test_looking_keeps_no_suite_from_starting(folder: DataFolder) -> None:
    looking = True

    def look() -> None:
        while looking:
            suite.holder(folder.root)

    watcher = threading.Thread(target=look)
    watcher.start()
    try:
        for _ in range(50):
            os.close(folder.lock())
    finally:
        looking = False
        watcher.join()


def test_down_stops_the_process_that_has_the_folder_and_no_other(folder: DataFolder) -> None:
    program = (
        "import sys, time; from pathlib import Path; from infra.embedded.folder import DataFolder; "
        "handle = DataFolder.at(Path(sys.argv[1])).lock(); print('held', flush=True); time.sleep(60)"
    )
    bystander = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    holder = subprocess.Popen([sys.executable, "-c", program, str(folder.root)], stdout=subprocess.PIPE)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"held\n"
        described(folder, 1, run="abc", pid=bystander.pid)
        assert CliRunner().invoke(down, ["--data", str(folder.root)]).exit_code == 0
        assert holder.wait(10) != 0
        assert bystander.poll() is None
        assert "no suite runs" in CliRunner().invoke(down, ["--data", str(folder.root)]).output
    finally:
        for process in (bystander, holder):
            process.kill()
            process.communicate()
