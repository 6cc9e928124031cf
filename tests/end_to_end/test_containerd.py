"""containerd's client against a running suite, on a containerd of the test's own."""

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.error import HTTPError

import pytest

from shared.digest import Digest
from tests.support import containerd, unusual
from tests.support.containerd import Containerd
from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

PLATFORMS = ("linux/amd64", "linux/arm64")
LIMITED = "pull access denied"


@dataclass(frozen=True)
class Ctr:
    """`ctr images`, and the registry that it speaks to."""

    running: Containerd
    suite: Suite

    def name(self, rest: str) -> str:
        """The full name of what is in the project's repositories."""
        return f"{self.suite.registry}/demo/{rest}"

    def pull(self, name: str, *options: str, who: str | None = None, check: bool = True) -> str:
        """Pull, with all platforms, as the administrator or as somebody else."""
        user = ("--user", who if who is not None else self.user)
        plain = ("--plain-http", "--snapshotter", "native", "--all-platforms", *(user if user[1] else ()))
        return self.running.ctr("images", "pull", *plain, *options, name, check=check)

    def push(self, name: str, local: str, who: str | None = None, *, check: bool = True) -> str:
        """Push what is called `local` here."""
        user = ("--user", self.user if who is None else who)
        return self.running.ctr("images", "push", "--plain-http", *user, name, local, check=check)

    def forget(self, name: str) -> None:
        """Remove a name, and the content that no other name holds."""
        self.running.ctr("images", "rm", "--sync", name)

    def digest(self, name: str) -> Digest:
        """What a local name means."""
        rows = (line.split() for line in self.running.ctr("images", "ls", f"name=={name}").splitlines()[1:])
        return Digest.parse(next(row[2] for row in rows))

    @property
    def user(self) -> str:
        return f"_json_key:{self.suite.admin_key.read_text()}"


@pytest.fixture(scope="module")
def ctr(suite: Suite, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ctr]:
    """A containerd that has nothing yet."""
    reason = containerd.missing()
    if reason:
        pytest.skip(f"containerd cannot run: {reason}")
    folder = tmp_path_factory.mktemp("containerd")
    try:
        with containerd.containerd(folder / "daemon") as running:
            yield Ctr(running, suite)
    except containerd.ContainerdRefused as refused:
        pytest.skip(f"containerd does not run here: {refused}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "layout")


def put(ctr: Ctr, layout: LayoutWriter, name: str) -> str:
    """Bring an image of the layout into the registry."""
    there = ctr.name(f"containerd/{name}:1")
    ctr.suite.entrepot("copy", f"oci:{layout.folder}:{name}", f"docker://{there}")
    return there


def goes_round(ctr: Ctr, there: str, digest: Digest) -> str:
    """What is pulled, forgotten but for a push into another repository, and pulled from there, is the same."""
    other = there.replace("/containerd/", "/containerd2/")
    ctr.pull(there)
    assert ctr.digest(there) == digest
    ctr.push(other, there)
    ctr.forget(there)
    ctr.pull(other)
    assert ctr.digest(other) == digest
    return other


def test_an_index_of_two_platforms_goes_round_and_is_pulled_by_digest(ctr: Ctr, layout: LayoutWriter) -> None:
    images = {platform: layout.image([{"etc/platform": platform.encode()}], platform) for platform in PLATFORMS}
    digest = layout.name(layout.index(images), "many")
    other = goes_round(ctr, put(ctr, layout, "many"), digest)

    by_digest = f"{other.rpartition(':')[0]}@{digest}"
    ctr.pull(by_digest)
    assert ctr.digest(by_digest) == digest
    assert "linux/amd64,linux/arm64" in ctr.running.ctr("images", "ls", f"name=={by_digest}")


@pytest.mark.parametrize("kind", ["zstd", "nested", "artifact"])
def test_the_less_usual_kinds_go_round(ctr: Ctr, layout: LayoutWriter, kind: str) -> None:
    digest = getattr(unusual, kind)(layout)
    goes_round(ctr, put(ctr, layout, kind), digest)


def test_layers_that_lie_elsewhere_are_fetched_from_there_and_never_pushed(ctr: Ctr, layout: LayoutWriter) -> None:
    with unusual.served_elsewhere() as layer:
        digest = unusual.foreign(layout, layer)
        goes_round(ctr, put(ctr, layout, "foreign"), digest)
        assert layer.asked
    with pytest.raises(HTTPError, match="404"):
        ctr.suite.call("registry", f"v2/demo/containerd2/foreign/blobs/{layer.digest}")


def test_a_token_is_a_password_too_and_a_wrong_one_is_told_so(ctr: Ctr, layout: LayoutWriter) -> None:
    layout.name(layout.image([{"a": b"token"}]), "token")
    there = put(ctr, layout, "token")
    ctr.pull(there, who=f"oauth2accesstoken:{ctr.suite.token()}")
    assert "401" in ctr.pull(there, who="_json_key:wrong", check=False)
    assert "401" in ctr.push(there.replace(":1", ":2"), there, who="_json_key:wrong", check=False)


def test_without_a_login_nothing_is_pulled(ctr: Ctr, layout: LayoutWriter) -> None:
    layout.name(layout.image([{"a": b"private"}]), "private")
    assert LIMITED in ctr.pull(put(ctr, layout, "private"), who="", check=False)


def test_as_a_mirror_the_registry_is_asked_for_the_names_of_another(ctr: Ctr, layout: LayoutWriter) -> None:
    digest = layout.name(layout.image([{"a": b"mirrored"}]), "mirrored")
    put(ctr, layout, "mirrored")
    hosts = layout.folder / "hosts" / "mirrored.example"
    hosts.mkdir(parents=True)
    (hosts / "hosts.toml").write_text(
        f'server = "http://127.0.0.1:1"\n[host."http://{ctr.suite.registry}"]\ncapabilities = ["pull", "resolve"]\n'
    )
    name = "mirrored.example/demo/containerd/mirrored:1"
    ctr.pull(name, "--hosts-dir", str(hosts.parent))
    assert ctr.digest(name) == digest


def test_what_is_deleted_is_not_found(ctr: Ctr, layout: LayoutWriter) -> None:
    digest = layout.name(layout.image([{"a": b"deleted"}]), "deleted")
    there = put(ctr, layout, "deleted")
    ctr.suite.delete(f"v2/demo/containerd/deleted/manifests/{digest}")
    assert "not found" in ctr.pull(there, check=False)


def test_what_was_pushed_is_listed(ctr: Ctr, layout: LayoutWriter) -> None:
    digest = layout.name(layout.image([{"a": b"listed"}]), "listed")
    other = goes_round(ctr, put(ctr, layout, "listed"), digest)
    listed = ctr.suite.call("registry", "v1/projects/demo/locations/local/repositories/containerd2/dockerImages")
    assert digest in json.dumps(listed)
    assert "1" in ctr.suite.call("registry", f"v2/{other.partition('/')[2].removesuffix(':1')}/tags/list")["tags"]
