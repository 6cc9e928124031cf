"""A build of a Dockerfile through the whole suite: source up, buildah, pushed by digest, found in the registry."""

import os
import shutil
from pathlib import Path

import pytest

from tests.support.suite import Suite

pytestmark = [
    pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed"),
    pytest.mark.skipif(os.geteuid() != 0, reason="buildah in user namespaces needs subordinate ids; run as root"),
]


@pytest.mark.timeout(240)
def test_a_dockerfile_is_built_and_pushed_by_digest(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM scratch\nCOPY hello.txt /hello.txt\nLABEL made=here\n")
    (tmp_path / "hello.txt").write_text("hello\n")
    image = f"{suite.registry}/demo/built/hello:v1"
    (tmp_path / "cloudbuild.yaml").write_text(
        f"steps:\n- name: gcr.io/cloud-builders/docker\n  args: [build, -t, '{image}', .]\nimages: ['{image}']\n"
    )
    pushed = suite.entrepot("builds", "submit", str(tmp_path)).stdout.strip()
    name, _, digest = pushed.rpartition("@")
    assert name == image
    again = suite.entrepot("copy", f"docker://{image}", f"oci:{tmp_path / 'layout'}:v1").stdout.strip()
    assert again == digest
    listed = suite.call("builder", "v1/projects/demo/builds")["builds"]
    assert listed[0]["results"]["images"] == [{"name": image, "digest": digest}]


@pytest.mark.timeout(120)
def test_a_build_that_fails_says_which_step(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "cloudbuild.yaml").write_text("steps:\n- name: docker\n  args: [build, -t, x, nowhere]\n")
    failed = suite.entrepot("builds", "submit", str(tmp_path), code=1)
    assert "FAILURE" in failed.stderr
    assert "Step #0" in failed.stderr
