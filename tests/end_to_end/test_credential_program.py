"""Container clients fetch their tokens from the credential program, on a machine where nobody ever typed a password."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

PROGRAM = Path(sys.executable).parent / "docker-credential-entrepot"


@pytest.fixture
def settings(suite: Suite, tmp_path: Path) -> dict[str, str]:
    """A home in which `entrepot configure-docker` ran, and nothing else."""
    if not PROGRAM.exists():
        pytest.fail("docker-credential-entrepot is not installed beside this Python")
    docker = tmp_path / ".docker"
    own = {
        "HOME": str(tmp_path),
        "PATH": f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}",
        "DOCKER_CONFIG": str(docker),
        "REGISTRY_AUTH_FILE": str(docker / "config.json"),
    }
    done = run(own, sys.executable, "-m", "cli", "configure-docker", "--data", str(suite.data))
    assert done.returncode == 0, done.stderr
    return own


def run(settings: dict[str, str], *command: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=settings, input=given, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.usefixtures("settings")
def test_the_settings_of_clients_hold_no_secret(suite: Suite, tmp_path: Path) -> None:
    assert json.loads((tmp_path / ".docker/config.json").read_text()) == {"credHelpers": {suite.registry: "entrepot"}}
    for path in tmp_path.rglob("*.json"):
        assert "PRIVATE KEY" not in path.read_text()


def test_skopeo_pushes_and_inspects_with_tokens_that_the_program_fetches(
    suite: Suite, settings: dict[str, str], tmp_path: Path
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("skopeo is not installed")
    layout = LayoutWriter(tmp_path / "image")
    digest = layout.name(layout.image([{"etc/os-release": b"ID=debian\n"}], "linux/amd64"), "1")
    place = f"docker://{suite.registry}/demo/helped/app:1"

    pushed = run(settings, "skopeo", "copy", f"oci:{layout.folder}:1", place)
    assert pushed.returncode == 0, pushed.stderr
    seen = run(settings, "skopeo", "inspect", "--format={{.Digest}}", place)
    assert seen.stdout.strip() == str(digest), seen.stderr


def test_a_docker_login_hands_the_key_to_the_program(suite: Suite, settings: dict[str, str]) -> None:
    said = json.dumps(
        {"ServerURL": f"http://{suite.registry}", "Username": "_json_key", "Secret": suite.admin_key.read_text()}
    )
    assert run(settings, str(PROGRAM), "store", given=said).returncode == 0
    got = json.loads(run(settings, str(PROGRAM), "get", given=suite.registry).stdout)
    assert got["Username"] == "oauth2accesstoken"
    assert len(got["Secret"].split(".")) == 3
    assert run(settings, str(PROGRAM), "erase", given=suite.registry).returncode == 0
    after = run(settings, str(PROGRAM), "get", given=suite.registry)
    assert (after.returncode, after.stdout) == (1, "credentials not found in native keychain\n")
