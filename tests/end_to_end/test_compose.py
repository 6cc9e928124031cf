"""The compose file at work, where an engine runs: on stand-in images, scaled, and with a builder beside it."""

import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.support import engine, standins
from tests.support.compose import OUTSIDE, outside_settings
from tests.support.engine import Engine
from tests.support.layouts import LayoutWriter
from tests.support.suite import ENTREPOT, ROOT, SERVICES, SERVICES_AT, environment_without_ours

OURS = [service.replace("_", "-") for service in SERVICES]
ADDRESSES = {f"ENTREPOT_{name.upper()}_ADDRESS": f"http://localhost:{5000 + at}" for name, at in SERVICES_AT.items()}


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """The file, started with images made of what is installed here."""
    reason = engine.missing(*engine.COMPOSE) or standins.missing()
    if reason:
        pytest.skip(f"no engine to try it on: {reason}")
    folder = tmp_path_factory.mktemp("compose")
    try:
        with engine.engine(folder / "engine") as running:
            yield from _up(running, folder)
    except engine.EngineRefused as refused:
        pytest.skip(f"no engine runs here: {refused}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _up(running: Engine, folder: Path) -> Iterator[Engine]:
    standins.make(running, folder / "standins")
    running.environment |= {
        "BASE_IMAGE": standins.PYTHON,
        "NATS_IMAGE": standins.NATS,
        "VALKEY_IMAGE": standins.VALKEY,
        "S3_IMAGE": standins.S3,
        "GATEWAY_IMAGE": standins.GATEWAY,
    }
    try:
        running.compose("build", "--quiet", seconds=600)
        running.compose("up", "--detach", "--no-build", seconds=600)
        yield running
    finally:
        running.compose("down", "--volumes", "--timeout", "5", seconds=200, check=False)


@pytest.mark.timeout(1500)
def test_an_image_is_pushed_through_the_gateway_and_scanned_and_two_of_each_share_the_work(
    started: Engine, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    _until("ready", lambda: _entrepot(started, tmp_path, "status").returncode == 0, started)
    _fetch_admin_key(started, tmp_path)
    _push(started, tmp_path, 0)
    _until("scan.completed", lambda: _handled(started, "attestor", "scan.completed") == [1], started)
    assert len(_scanned(started, tmp_path)) == 1
    assert "Read-only file system" in _inside(started, "registry", "open('/app/mark', 'w')").stderr.decode()

    scaled = [option for name in OURS for option in ("--scale", f"{name}=2")]
    started.compose("up", "--detach", "--no-build", *scaled, seconds=600)
    assert "nothing has changed" in started.compose("logs", "init").splitlines()[-1], (
        "the second start makes no accounts"
    )
    _until("healthy", lambda: all(_healthy(started, each) for each in _containers(started, *OURS)), started)
    assert len(_containers(started, *OURS)) == 2 * len(OURS)

    pushed = 1
    shares: list[int] = []
    until = time.monotonic() + 240
    while time.monotonic() < until and (len(shares) < 2 or sum(shares) < pushed):
        if len(shares) < 2:
            with ThreadPoolExecutor(4) as together:
                list(together.map(lambda number: _push(started, tmp_path, number), range(pushed, pushed + 4)))
            pushed += 4
        shares = _handled(started, "scanner", "image.pushed")
    tell(f"{pushed} images were pushed through the gateway; the scanners handled {shares}")
    assert len(shares) == 2, "both scanners take part"
    assert sum(shares) == pushed
    assert len(_scanned(started, tmp_path)) == pushed
    served = [
        _metric(started, each, r"entrepot_http_seconds_count\{code=.201.") for each in _containers(started, "registry")
    ]
    assert all(served), f"both registries are asked: {served}"


@pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed")
@pytest.mark.timeout(600)
def test_a_builder_on_the_machine_builds_for_the_composed_suite(started: Engine, tmp_path: Path) -> None:
    for part in ("keys", "account"):
        started.run("docker", "cp", f"{_containers(started, 'builder')[0]}:/entrepot/{part}", str(tmp_path))
    _fetch_admin_key(started, tmp_path)
    files = ("--file", "docker-compose.yml", *OUTSIDE)
    started.compose(*files, "up", "--detach", "--no-build", "--scale", "builder=0", seconds=600)
    with _outside_builder(started, tmp_path):
        here = {"ENTREPOT_BUILDER_ADDRESS": outside_settings()["ENTREPOT_PUBLIC_URL"]}
        _until("ready", lambda: _entrepot(started, tmp_path, "status", more=here).returncode == 0, started)
        image = "localhost:5000/demo/built/hello:v1"
        submitted = _entrepot(started, tmp_path, "builds", "submit", str(_sources(tmp_path, image)), more=here)
    assert submitted.returncode == 0, submitted.stderr
    name, _, digest = submitted.stdout.strip().rpartition("@")
    copied = _entrepot(started, tmp_path, "copy", f"docker://{image}", f"oci:{tmp_path / 'layout'}:v1")
    assert (name, digest) == (image, copied.stdout.strip())


@contextmanager
def _outside_builder(running: Engine, folder: Path) -> Generator[None]:
    """As the page tells an operator to start it."""
    with (folder / "builder.log").open("wb") as log:
        process = subprocess.Popen(
            running.inside(sys.executable, "-m", "services.builder"),
            cwd=folder,
            env={**environment_without_ours(), **outside_settings(), "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        process.wait(60)


def _sources(folder: Path, image: str) -> Path:
    sources = folder / "sources"
    sources.mkdir()
    (sources / "Dockerfile").write_text("FROM scratch\nCOPY hello.txt /hello.txt\n")
    (sources / "hello.txt").write_text("hello\n")
    step = f"steps:\n- name: gcr.io/cloud-builders/docker\n  args: [build, -t, '{image}', .]\n"
    (sources / "cloudbuild.yaml").write_text(f"{step}images: ['{image}']\n")
    return sources


def _until(what: str, true: Callable[[], bool], running: Engine) -> None:
    until = time.monotonic() + 300
    while not true():
        if time.monotonic() > until:
            logs = running.compose("logs", "--tail", "8", check=False)
            raise AssertionError(f"not {what}:\n{running.compose('ps', check=False)}\n{logs[-8000:]}")
        time.sleep(1)


def _entrepot(
    running: Engine, folder: Path, *arguments: str, more: Mapping[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    known = {"ENTREPOT_ADDRESS": "http://localhost:5000", "ENTREPOT_KEY_FILE": str(folder / "admin.json"), **ADDRESSES}
    return subprocess.run(
        running.inside(*ENTREPOT, *arguments),
        cwd=ROOT,
        env={**os.environ, **known, **(more or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def _fetch_admin_key(running: Engine, folder: Path) -> None:
    """As the page tells an operator to."""
    identity, *_ = _containers(running, "identity")
    running.run("docker", "cp", f"{identity}:/entrepot/admin/admin.json", str(folder))
    assert (folder / "admin.json").stat().st_mode & 0o077 == 0


def _push(running: Engine, folder: Path, number: int) -> None:
    layout = LayoutWriter(folder / f"image-{number}")
    layout.name(layout.image([{"etc/motd": f"number {number}".encode() * 100}]), "1")
    target = f"docker://localhost:5000/demo/web/app:{number}"
    ran = _entrepot(running, folder, "copy", f"oci:{folder}/image-{number}:1", target)
    assert ran.returncode == 0, ran.stderr


def _scanned(running: Engine, folder: Path) -> list[Any]:
    """What the scanner lists of finished analyses."""
    token = _entrepot(running, folder, "token").stdout.strip()
    program = (
        "import sys, urllib.request\n"
        "request = urllib.request.Request(sys.argv[1], headers={'Authorization': 'Bearer ' + sys.argv[2]})\n"
        "print(urllib.request.urlopen(request, timeout=60).read().decode())"
    )
    address = "http://localhost:5003/v1/projects/demo/occurrences?pageSize=1000"
    said = subprocess.run(
        running.inside(sys.executable, "-c", program, address, token), capture_output=True, timeout=90, check=True
    ).stdout
    return [one for one in json.loads(said)["occurrences"] if one["kind"] == "DISCOVERY"]


def _containers(running: Engine, *names: str) -> list[str]:
    return running.run("docker-compose", "-p", "entrepot", "ps", "-q", *names).stdout.decode().split()


def _healthy(running: Engine, container: str) -> bool:
    """By the image's own check, not waiting until the engine asks next."""
    check = ("docker", "exec", container, "python", "-I", "-S", "healthy.py")
    return running.run(*check, check=False).returncode == 0


def _inside(running: Engine, service: str, program: str) -> "subprocess.CompletedProcess[bytes]":
    (container,) = _containers(running, service)
    return running.run("docker", "exec", container, "python", "-c", program, check=False)


def _handled(running: Engine, service: str, topic: str) -> list[int]:
    """Deliveries of a topic that ended well, by replica; those that had none are left out."""
    pattern = rf'entrepot_bus_deliveries_total\{{fate="handled",service="{service}",topic="{re.escape(topic)}"'
    counts = [_metric(running, container, pattern) for container in _containers(running, service)]
    return [count for count in counts if count]


def _metric(running: Engine, container: str, pattern: str) -> int:
    program = (
        "import os, urllib.request\n"
        "print(urllib.request.urlopen(f'http://127.0.0.1:{os.environ[\"ENTREPOT_PORT\"]}/metrics').read().decode())"
    )
    text = running.run("docker", "exec", container, "python", "-c", program).stdout.decode()
    return int(sum(float(line.rpartition(" ")[2]) for line in text.splitlines() if re.match(pattern, line)))
