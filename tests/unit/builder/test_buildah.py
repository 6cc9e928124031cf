"""What buildah is told where the builder is not root: every base image has files of owners that are not there."""

import io
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

from services.builder.buildah import store
from services.builder.sandbox import Users
from tests.support.images import image_of
from tests.support.layouts import LayoutWriter

ALONE = Users(descriptor=-1, owner=0, count=1, privileged=False)
AROUND = ("unshare", "--map-root-user", "--mount", "sh", "-c", 'mount -t tmpfs tmpfs /run && exec "$@"', "sh")
"""The root of a user namespace, who has no other ids to give, and a /run of its own."""


@pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed (package buildah)")
def test_without_root_an_image_with_files_of_a_group_is_taken(tmp_path: Path) -> None:
    layout = LayoutWriter(tmp_path / "layout")
    layout.name(layout.add(image_of([layer_of_group(42)])), "1")
    policy = tmp_path / "policy.json"
    policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')

    command = [*AROUND, "buildah", *store(tmp_path / "store", ALONE), "pull", "--signature-policy", str(policy)]
    ran = subprocess.run(
        [*command, "oci:layout:1"], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False
    )

    assert ran.returncode == 0, ran.stderr


def layer_of_group(group: int) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("etc/shadow")
        member.gid, member.mode = group, 0o640
        archive.addfile(member)
    return packed.getvalue()
