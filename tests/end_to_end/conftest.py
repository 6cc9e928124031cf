"""One suite for all end-to-end tests of a test process; tests that stop or kill one start their own."""

import functools
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest

from tests.support.gcloud import GcloudProgram
from tests.support.suite import Suite, running


@pytest.fixture(scope="session")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A running suite."""
    with running(tmp_path_factory.mktemp("suite")) as started:
        yield started


@pytest.fixture
def client(suite: Suite, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., str]:
    """Runs a client by name and returns what it prints, of one that `fails` all it says; skips where it is missing."""
    monkeypatch.setenv("HOME", str(tmp_path))
    environment = functools.cache(suite.environment)

    def run(name: str, *arguments: str, settings: str = "docker", given: str | None = None, fails: bool = False) -> str:
        if shutil.which(name) is None:
            pytest.skip(f"{name} is not installed")
        ran = subprocess.run(
            [name, *arguments],
            env=environment(settings),
            input=given,
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
        )
        assert (ran.returncode != 0) == fails, f"{name} {' '.join(arguments)}: {ran.stdout}{ran.stderr}"
        return ran.stdout + ran.stderr if fails else ran.stdout

    return run


@pytest.fixture
def store() -> Iterator[tuple[str, ...]]:
    """A store of podman's own; it takes no path of more than 50 characters."""
    with tempfile.TemporaryDirectory(prefix="store") as folder:
        yield f"--root={folder}/all", f"--runroot={folder}/run", "--storage-driver=vfs"


@pytest.fixture(scope="session")
def gcloud_settings(suite: Suite) -> dict[str, str]:
    """What `entrepot env gcloud` sets, without what this machine may tell every gcloud."""
    told = suite.environment("gcloud").items()
    return {name: value for name, value in told if name.startswith("CLOUDSDK_") and os.environ.get(name) != value}


@pytest.fixture(scope="module")
def gcloud_token(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """A token in place of the key file, which gcloud opens and checks four times a call: a third of what it takes."""
    file = tmp_path_factory.mktemp("token") / "token"
    file.write_text(suite.token())
    return {"CLOUDSDK_AUTH_ACCESS_TOKEN_FILE": str(file)}


@pytest.fixture
def gcloud_by_settings(
    gcloud_program: GcloudProgram, gcloud_settings: dict[str, str], tmp_path: Path
) -> Callable[..., Any]:
    """An unmodified gcloud with a home of its own: what it prints, or what it says where it has to fail."""
    own = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": str(tmp_path / "gcloud")}

    def run(*arguments: str, code: int = 0, more: Mapping[str, str] = MappingProxyType({})) -> Any:
        done = gcloud_program(*arguments, "--format=json", "--quiet", environment={**gcloud_settings, **own, **more})
        assert done.returncode == code, f"{arguments}: {done.stderr}"
        return json.loads(done.stdout or "null") if code == 0 else done.stderr

    return run


@pytest.fixture
def gcloud(gcloud_by_settings: Callable[..., Any], gcloud_token: dict[str, str]) -> Callable[..., Any]:
    """The same with a token of the administrator."""
    return partial(gcloud_by_settings, more=gcloud_token)
