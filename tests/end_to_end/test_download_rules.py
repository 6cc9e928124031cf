"""Rules for downloads by `gcloud artifacts rules`, and what clients print that are denied a download."""

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(600)

Run = Callable[..., str]
Gcloud = Callable[..., Any]
WHERE = ("--repository=ruled", "--location=local")
NAME = "projects/demo/locations/local/repositories/ruled/rules"


@pytest.fixture
def rules(gcloud: Gcloud) -> Gcloud:
    return partial(gcloud, "artifacts", "rules")


@pytest.fixture
def image(suite: Suite, tmp_path: Path) -> str:
    """An image with the tags 1.0 and 2.0."""
    layout, name = LayoutWriter(tmp_path / "layout"), f"{suite.registry}/demo/ruled/team/app"
    for tag in ("1.0", "2.0"):
        layout.name(layout.image([{"etc/version": tag.encode()}]), tag)
        suite.entrepot("copy", f"oci:{layout.folder}:{tag}", f"docker://{name}:{tag}")
    return name


def test_rules_are_made_described_listed_changed_and_deleted_by_gcloud_and_clients_name_them(
    rules: Gcloud, client: Run, image: str, store: tuple[str, ...], tmp_path: Path
) -> None:
    condition = "--condition=pkg.version.id < '2.0'"
    made = rules("create", "old", "--action=DENY", condition, *WHERE)
    told = {"name": f"{NAME}/old", "action": "DENY", "operation": "DOWNLOAD"}
    assert made == told | {"condition": {"expression": "pkg.version.id < '2.0'"}}
    assert rules("describe", "old", *WHERE) == made
    assert "ALREADY_EXISTS" in rules("create", "other", "--action=DENY", *WHERE, code=1)

    denied = "denied: the download of team/app@sha256:"
    for command in (("skopeo", "inspect"), ("skopeo", "copy")):
        more = () if command[1] == "inspect" else (f"dir:{tmp_path}/back",)
        said = client(*command, f"docker://{image}:1.0", *more, fails=True)
        assert denied in said
        assert f"is denied by the rule {NAME}/old" in said
        client(*command, f"docker://{image}:2.0", *more)
    said = client("podman", *store, "pull", f"{image}:1.0", fails=True)
    assert f"is denied by the rule {NAME}/old" in said
    client("podman", *store, "pull", f"{image}:2.0")

    changed = rules(
        "update", "old", "--action=ALLOW", "--condition=pkg.version.id == '1.0'", "--package=team/app", *WHERE
    )
    assert changed["condition"] == {"expression": "pkg.version.id == '1.0'"}
    assert (changed["action"], changed["packageId"]) == ("ALLOW", "team/app")
    rules("create", "all", "--action=DENY", *WHERE)
    assert [rule["name"].rpartition("/")[2] for rule in rules("list", *WHERE)] == ["all", "old"]
    client("skopeo", "inspect", f"docker://{image}:1.0")
    assert "rules/all" in client("skopeo", "inspect", f"docker://{image}:2.0", fails=True)

    rules("delete", "all", *WHERE)
    assert json.loads(client("skopeo", "inspect", f"docker://{image}:2.0"))["RepoTags"] == ["1.0", "2.0"]
