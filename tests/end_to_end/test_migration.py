"""`entrepot migrate`, from the registry that Debian ships into a running suite."""

import json
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from shared.digest import Digest
from tests.support.layouts import LayoutWriter
from tests.support.ports import free_port
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

CONFIG = """version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {folder}}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""


@contextmanager
def docker_registry(folder: Path) -> Iterator[str]:
    """CNCF Distribution on a free port; its host."""
    if (program := shutil.which("docker-registry")) is None:
        pytest.skip("docker-registry is not installed")
    port = free_port()
    config = folder / "registry.yml"
    config.write_text(CONFIG.format(folder=folder / "images", port=port))
    process = subprocess.Popen([program, "serve", str(config)], stderr=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    try:
        wait_for(f"http://127.0.0.1:{port}/v2/")
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(20)


def wait_for(address: str) -> None:
    for _ in range(200):
        try:
            with urllib.request.urlopen(address, timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    pytest.fail(f"{address} does not answer")


def test_a_registry_of_another_make_is_migrated_and_a_second_run_sends_nothing(suite: Suite, tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "layout")
    pushed: dict[str, Digest] = {}
    with docker_registry(tmp_path) as old:
        for number in range(6):
            name = f"team/app{number % 2}:{number}"
            image = layout.image([{"etc/os-release": b"ID=debian\n"}, {"app": b"%d" % number}])
            pushed[name] = layout.name(layout.index({"linux/amd64": image}), str(number))
            suite.entrepot("copy", f"oci:{layout.folder}:{number}", f"docker://{old}/{name}")
        target = f"{suite.registry}/demo/moved/from"

        planned = suite.entrepot("migrate", old, target, "--dry-run").stdout.splitlines()
        first = json.loads(suite.entrepot("migrate", old, target, "--format", "json").stdout)
        second = json.loads(suite.entrepot("migrate", f"{old}/team", f"{target}/team", "--format", "json").stdout)

    assert len(planned) == 6
    assert (first["copied"], first["present"], first["failed"]) == (6, 0, 0)
    assert (second["copied"], second["present"], second["failed"]) == (0, 6, 0)
    assert {image["target"]: image["digest"] for image in first["images"]} == {
        f"{target}/{name}": digest for name, digest in pushed.items()
    }


def test_a_wrong_password_for_the_target_is_said_before_anything_is_asked(suite: Suite, tmp_path: Path) -> None:
    with docker_registry(tmp_path) as old:
        ran = suite.entrepot("migrate", old, f"{suite.registry}/demo/moved", "--target-credentials", "me:wrong", code=4)
    assert "gives no token" in ran.stderr
