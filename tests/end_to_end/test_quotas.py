"""Quotas through the clients that people use: each prints why, at once, and nothing of what was refused is kept."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

Run = Callable[..., str]
Gcloud = Callable[..., Any]
REPOSITORIES = "v1/projects/demo/locations/local/repositories"
ROOM = {"no room": 0, "room for less": 20_000}


def limited(suite: Suite, repository: str, quota: int) -> None:
    """A repository that may hold so many bytes."""
    body = {"format": "DOCKER", "labels": {"entrepot-quota-bytes": str(quota)}}
    suite.call("registry", f"{REPOSITORIES}?repositoryId={repository}", body)


def held(suite: Suite, repository: str) -> int:
    return int(suite.call("registry", f"{REPOSITORIES}/{repository}")["sizeBytes"])


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    """An image named `large` with a layer that does not get smaller by packing."""
    made = LayoutWriter(tmp_path / "layout")
    noise = b"".join(hash((number, "noise")).to_bytes(8, "big", signed=True) for number in range(40_000))
    made.name(made.image([{"var/noise": noise}]), "large")
    return made


@pytest.mark.parametrize("room", ROOM)
def test_skopeo_says_which_quota_is_exceeded(client: Run, suite: Suite, layout: LayoutWriter, room: str) -> None:
    repository = f"quota-skopeo-{len(room)}"
    limited(suite, repository, ROOM[room])
    began = time.monotonic()
    target = f"docker://{suite.registry}/demo/{repository}/app:1"
    said = client("skopeo", "copy", f"oci:{layout.folder}:large", target, fails=True)
    assert f"the quota is exceeded: the repository demo/{repository}" in said
    assert time.monotonic() - began < 20
    assert held(suite, repository) <= ROOM[room]


@pytest.mark.parametrize("room", ROOM)
def test_podman_says_which_quota_is_exceeded(
    client: Run, suite: Suite, layout: LayoutWriter, store: tuple[str, ...], room: str
) -> None:
    repository = f"quota-podman-{len(room)}"
    limited(suite, repository, ROOM[room])
    name = f"{suite.registry}/demo/{repository}/app:1"
    image = client("podman", *store, "pull", f"oci:{layout.folder}:large").strip()
    began = time.monotonic()
    said = client("podman", *store, "push", image, name, fails=True)
    assert f"the quota is exceeded: the repository demo/{repository}" in said
    assert time.monotonic() - began < 30
    assert held(suite, repository) <= ROOM[room]


def test_gcloud_says_which_quota_is_exceeded(
    gcloud: Gcloud, suite: Suite, layout: LayoutWriter, tmp_path: Path
) -> None:
    limited(suite, "quota-gcloud", 400_000)
    suite.entrepot("copy", f"oci:{layout.folder}:large", f"docker://{suite.registry}/demo/quota-gcloud/app:1")
    before = held(suite, "quota-gcloud")
    (tmp_path / "note").write_bytes(b"words " * 40_000)
    said = gcloud(
        *("artifacts", "attachments", "create", "note", "--attachment-type=text/plain"),
        *("--repository=quota-gcloud", "--location=local", f"--files={tmp_path / 'note'}"),
        "--target=local-docker.pkg.dev/demo/quota-gcloud/app:1",
        code=1,
    )
    assert "the quota is exceeded: the repository demo/quota-gcloud" in said
    assert held(suite, "quota-gcloud") == before
