"""The verbs of `gcloud artifacts` for images, packages, versions, tags, files and attachments, on a running suite."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from shared.digest import Digest
from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(600)

HOST = "local-docker.pkg.dev"
WHERE = ("--repository=verbs", "--location=local")
Gcloud = Callable[..., Any]


@pytest.fixture
def gcloud(gcloud: Gcloud) -> Gcloud:
    return partial(gcloud, "artifacts")


@pytest.fixture
def pushed(suite: Suite, tmp_path: Path) -> dict[str, Digest]:
    """Two tags of one image, each of its own version."""
    layout = LayoutWriter(tmp_path / "layout")
    found: dict[str, Digest] = {}
    for tag in ("1.0", "2.0"):
        found[tag] = layout.name(layout.image([{"etc/version": tag.encode()}]), tag)
        suite.entrepot("copy", f"oci:{layout.folder}:{tag}", f"docker://{suite.registry}/demo/verbs/team/app:{tag}")
    return found


def ids(things: list[dict[str, Any]]) -> set[str]:
    return {thing["name"].rpartition("/")[2] for thing in things}


def test_tags_are_added_listed_and_deleted(gcloud: Gcloud, pushed: dict[str, Digest]) -> None:
    image = f"{HOST}/demo/verbs/team/app"
    gcloud("docker", "tags", "add", f"{image}:1.0", f"{image}:stable")
    listed = {
        one["tag"].rpartition("/")[2]: one["version"].rpartition("/")[2]
        for one in gcloud("docker", "tags", "list", image)
    }
    assert listed == {"1.0": pushed["1.0"], "2.0": pushed["2.0"], "stable": pushed["1.0"]}
    gcloud("docker", "tags", "add", f"{image}:2.0", f"{image}:stable")
    gcloud("docker", "tags", "delete", f"{image}:2.0")
    assert ids(gcloud("tags", "list", "--package=team/app", *WHERE)) == {"1.0", "stable"}


def test_images_are_described_and_deleted_with_their_tags(gcloud: Gcloud, pushed: dict[str, Digest]) -> None:
    image = f"{HOST}/demo/verbs/team/app"
    described = gcloud("docker", "images", "describe", f"{image}:1.0")
    assert described["image_summary"]["digest"] == pushed["1.0"]
    gcloud("docker", "images", "delete", f"{image}@{pushed['1.0']}", code=1)
    gcloud("docker", "images", "delete", f"{image}@{pushed['1.0']}", "--delete-tags")
    left = gcloud("docker", "images", "list", image)
    assert [one["version"] for one in left] == [pushed["2.0"]]


def test_packages_and_versions_are_listed_annotated_and_deleted(gcloud: Gcloud, pushed: dict[str, Digest]) -> None:
    assert "team/app" in [one["displayName"] for one in gcloud("packages", "list", *WHERE)]
    versions = gcloud("versions", "list", "--package=team/app", "--sort-by=~CREATE_TIME", *WHERE)
    assert ids(versions) == set(pushed.values())
    gcloud("versions", "delete", pushed["1.0"], "--package=team/app", "--delete-tags", *WHERE)
    assert ids(gcloud("versions", "list", "--package=team/app", *WHERE)) == {pushed["2.0"]}
    gcloud("packages", "delete", "team/app", *WHERE)
    assert gcloud("packages", "list", *WHERE) == []


def test_files_are_listed_and_downloaded(gcloud: Gcloud, pushed: dict[str, Digest], tmp_path: Path) -> None:
    files = gcloud("files", "list", *WHERE)
    assert files
    of_one = gcloud("files", "list", "--package=team/app", f"--version={pushed['1.0']}", *WHERE)
    assert len(of_one) == 2
    target = tmp_path / "downloaded"
    target.mkdir()
    name = of_one[0]["name"].rpartition("/")[2]
    gcloud("files", "download", name, f"--destination={target}", *WHERE)
    (written,) = target.iterdir()
    assert Digest.of(written.read_bytes()) == name.replace("%3A", ":")


def test_a_file_is_attached_described_listed_downloaded_and_deleted(
    gcloud: Gcloud, pushed: dict[str, Digest], tmp_path: Path
) -> None:
    """One small file goes in one request, one of more than 5 MiB in chunks."""
    large = bytes(range(256)) * 25_000
    files = {"sbom.json": b'{"spdxVersion":\r\n"SPDX-2.3"}\r', "scan.bin": large}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    target = f"projects/demo/locations/local/repositories/verbs/packages/team%2Fapp/versions/{pushed['1.0']}"
    gcloud(
        "attachments",
        "create",
        "sbom",
        f"--target={target}",
        "--attachment-type=application/vnd.spdx+json",
        "--attachment-namespace=scans",
        f"--files={','.join(str(tmp_path / name) for name in files)}",
        *WHERE,
    )
    described = gcloud("attachments", "describe", "sbom", *WHERE)
    assert (described["target"], described["attachmentNamespace"]) == (target, "scans")
    listed = gcloud("attachments", "list", f"--target={HOST}/demo/verbs/team/app:1.0", *WHERE)
    assert listed == [described]
    version = described["ociVersionName"].rpartition("/")[2]
    by_version = f"--oci-version-name={HOST}/demo/verbs/team/app@{version}"
    for number, wanted in enumerate((("sbom", *WHERE), (by_version,))):
        folder = tmp_path / f"downloaded{number}"
        folder.mkdir()
        gcloud("attachments", "download", *wanted, f"--destination={folder}")
        assert {found.name: found.read_bytes() for found in folder.iterdir()} == files
    gcloud("attachments", "delete", "sbom", *WHERE)
    assert gcloud("attachments", "list", *WHERE) == []


def test_a_file_is_annotated_and_deleted_when_nothing_needs_it(
    gcloud: Gcloud, pushed: dict[str, Digest], tmp_path: Path
) -> None:
    (tmp_path / "note").write_bytes(b"words")
    file = Digest.of(b"words")
    target = f"{HOST}/demo/verbs/team/app@{pushed['1.0']}"
    what = (f"--target={target}", "--attachment-type=text/plain", f"--files={tmp_path / 'note'}")
    gcloud("attachments", "create", "note", *what, *WHERE)
    gcloud("files", "update", file, "--annotations=team=web", *WHERE)
    assert gcloud("files", "describe", file, *WHERE)["annotations"] == {"team": "web"}
    gcloud("files", "delete", file, *WHERE, code=1)
    gcloud("attachments", "delete", "note", *WHERE)
    gcloud("files", "delete", file, *WHERE)
    assert "NOT_FOUND" in gcloud("files", "describe", file, *WHERE, code=1)


def test_settings_of_a_project_are_shown(gcloud: Gcloud) -> None:
    settings = gcloud("settings", "describe")
    assert settings["legacyRedirectionState"] == "REDIRECTION_FROM_GCR_IO_FINALIZED"
    assert gcloud("vpcsc-config", "describe", "--location=local")["vpcscPolicy"] == "ALLOW"
    assert gcloud("locations", "list")


def test_a_repository_is_changed_guarded_and_deleted(gcloud: Gcloud, pushed: dict[str, Digest]) -> None:
    assert pushed
    where = "--location=local"
    gcloud("repositories", "update", "verbs", "--description=words", "--update-labels=team=web", where)
    described = gcloud("repositories", "describe", "verbs", where)
    assert (described["description"], described["labels"]) == ("words", {"team": "web"})
    member = "--member=serviceAccount:admin@demo.iam.entrepot"
    gcloud("repositories", "add-iam-policy-binding", "verbs", member, "--role=roles/artifactregistry.reader", where)
    policy = gcloud("repositories", "get-iam-policy", "verbs", where)
    assert [binding["role"] for binding in policy["bindings"]] == ["roles/artifactregistry.reader"]
    gcloud("repositories", "delete", "verbs", where)
    assert "NOT_FOUND" in gcloud("repositories", "describe", "verbs", where, code=1)


def test_immutable_tags_are_set_shown_held_to_and_taken_back(gcloud: Gcloud, pushed: dict[str, Digest]) -> None:
    assert pushed
    image, where = f"{HOST}/demo/verbs/team/app", "--location=local"
    gcloud("repositories", "create", "fixed", "--repository-format=docker", "--immutable-tags", where)
    assert gcloud("repositories", "describe", "fixed", where)["dockerConfig"] == {"immutableTags": True}
    gcloud("repositories", "update", "verbs", "--immutable-tags", where)
    gcloud("docker", "tags", "add", f"{image}:1.0", f"{image}:stable")
    for refused in (
        ("tags", "add", f"{image}:2.0", f"{image}:stable"),
        ("tags", "delete", f"{image}:stable"),
        ("images", "delete", f"{image}@{pushed['1.0']}", "--delete-tags"),
    ):
        assert "dockerConfig.immutableTags" in gcloud("docker", *refused, code=1)
    gcloud("repositories", "update", "verbs", "--update-labels=entrepot-tag-deletion=allowed", where)
    gcloud("docker", "tags", "delete", f"{image}:stable")
    assert "entrepot-tag-deletion" in gcloud(
        "repositories", "update", "verbs", "--update-labels=entrepot-tag-deletion=perhaps", where, code=1
    )
    gcloud("repositories", "update", "verbs", "--no-immutable-tags", "--remove-labels=entrepot-tag-deletion", where)
    gcloud("docker", "tags", "add", f"{image}:2.0", f"{image}:1.0")
    gcloud("repositories", "delete", "fixed", where)
    gcloud("repositories", "delete", "verbs", where)
