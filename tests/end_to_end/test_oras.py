"""The Python SDK of ORAS against a running suite: files as artifacts, and artifacts that are about others."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from shared.digest import Digest
from tests.support.suite import Suite

oras = pytest.importorskip("oras.client", reason="the oras SDK is not installed")
oci = pytest.importorskip("oras.oci")

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

INDEX = "application/vnd.oci.image.index.v1+json"


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the SDK takes files from and keeps its settings in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.setenv("DOCKER_HOST", "unix:///nowhere")
    return tmp_path


@pytest.fixture
def client(suite: Suite, here: Path) -> Iterator[Any]:
    """Logged in with the administrator's key file."""
    made = oras.OrasClient(hostname=suite.registry, insecure=True)
    made.login("_json_key", suite.admin_key.read_text(), hostname=suite.registry, config_path=str(here / "auth.json"))
    with made.session:
        yield made


def by_token(suite: Suite, client: Any) -> Any:
    """The SDK keeps its first token, of one scope; an access token has them all."""
    client.auth.set_token_auth(suite.token())
    return client


def test_files_are_pushed_after_a_login_and_pulled_again(client: Any, suite: Suite, here: Path) -> None:
    (here / "sbom.json").write_text('{"packages": []}')
    name = f"{suite.registry}/demo/oras/files:1"
    pushed = client.push(name, files=["sbom.json:application/json"], manifest_annotations={"by": "oras"})
    assert pushed.status_code == 201

    (here / "sbom.json").unlink()
    (pulled,) = client.pull(name, outdir=str(here / "back"))
    assert Path(pulled).read_text() == '{"packages": []}'
    assert client.get_manifest(name)["annotations"] == {"by": "oras"}


def test_a_large_file_is_pushed_in_chunks(client: Any, suite: Suite, here: Path) -> None:
    content = bytes(range(256)) * 20_000
    (here / "large.bin").write_bytes(content)
    name = f"{suite.registry}/demo/oras/large:1"
    client.push(name, files=["large.bin"], do_chunked=True, chunk_size=1_000_000)
    (pulled,) = client.pull(name, outdir=str(here / "back"))
    assert Path(pulled).read_bytes() == content


def test_tags_are_listed_and_deleted(client: Any, suite: Suite, here: Path) -> None:
    name = f"{suite.registry}/demo/oras/tags"
    by_token(suite, client)
    for tag in ("1", "2", "3"):
        (here / "a.txt").write_text(tag)
        client.push(f"{name}:{tag}", files=["a.txt"])
    assert client.get_tags(name) == ["1", "2", "3"]
    client.delete_tags(name, ["2"])
    assert client.get_tags(name) == ["1", "3"]


def test_what_is_about_another_is_listed_as_its_referrer(client: Any, suite: Suite, here: Path) -> None:
    (here / "image.txt").write_text("image")
    (here / "about.txt").write_text("about it")
    name = f"{suite.registry}/demo/oras/subject"
    digest = client.push(f"{name}:1", files=["image.txt"]).headers["Docker-Content-Digest"]
    size = len(client.do_request(f"http://{suite.registry}/v2/demo/oras/subject/manifests/1").content)
    subject = oci.Subject("application/vnd.oci.image.manifest.v1+json", digest, size)
    pushed = client.push(f"{name}:about", files=["about.txt"], subject=subject)
    assert pushed.headers["OCI-Subject"] == digest

    listed = suite.call("registry", f"v2/demo/oras/subject/referrers/{digest}")
    assert listed["mediaType"] == INDEX
    assert [each["digest"] for each in listed["manifests"]] == [pushed.headers["Docker-Content-Digest"]]

    repository = "projects/demo/locations/local/repositories/oras"
    target = quote(f'target="{repository}/packages/subject/versions/{digest}"')
    (attachment,) = suite.call("registry", f"v1/{repository}/attachments?filter={target}")["attachments"]
    assert attachment["ociVersionName"].endswith(pushed.headers["Docker-Content-Digest"])
    (file,) = attachment["files"]
    assert file.endswith(Digest.of(b"about it"))
