"""Google's libraries for Python against a running suite, with nothing told but the address and a key file of ours.

The one that builds itself from Google's description of the API: uploads go where the description says, so the address
stands there, too. And the one that is generated from its definitions, by its REST transport: its other one speaks gRPC,
which is not served here.
"""

import io
import json
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from shared.digest import Digest
from tests.support.layouts import LayoutWriter
from tests.support.suite import Suite

pytestmark = [pytest.mark.timeout(300), pytest.mark.filterwarnings("ignore")]

PROJECT = "projects/demo/locations/local"
SCOPES = ["https://www.googleapis.com/auth/cloud-platform"]
FILE_NAME = "artifactregistry.googleapis.com/file_name"


@pytest.fixture
def credentials(suite: Suite) -> Any:
    account = pytest.importorskip("google.oauth2.service_account")
    return account.Credentials.from_service_account_file(str(suite.admin_key), scopes=SCOPES)


@pytest.fixture
def http() -> Any:
    return pytest.importorskip("googleapiclient.http")


@pytest.fixture
def built(suite: Suite, credentials: Any) -> Iterator[Any]:
    """The client that Google's description makes."""
    discovery = pytest.importorskip("googleapiclient.discovery")
    folder = files("googleapiclient.discovery_cache") / "documents" / "artifactregistry.v1.json"
    description = json.loads(folder.read_text()) | {"rootUrl": f"{suite.address('registry')}/"}
    with discovery.build_from_document(
        description,
        credentials=credentials,
        client_options={"api_endpoint": suite.address("registry")},
    ) as client:
        yield client.projects().locations()


def push(suite: Suite, folder: Path, repository: str) -> Digest:
    """An image `team/app` with the tag 1.0."""
    layout = LayoutWriter(folder / "layout")
    digest = layout.name(layout.image([{"etc/version": repository.encode()}]), "1.0")
    suite.entrepot("copy", f"oci:{layout.folder}:1.0", f"docker://{suite.registry}/demo/{repository}/team/app:1.0")
    return digest


def test_repositories_packages_versions_and_tags(built: Any, suite: Suite, tmp_path: Path) -> None:
    repositories, name = built.repositories(), f"{PROJECT}/repositories/described"
    wanted = {"format": "DOCKER", "description": "made by a library", "labels": {"team": "web"}}
    operation = repositories.create(parent=PROJECT, repositoryId="described", body=wanted).execute()
    assert built.operations().get(name=operation["name"]).execute()["done"] is True
    patched = repositories.patch(name=name, updateMask="description", body={"description": "changed"}).execute()
    assert (patched["description"], patched["labels"]) == ("changed", {"team": "web"})
    assert name in [found["name"] for found in repositories.list(parent=PROJECT).execute()["repositories"]]

    digest = push(suite, tmp_path, "described")
    package = f"{name}/packages/team%2Fapp"
    packages, versions, tags = (
        repositories.packages(),
        repositories.packages().versions(),
        repositories.packages().tags(),
    )
    assert packages.get(name=package).execute()["displayName"] == "team/app"
    (version,) = versions.list(parent=package, view="FULL").execute()["versions"]
    assert version["name"] == f"{package}/versions/{digest}"
    made = tags.create(parent=package, tagId="stable", body={"version": version["name"]}).execute()
    assert made["name"] == f"{package}/tags/stable"
    assert len(tags.list(parent=package).execute()["tags"]) == 2
    tags.delete(name=made["name"]).execute()
    image = repositories.dockerImages().get(name=f"{name}/dockerImages/team%2Fapp@{digest}").execute()
    assert image["tags"] == ["1.0"]

    policy = {"bindings": [{"role": "roles/artifactregistry.reader", "members": ["allUsers"]}]}
    repositories.setIamPolicy(resource=name, body={"policy": policy}).execute()
    assert repositories.getIamPolicy(resource=name).execute()["bindings"] == policy["bindings"]
    assert repositories.delete(name=name).execute()["done"] is True


@pytest.mark.parametrize("repository", ["whole", "resumable"])
def test_files_and_attachments(built: Any, http: Any, suite: Suite, tmp_path: Path, repository: str) -> None:
    digest = push(suite, tmp_path, repository)
    name, content = f"{PROJECT}/repositories/{repository}", bytes(range(256)) * 4000
    resumable = repository == "resumable"
    media = http.MediaIoBaseUpload(io.BytesIO(content), "application/zip", chunksize=300_000, resumable=resumable)
    files = built.repositories().files()
    done = files.upload(parent=name, body={"fileId": str(Digest.of(content))}, media_body=media).execute()["operation"]
    file = built.operations().get(name=done["name"]).execute()["response"]["name"]
    assert file == f"{name}/files/{Digest.of(content)}"
    changed = files.patch(name=file, updateMask="annotations", body={"annotations": {FILE_NAME: "a.zip"}}).execute()
    assert changed["annotations"] == {FILE_NAME: "a.zip"}

    target, attachments = f"{name}/packages/team%2Fapp/versions/{digest}", built.repositories().attachments()
    body = {"target": target, "type": "application/zip", "files": [file]}
    made = attachments.create(parent=name, attachmentId="a", body=body).execute()["response"]
    shown = attachments.get(name=f"{name}/attachments/a").execute()
    assert made == {"@type": made["@type"], **shown}
    assert attachments.list(parent=name, filter=f'target="{target}"').execute()["attachments"] == [shown]

    loaded = io.BytesIO()
    download = http.MediaIoBaseDownload(loaded, files.download_media(name=file), chunksize=300_000)
    while not download.next_chunk()[1]:
        pass
    assert loaded.getvalue() == content
    attachments.delete(name=shown["name"]).execute()
    assert files.delete(name=file).execute()["done"] is True


def test_an_empty_file_may_be_resumable(built: Any, http: Any, suite: Suite, tmp_path: Path) -> None:
    push(suite, tmp_path, "empty-files")
    media = http.MediaIoBaseUpload(io.BytesIO(b""), "text/plain", resumable=True)
    parent = f"{PROJECT}/repositories/empty-files"
    done = built.repositories().files().upload(parent=parent, media_body=media).execute()["operation"]
    assert done["response"].get("sizeBytes") == "0"


def test_the_generated_client_over_rest(suite: Suite, credentials: Any, tmp_path: Path) -> None:
    generated = pytest.importorskip("google.cloud.artifactregistry_v1", reason="the generated client is not installed")
    options = {"api_endpoint": suite.address("registry")}
    digest, name = push(suite, tmp_path, "generated"), f"{PROJECT}/repositories/generated"
    package = f"{name}/packages/{quote('team/app', safe='')}"
    with generated.ArtifactRegistryClient(credentials=credentials, transport="rest", client_options=options) as client:
        changed = client.update_repository(
            repository=generated.Repository(name=name, description="words"), update_mask={"paths": ["description"]}
        )
        assert (changed.description, changed.format_.name) == ("words", "DOCKER")
        assert name in [found.name for found in client.list_repositories(parent=PROJECT)]
        (image,) = client.list_docker_images(parent=name)
        assert list(image.tags) == ["1.0"]
        assert image.upload_time.year > 2000
        assert [found.display_name for found in client.list_packages(parent=name)] == ["team/app"]
        (version,) = client.list_versions(parent=package)
        assert version.name == f"{package}/versions/{digest}"
        tag = generated.Tag(version=version.name)
        client.create_tag(parent=package, tag=tag, tag_id="stable")
        assert len(list(client.list_tags(parent=package))) == 2
        file, *_ = client.list_files(parent=name)
        attachment = generated.Attachment(target=version.name, type_="text/plain", files=[file.name])
        made = client.create_attachment(parent=name, attachment=attachment, attachment_id="a").result(timeout=30)
        assert [found.name for found in client.list_attachments(parent=name)] == [made.name]
        client.delete_attachment(name=made.name).result(timeout=30)
        client.delete_repository(name=name).result(timeout=30)
        assert name not in [found.name for found in client.list_repositories(parent=PROJECT)]
