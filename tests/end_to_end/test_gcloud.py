"""An unmodified gcloud against the suite, by what `entrepot env gcloud` sets."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite


@pytest.mark.timeout(300)
def test_the_program_itself_takes_the_key_file_as_its_account(client: Callable[..., str], suite: Suite) -> None:
    """Called plainly, as a user's shell does: all other tests have its modules loaded before."""
    client("gcloud", "auth", "activate-service-account", f"--key-file={suite.admin_key}", settings="gcloud")

    assert client("gcloud", "auth", "print-access-token", settings="gcloud").count(".") == 2


@pytest.mark.timeout(300)
def test_repositories_and_images_are_listed_and_made(suite: Suite, tmp_path: Path, gcloud: Any) -> None:
    gcloud("artifacts", "repositories", "create", "cloudy", "--location=local", "--repository-format=docker")
    layout = LayoutWriter(tmp_path / "layout")
    layout.name(layout.image([{"etc/hello": b"hello"}]), "v1")
    suite.entrepot("copy", f"oci:{layout.folder}:v1", f"docker://{suite.registry}/demo/cloudy/app:v1")
    found = gcloud("artifacts", "repositories", "list", "--location=local")
    assert "projects/demo/locations/local/repositories/cloudy" in [one["name"] for one in found]
    images = gcloud("artifacts", "docker", "images", "list", "local-docker.pkg.dev/demo/cloudy", "--include-tags")
    assert [one["package"] for one in images if "v1" in one["tags"]] == ["local-docker.pkg.dev/demo/cloudy/app"]


@pytest.mark.timeout(120)
def test_the_audit_log_is_read(gcloud: Any) -> None:
    entries = gcloud(
        "logging", "read", 'protoPayload.methodName:"CreateServiceAccount" OR severity>=NOTICE', "--limit=5"
    )
    assert entries
    assert all("protoPayload" in entry for entry in entries)


@pytest.mark.timeout(300)
def test_cleanup_policies_are_set_listed_tried_and_deleted(suite: Suite, tmp_path: Path, gcloud: Any) -> None:
    """The file is the one of Google's own examples: its spellings, its durations, a keep beside two deletes."""
    gcloud("artifacts", "repositories", "create", "tidy", "--location=local", "--repository-format=docker")
    file = tmp_path / "policies.json"
    file.write_text(json.dumps(POLICIES))
    policies = ("artifacts", "repositories")
    at = ("tidy", "--location=local")
    gcloud(*policies, "set-cleanup-policies", *at, f"--policy={file}", "--dry-run")
    listed = gcloud(*policies, "list-cleanup-policies", *at)
    assert {one["name"]: one["action"] for one in listed} == {
        "delete-prerelease": {"type": "DELETE"},
        "delete-untagged": {"type": "DELETE"},
        "keep-minimum-versions": {"type": "KEEP"},
    }
    old = next(one["condition"] for one in listed if one["name"] == "delete-prerelease")
    assert old == {"tagState": "TAGGED", "tagPrefixes": ["alpha", "v0"], "olderThan": "2592000s"}
    shown = gcloud(*policies, "describe", *at)
    assert shown["cleanupPolicyDryRun"] is True
    layout = LayoutWriter(tmp_path / "layout")
    for tag in ("v1", "v2"):
        layout.name(layout.image([{"etc/hello": tag.encode()}]), tag)
        suite.entrepot("copy", f"oci:{layout.folder}:{tag}", f"docker://{suite.registry}/demo/tidy/app:latest")
    plan = suite.entrepot("cleanup", "plan", "tidy", "--format=json")
    assert json.loads(plan.stdout)["deleteCount"] in {0, 1}
    gcloud(*policies, "set-cleanup-policies", *at, f"--policy={file}", "--no-dry-run")
    assert "cleanupPolicyDryRun" not in gcloud(*policies, "describe", *at)
    gcloud(*policies, "delete-cleanup-policies", *at, "--policynames=delete-prerelease,delete-untagged")
    assert [one["name"] for one in gcloud(*policies, "list-cleanup-policies", *at)] == ["keep-minimum-versions"]
    gcloud(*policies, "delete-cleanup-policies", *at, "--policynames=keep-minimum-versions")
    assert gcloud(*policies, "list-cleanup-policies", *at) == []


POLICIES = [
    {
        "name": "delete-prerelease",
        "action": {"type": "Delete"},
        "condition": {"tagState": "tagged", "tagPrefixes": ["alpha", "v0"], "olderThan": "30d"},
    },
    {"name": "delete-untagged", "action": {"type": "Delete"}, "condition": {"tagState": "untagged"}},
    {
        "name": "keep-minimum-versions",
        "action": {"type": "Keep"},
        "mostRecentVersions": {"packageNamePrefixes": ["webapp", "mobile"], "keepCount": 5},
    },
]
