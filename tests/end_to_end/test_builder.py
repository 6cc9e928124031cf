"""A build of a Dockerfile through the whole suite: source up, buildah, pushed by digest, found in the registry."""

import shutil
from pathlib import Path

import pytest

from tests.support.suite import Suite

pytestmark = pytest.mark.skipif(shutil.which("buildah") is None, reason="buildah is not installed")


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


@pytest.mark.skipif(shutil.which("busybox") is None, reason="busybox is not installed (package busybox-static)")
@pytest.mark.timeout(240)
def test_run_lines_are_nobody_reach_no_host_and_see_no_login(suite: Suite, tmp_path: Path) -> None:
    shutil.copy(str(shutil.which("busybox")), tmp_path / "busybox")
    tries = (
        "cat /proc/self/uid_map; grep -E 'Seccomp:|CapEff' /proc/self/status; ls /; ps; "
        f"nc -w 3 127.0.0.1 {suite.base + 6} </dev/null || echo no-audit-log; "
        "cat /*/auth.json ~/* /run/*/*/auth.json 2>/dev/null || echo no-login; "
        "mount -t tmpfs x /tmp || echo no-mount"
    )
    (tmp_path / "Dockerfile").write_text(
        "FROM scratch\nCOPY busybox /bin/busybox\nCOPY busybox /bin/sh\nENV PATH=/bin\n"
        f"RUN /bin/busybox --install -s /bin || :; {tries}\n"
    )
    (tmp_path / "cloudbuild.yaml").write_text("steps:\n- name: docker\n  args: [build, -t, x, .]\n")
    said = suite.entrepot("builds", "submit", str(tmp_path)).stderr
    for proof in ("no-audit-log", "no-login", "no-mount", "Seccomp:\t2"):
        assert f"Step #0: {proof}\n" in said, said
    assert "Step #0:          0          0" not in said, "root of a RUN line is root of the machine"


@pytest.mark.timeout(120)
def test_a_build_that_fails_says_which_step(suite: Suite, tmp_path: Path) -> None:
    (tmp_path / "cloudbuild.yaml").write_text("steps:\n- name: docker\n  args: [build, -t, x, nowhere]\n")
    failed = suite.entrepot("builds", "submit", str(tmp_path), code=1)
    assert "FAILURE" in failed.stderr
    assert "Step #0" in failed.stderr
