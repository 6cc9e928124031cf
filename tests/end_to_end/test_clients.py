"""Unmodified clients against a running suite, told about it by `entrepot env` alone."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from shared.digest import Digest
from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

Run = Callable[..., str]
FILES: list[Mapping[str, bytes]] = [
    {"etc/os-release": b"ID=debian\nVERSION_ID=12\n"},
    {"app.py": b"print('hello')\n" * 4000},
]
INDEX = {"linux/amd64", "linux/arm64"}


@pytest.fixture(scope="module")
def pushed(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Digest:
    """The digest of an image of two platforms that lies at clients/app:1."""
    layout = LayoutWriter(tmp_path_factory.mktemp("image"))
    digest = layout.name(layout.index({platform: layout.image(FILES, platform) for platform in sorted(INDEX)}), "1")
    place = f"docker://{suite.registry}/demo/clients/app:1"
    assert suite.entrepot("copy", f"oci:{layout.folder}:1", place).stdout == f"{digest}\n"
    return digest


def test_entrepot_copies_between_registry_layout_and_archives(suite: Suite, pushed: Digest, tmp_path: Path) -> None:
    place = f"docker://{suite.registry}/demo/clients/app:1"

    assert suite.entrepot("copy", place, f"oci:{tmp_path}/layout:1").stdout == f"{pushed}\n"
    assert suite.entrepot("copy", f"oci:{tmp_path}/layout:1", f"oci-archive:{tmp_path}/a.tar:1").stdout == f"{pushed}\n"
    again = f"docker://{suite.registry}/demo/clients/again:1"
    assert suite.entrepot("copy", f"oci-archive:{tmp_path}/a.tar:1", again).stdout == f"{pushed}\n"
    assert suite.entrepot("copy", place, again.replace("again", "mounted")).stdout == f"{pushed}\n"


def test_a_docker_archive_goes_in_and_out(suite: Suite, pushed: Digest, tmp_path: Path) -> None:
    place = f"docker://{suite.registry}/demo/clients/app@{pushed}"
    suite.entrepot("copy", "--platform", "linux/arm64", place, f"docker-archive:{tmp_path}/app.tar:app:1")

    target = f"docker://{suite.registry}/demo/clients/loaded:1"
    assert suite.entrepot("copy", f"docker-archive:{tmp_path}/app.tar", target).stdout.startswith("sha256:")


def test_skopeo_reads_and_copies(client: Run, suite: Suite, pushed: Digest, tmp_path: Path) -> None:
    place = f"docker://{suite.registry}/demo/clients/app:1"
    raw = client("skopeo", "inspect", "--raw", place)
    client("skopeo", "copy", "--all", place, f"oci:{tmp_path}/layout:1")
    client("skopeo", "copy", "--all", f"oci:{tmp_path}/layout:1", f"docker://{suite.registry}/demo/clients/skopeo:1")

    assert Digest.of(raw.encode()) == pushed
    assert "skopeo" in json.dumps(suite.call("registry", images("clients")))


def test_skopeo_logs_in_with_a_key_file_and_with_a_token(client: Run, suite: Suite, tmp_path: Path) -> None:
    for user, password in (("_json_key", suite.admin_key.read_text()), ("oauth2accesstoken", suite.token())):
        file = f"--authfile={tmp_path}/{user}.json"
        said = client("skopeo", "login", "-u", user, "--password-stdin", file, suite.registry, given=password)
        assert "Login Succeeded" in said


def test_podman_pulls_and_pushes(client: Run, suite: Suite, pushed: Digest, store: tuple[str, ...]) -> None:
    image = client("podman", *store, "pull", f"{suite.registry}/demo/clients/app@{pushed}").strip()
    client("podman", *store, "push", image, f"{suite.registry}/demo/clients/podman:1")

    assert "podman" in json.dumps(suite.call("registry", images("clients")))


def test_docker_logs_in_without_a_daemon(client: Run, suite: Suite) -> None:
    said = client(
        "docker", "login", "-u", "_json_key", "--password-stdin", suite.registry, given=suite.admin_key.read_text()
    )

    assert "Login Succeeded" in said


@pytest.mark.parametrize(
    ("verb", "there"),
    [
        ("artifacts repositories list --location=local", "clients"),
        ("artifacts docker images list local-docker.pkg.dev/demo/clients --include-tags", "sha256:"),
        ("auth print-access-token", "."),
        ("projects list", "demo"),
        ("iam service-accounts list", "admin@demo.iam.entrepot"),
        ("logging read logName:activity --limit=5", ""),
        ("builds list", ""),
        ("container binauthz attestors list", ""),
    ],
)
def test_gcloud_works_by_settings_alone(
    gcloud_by_settings: Callable[..., Any], pushed: Digest, verb: str, there: str
) -> None:
    assert pushed
    assert there in json.dumps(gcloud_by_settings(*verb.split()))


def images(repository: str) -> str:
    return f"v1/projects/demo/locations/local/repositories/{repository}/dockerImages"
