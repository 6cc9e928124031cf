"""The gcloud of our tests, which forks for each call, against the one that a user calls."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from tests.support.gcloud import GcloudProgram, ServerGone

pytestmark = pytest.mark.timeout(300)

ROOT = Path(__file__).parents[2]
OWNER = """
import json, sys
from tests.support.gcloud import GcloudProgram
program, environment = GcloudProgram(), json.loads(sys.argv[1])
program("version", environment=environment)
print(program.server, flush=True)
program(*sys.argv[2:], environment=environment)
"""


@pytest.fixture
def own(tmp_path: Path) -> dict[str, str]:
    """An environment with a home of its own."""
    return {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path / "config")}


@pytest.fixture
def silence() -> Iterator[str]:
    """An address where nobody answers, and gcloud waits."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


class Counted(GcloudProgram):
    """One that counts the calls of the program itself."""

    plain_calls = 0

    def call_plainly(
        self, arguments: Sequence[str], environment: Mapping[str, str], timeout: float
    ) -> "subprocess.CompletedProcess[str]":
        self.plain_calls += 1
        return super().call_plainly(arguments, environment, timeout)


def children(process: int) -> list[str]:
    return Path(f"/proc/{process}/task/{process}/children").read_text().split()


def wait_until_gone(*processes: int) -> None:
    until = time.monotonic() + 20
    while left := [process for process in processes if Path(f"/proc/{process}").exists()]:
        assert time.monotonic() < until, left
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("version --format=json", 0),
        ("artifacts repositories describe --location=local", 2),
        ("artifacts docker images list not-an-address", 1),
    ],
)
def test_it_says_what_the_program_says(
    gcloud_program: GcloudProgram, own: dict[str, str], command: str, code: int
) -> None:
    told = own | {"CLOUDSDK_CORE_PROJECT": "demo", "CLOUDSDK_CORE_DISABLE_PROMPTS": "1"}
    plain = subprocess.run(
        ["gcloud", *command.split()],
        env=told,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert plain.returncode == code
    for _ in range(2):
        forked = gcloud_program(*command.split(), environment=told)
        assert (forked.returncode, forked.stdout, forked.stderr) == (code, plain.stdout, plain.stderr)
    assert gcloud_program.server is not None


def test_one_call_s_environment_and_settings_are_not_those_of_the_next(
    gcloud_program: GcloudProgram, own: dict[str, str], tmp_path: Path
) -> None:
    def project(environment: dict[str, str]) -> str:
        return gcloud_program("config", "get", "core/project", environment=environment).stdout.strip()

    other = own | {"CLOUDSDK_CONFIG": str(tmp_path / "other")}
    assert gcloud_program("config", "set", "core/project", "kept", environment=other).returncode == 0
    assert project(own | {"CLOUDSDK_CORE_PROJECT": "told"}) == "told"
    assert project(own) == ""
    assert project(other) == "kept"
    shown = gcloud_program("info", "--format=value(config.paths.global_config_dir)", environment=own).stdout
    assert shown.strip() == own["CLOUDSDK_CONFIG"]
    for environment in (own, other):
        assert list(Path(environment["CLOUDSDK_CONFIG"], "logs").rglob("*.log"))


def test_each_call_is_as_loud_as_its_environment_says(gcloud_program: GcloudProgram, own: dict[str, str]) -> None:
    loud = gcloud_program("version", environment=own | {"CLOUDSDK_CORE_VERBOSITY": "debug"})
    assert "DEBUG" in loud.stderr
    assert gcloud_program("version", environment=own).stderr == ""


def test_what_modules_read_only_when_they_are_loaded_is_told_to_the_program_itself(own: dict[str, str]) -> None:
    with Counted() as program:
        usual = program("version", environment=own).stdout
        assert program.plain_calls == 0
        assert program("version", environment=own | {"GCE_METADATA_TIMEOUT": "2"}).stdout == usual
        assert program("version", environment=own | {"CLOUDSDK_PYTHON_SITEPACKAGES": "1"}).returncode == 0
        assert program.plain_calls == 2


def test_a_call_that_is_late_is_killed_and_the_next_is_answered(
    gcloud_program: GcloudProgram, own: dict[str, str], silence: str
) -> None:
    waits = own | waiting(silence)
    with pytest.raises(subprocess.TimeoutExpired):
        gcloud_program(*WAITING, environment=waits, timeout=2)
    assert gcloud_program("version", environment=own).returncode == 0
    assert gcloud_program.server is not None
    assert children(gcloud_program.server) == []


def test_it_ends_with_its_call_when_its_owner_is_gone(own: dict[str, str], silence: str) -> None:
    environment = json.dumps(own | waiting(silence))
    command = [sys.executable, "-c", OWNER, environment, *WAITING]
    settings = {**os.environ, "TMPDIR": own["HOME"]}
    with subprocess.Popen(command, cwd=ROOT, env=settings, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        server = int(owner.stdout.readline())
        until = time.monotonic() + 20
        while not (called := children(server)) and time.monotonic() < until:
            time.sleep(0.02)
        owner.send_signal(signal.SIGKILL)
    assert called
    wait_until_gone(server, *map(int, called))


def test_one_that_was_killed_is_told_the_next_call_starts_another_and_the_end_leaves_none(own: dict[str, str]) -> None:
    with GcloudProgram() as program:
        assert program("version", environment=own).returncode == 0
        assert program.server is not None
        os.kill(program.server, signal.SIGKILL)
        with pytest.raises(ServerGone):
            program("version", environment=own)
        assert program("version", environment=own).returncode == 0
        server = program.server
        assert server is not None
    assert not Path(f"/proc/{server}").exists()


def test_a_program_that_starts_in_another_way_is_called_plainly(tmp_path: Path, own: dict[str, str]) -> None:
    other = tmp_path / "gcloud"
    other.write_text('#!/bin/sh\necho "$CLOUDSDK_CONFIG:$*"\nexit 3\n')
    other.chmod(0o755)
    with GcloudProgram(str(other)) as program:
        said = program("a", "b", environment=own)
        assert (said.returncode, said.stdout) == (3, f"{own['CLOUDSDK_CONFIG']}:a b\n")
        assert program.server is None


WAITING = ("artifacts", "repositories", "describe", "x", "--location=local")


def waiting(address: str) -> dict[str, str]:
    """What makes WAITING wait."""
    return {
        "CLOUDSDK_CORE_PROJECT": "demo",
        "CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(Path(__file__)),
        "CLOUDSDK_API_ENDPOINT_OVERRIDES_ARTIFACTREGISTRY": address,
    }
