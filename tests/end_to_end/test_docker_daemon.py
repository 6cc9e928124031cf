"""docker and its daemon against a running suite: the daemon is the test's own and is gone when the tests end."""

import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.digest import Digest
from tests.support import engine
from tests.support.engine import Engine
from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

INDEX = "application/vnd.oci.image.index.v1+json"
LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"
PLATFORMS = ("linux/amd64", "linux/arm64")


@dataclass(frozen=True)
class Docker:
    """The command line, its daemon, and the registry that it speaks to."""

    engine: Engine
    suite: Suite

    def __call__(self, *arguments: str, given: str = "", check: bool = True, **environment: str) -> str:
        """Run docker; what it says, on both channels."""
        command = ("env", *(f"{name}={value}" for name, value in environment.items()), "docker", *arguments)
        ran = self.engine.run(*command, stdin=given.encode(), check=False)
        said = (ran.stdout + ran.stderr).decode()
        assert (ran.returncode == 0) == check, said
        return said

    def name(self, rest: str) -> str:
        """The full name of what is in the project's repositories."""
        return f"{self.suite.registry}/demo/{rest}"

    def has(self, name: str) -> str:
        """The id of a local image."""
        return self("image", "inspect", "--format", "{{.Id}}", name).strip()

    def pushed(self, name: str) -> Digest:
        """Push; the digest that docker was told."""
        told = self("push", name).rpartition("digest: ")[2].split()[0]
        return Digest.parse(told)


@pytest.fixture(scope="module")
def docker(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Docker]:
    """A daemon that has the image `boat`, logged in as the administrator."""
    reason = engine.missing()
    if reason:
        pytest.skip(f"docker's daemon cannot run: {reason}")
    folder = tmp_path_factory.mktemp("docker")
    try:
        with engine.engine(folder / "engine", own_network=False) as running:
            running.load(rootfs(folder / "rootfs"), "boat")
            running.environment |= {"DOCKER_CONFIG": suite.environment("docker")["DOCKER_CONFIG"]}
            yield Docker(running, suite)
    except engine.EngineRefused as refused:
        pytest.skip(f"docker's daemon does not run here: {refused}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def rootfs(folder: Path) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "etc").mkdir()
    (folder / "etc" / "motd").write_text("all aboard\n" * 2000)
    if Path("/bin/busybox").exists():
        shutil.copy("/bin/busybox", folder / "bin" / "cat")
    return folder


@pytest.fixture
def boat(docker: Docker, request: pytest.FixtureRequest) -> str:
    """The image under a name of the test's own."""
    name = docker.name(f"docker/{request.node.name[5:40].strip('_')}:1")
    docker("tag", "boat", name)
    return name


@pytest.fixture(scope="module")
def index(docker: Docker, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Digest]:
    """An image of two platforms at docker/many:1, and the digests in it."""
    layout = LayoutWriter(tmp_path_factory.mktemp("index"))
    images = {
        platform: layout.image([{"etc/platform": platform.encode()}], platform, Cmd=["/bin/true"])
        for platform in PLATFORMS
    }
    whole = layout.name(layout.index(images), "1")
    docker.suite.entrepot("copy", f"oci:{layout.folder}:1", f"docker://{docker.name('docker/many:1')}")
    return {"": whole, **{platform: Digest.parse(found["digest"]) for platform, found in images.items()}}


def test_docker_logs_in_with_the_key_and_out_again_and_no_wrong_password_does(docker: Docker, tmp_path: Path) -> None:
    own = {"DOCKER_CONFIG": str(tmp_path)}
    login = ("login", "--username", "_json_key", "--password-stdin", docker.suite.registry)

    assert "Login Succeeded" in docker(*login, given=docker.suite.admin_key.read_text(), **own)
    assert docker.suite.registry in (tmp_path / "config.json").read_text()
    docker("logout", docker.suite.registry, **own)
    assert docker.suite.registry not in (tmp_path / "config.json").read_text()
    assert "unauthorized" in docker(*login, given="wrong", check=False, **own)


def test_what_docker_pushed_it_pulls_by_tag_and_by_digest(docker: Docker, boat: str) -> None:
    local, digest = docker.has("boat"), docker.pushed(boat)

    for reference in (boat, f"{boat.rpartition(':')[0]}@{digest}"):
        docker("rmi", "--force", boat)
        docker("pull", reference)
        assert docker.has(reference) == local


@pytest.mark.skipif(not Path("/bin/busybox").exists(), reason="busybox is not installed")
def test_a_pulled_image_runs(docker: Docker, boat: str) -> None:
    docker("push", boat)
    docker("rmi", "--force", boat)
    assert "all aboard" in docker("run", "--rm", "--network", "none", boat, "/bin/cat", "/etc/motd")


def test_layers_that_are_there_are_not_sent_again_and_another_repository_mounts_them(docker: Docker, boat: str) -> None:
    docker("push", boat)
    assert "Layer already exists" in docker("push", boat)

    there = docker.name("elsewhere/boat:1")
    docker("tag", boat, there)
    assert "Mounted from demo/docker/" in docker("push", there)


def test_docker_lists_tags_by_pulling_all_of_them(docker: Docker, boat: str) -> None:
    name = boat.rpartition(":")[0]
    for tag in ("1", "2", "3"):
        docker("tag", "boat", f"{name}:{tag}")
        docker("push", f"{name}:{tag}")
        docker("rmi", f"{name}:{tag}")

    docker("pull", "--all-tags", name)
    assert set(docker("images", "--format", "{{.Tag}}", name).split()) == {"1", "2", "3"}


def test_docker_inspects_the_manifest_that_it_pushed(docker: Docker, boat: str) -> None:
    digest = docker.pushed(boat)
    seen = json.loads(docker("manifest", "inspect", "--insecure", "--verbose", boat))
    assert seen["Descriptor"]["digest"] == digest
    assert seen["Descriptor"]["mediaType"] == SCHEMA_2


def test_an_index_is_pulled_by_tag_by_digest_and_for_another_platform(docker: Docker, index: dict[str, Digest]) -> None:
    name = docker.name("docker/many")
    for platform in PLATFORMS:
        for reference in (f"{name}:1", f"{name}@{index['']}", f"{name}@{index[platform]}"):
            docker("pull", "--platform", platform, reference)
            seen = docker("image", "inspect", "--format", "{{.Os}}/{{.Architecture}} {{.RepoDigests}}", reference)
            assert seen.startswith(platform)
            assert reference.rpartition("@")[2] in seen or reference.endswith(":1")
            docker("rmi", "--force", reference)


def test_docker_makes_a_list_of_images_that_it_pushed(docker: Docker, boat: str) -> None:
    digest = docker.pushed(boat)
    assert listed(docker, f"{boat}-list", [boat], LIST) == {digest}


def test_docker_makes_an_index_of_oci_images(docker: Docker, index: dict[str, Digest]) -> None:
    if int(docker("version", "--format", "{{.Client.Version}}").partition(".")[0]) < 25:
        pytest.skip("this docker makes no index of OCI images")
    name = docker.name("docker/many")
    children = [index[platform] for platform in PLATFORMS]
    assert listed(docker, f"{name}:index", [f"{name}@{child}" for child in children], INDEX) == set(children)


def listed(docker: Docker, name: str, images: list[str], kind: str) -> set[str]:
    """Make a list, push it, and pull by the digest that docker was told; what the registry then shows in it."""
    docker("manifest", "create", "--insecure", name, *images)
    docker("manifest", "annotate", name, images[0], "--os-features", "none")
    told = docker("manifest", "push", "--insecure", name).split()[-1]
    docker("pull", f"{name.rpartition(':')[0]}@{told}")
    seen = json.loads(docker("manifest", "inspect", "--insecure", name))
    assert seen["mediaType"] == kind
    return {each["digest"] for each in seen["manifests"]}


def test_what_is_deleted_cannot_be_pulled_and_docker_says_why(docker: Docker, boat: str) -> None:
    name, _, _ = boat.rpartition(":")
    digest = docker.pushed(boat)
    docker("rmi", "--force", boat)
    assert docker.suite.delete(f"v2/{name.partition('/')[2]}/manifests/{digest}") == 202

    for reference in (boat, f"{name}@{digest}"):
        assert "manifest unknown" in docker("pull", reference, check=False)


def test_who_has_not_logged_in_is_told_to(docker: Docker, boat: str, tmp_path: Path) -> None:
    own = {"DOCKER_CONFIG": str(tmp_path)}
    docker("push", boat)
    assert "docker login" in docker("pull", boat, check=False, **own)
    assert "denied" in docker("push", boat, check=False, **own)


def test_a_name_without_project_and_repository_is_refused_at_once_with_the_form_it_should_have(docker: Docker) -> None:
    name = f"{docker.suite.registry}/boat"
    docker("tag", "boat", name)
    began = time.monotonic()
    assert "PROJECT/REPOSITORY/IMAGE" in docker("push", name, check=False)
    assert time.monotonic() - began < 5, "docker tries again, for a minute, what it takes for a passing failure"
    assert "PROJECT/REPOSITORY/IMAGE" in docker("pull", name, check=False)


def test_a_push_over_an_immutable_tag_shows_the_rule_at_once(docker: Docker, tmp_path: Path) -> None:
    first, other = docker.name("docker-fixed/boat:1"), f"{docker.name('docker-fixed/boat')}:2"
    docker("tag", "boat", first)
    docker("push", first)
    repository = "v1/projects/demo/locations/local/repositories/docker-fixed"
    docker.suite.call("registry", repository, {"dockerConfig": {"immutableTags": True}}, "PATCH")
    assert "digest: " in docker("push", first), "the same once more is no overwriting"
    docker.engine.load(rootfs(tmp_path / "changed"), "boat-changed", ['LABEL number="2"'])
    docker("tag", "boat-changed", first)
    began = time.monotonic()
    said = docker("push", first, check=False)
    assert "dockerConfig.immutableTags of the repository refuses to overwrite it" in said
    assert time.monotonic() - began < 15, "docker tries again, for a minute, what it takes for a passing failure"
    docker("tag", "boat-changed", other)
    docker("push", other)


@pytest.mark.parametrize("quota", [0, 10_000])
def test_a_push_beyond_a_quota_shows_the_quota_at_once(docker: Docker, quota: int) -> None:
    """Also where there is room for the first bytes, and docker does not say how many there will be."""
    repositories, repository = "v1/projects/demo/locations/local/repositories", f"docker-quota-{quota}"
    body = {"format": "DOCKER", "labels": {"entrepot-quota-bytes": str(quota)}}
    docker.suite.call("registry", f"{repositories}?repositoryId={repository}", body)
    name = docker.name(f"{repository}/boat:1")
    docker("tag", "boat", name)
    began = time.monotonic()
    said = docker("push", name, check=False)
    assert f"the quota is exceeded: the repository demo/{repository}" in said
    assert time.monotonic() - began < 15, "docker tries again, for a minute, what it takes for a passing failure"
    assert int(docker.suite.call("registry", f"{repositories}/{repository}")["sizeBytes"]) <= quota


def test_a_denied_pull_shows_the_rule(docker: Docker, boat: str, tmp_path: Path) -> None:
    name = docker.name("docker-ruled/boat:1")
    # An image of its own: the daemon keeps the manifests of what was pulled and, for a while, asks for them no more.
    docker.engine.load(rootfs(tmp_path / "rootfs"), name)
    docker("push", name)
    rules = "v1/projects/demo/locations/local/repositories/docker-ruled/rules"
    docker.suite.call("registry", f"{rules}?ruleId=all", {"action": "DENY"})
    docker("rmi", "--force", name)
    assert "is denied by the rule projects/demo/locations/local/repositories/docker-ruled/rules/all" in docker(
        "pull", name, check=False
    )
    docker("push", boat)
    docker.suite.call("registry", f"{rules}/all", verb="DELETE")
    docker("pull", name)
