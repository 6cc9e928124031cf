from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.exits import Failed, Missing, NotAllowed
from cli.transport.addresses import parse_remote
from cli.transport.copying import copy
from cli.transport.credentials import Credentials
from cli.transport.door import Door
from cli.transport.layout import Layout
from cli.transport.registry import RegistryImage
from shared.digest import Digest
from tests.support.layouts import LayoutWriter
from tests.support.small_registry import SmallRegistry, small_registry

FILES = [{"etc/os-release": b"ID=debian\n"}, {"app.py": b"print('hello')\n" * 1000}]


@pytest.fixture
def registry() -> Iterator[SmallRegistry]:
    with small_registry() as started:
        yield started


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "source")


def image(registry: SmallRegistry, name: str, password: str = "right", mount_from: str = "") -> RegistryImage:
    door = Door(registry.host, Credentials("me", password))
    return RegistryImage(door, parse_remote(f"{registry.host}/{name}"), mount_from)


def test_an_image_is_pushed_and_pulled_with_the_same_digest(
    registry: SmallRegistry, layout: LayoutWriter, tmp_path: Path
) -> None:
    both = {platform: layout.image(FILES, platform) for platform in ("linux/amd64", "linux/arm64")}
    digest = layout.name(layout.index(both), "1")

    assert copy(Layout(layout.folder, "1"), image(registry, "demo/web/app:1")) == digest
    assert copy(image(registry, "demo/web/app:1"), Layout(tmp_path / "pulled", "1")) == digest


def test_what_is_there_already_is_not_sent_again(registry: SmallRegistry, layout: LayoutWriter) -> None:
    layout.name(layout.image(FILES), "1")
    copy(Layout(layout.folder, "1"), image(registry, "demo/app:1"))
    before = len(registry.asked)
    copy(Layout(layout.folder, "1"), image(registry, "demo/app:2"))

    assert not [line for line in registry.asked[before:] if line.startswith("POST")]


def test_within_one_registry_blobs_are_mounted(registry: SmallRegistry, layout: LayoutWriter) -> None:
    layout.name(layout.image(FILES), "1")
    copy(Layout(layout.folder, "1"), image(registry, "demo/app:1"))
    before = len(registry.asked)
    copy(image(registry, "demo/app:1"), image(registry, "other/app:1", mount_from="demo/app"))

    assert not [line for line in registry.asked[before:] if line.startswith("PUT") and "uploads" in line]
    assert ("other/app", "1") in registry.manifests


def test_a_mount_that_is_not_made_ends_its_upload_and_sends_the_blob(
    registry: SmallRegistry, layout: LayoutWriter
) -> None:
    digest = layout.name(layout.image(FILES), "1")

    assert copy(Layout(layout.folder, "1"), image(registry, "other/app:1", mount_from="empty/app")) == digest
    assert [line for line in registry.asked if line.startswith("DELETE")]


def test_the_named_manifest_comes_last(registry: SmallRegistry, layout: LayoutWriter) -> None:
    layout.name(layout.index({"linux/amd64": layout.image(FILES)}), "1")
    copy(Layout(layout.folder, "1"), image(registry, "demo/app:1"))

    puts = [line for line in registry.asked if line.startswith("PUT")]
    assert puts[-1] == "PUT /v2/demo/app/manifests/1"
    assert "/manifests/sha256:" in puts[-2]
    assert all("/blobs/" in line for line in puts[:-2])


def test_an_upload_that_breaks_off_is_sent_again(registry: SmallRegistry, layout: LayoutWriter) -> None:
    digest = layout.name(layout.image(FILES), "1")
    registry.failing_uploads = 2

    assert copy(Layout(layout.folder, "1"), image(registry, "demo/app:1")) == digest


def test_a_wrong_password_is_a_matter_of_who_one_is(registry: SmallRegistry, layout: LayoutWriter) -> None:
    layout.name(layout.image(FILES), "1")

    with pytest.raises(NotAllowed, match="gives no token to me"):
        copy(Layout(layout.folder, "1"), image(registry, "demo/app:1", password="wrong"))


def test_a_tag_that_is_not_there_is_missing(registry: SmallRegistry, tmp_path: Path) -> None:
    with pytest.raises(Missing, match=r"demo/app at nowhere: the registry answered 404 NAME_UNKNOWN"):
        copy(image(registry, "demo/app:nowhere"), Layout(tmp_path, "1"))


def test_a_registry_that_gives_other_bytes_is_not_believed(
    registry: SmallRegistry, layout: LayoutWriter, tmp_path: Path
) -> None:
    digest = layout.name(layout.image(FILES), "1")
    copy(Layout(layout.folder, "1"), image(registry, "demo/app:1"))
    key = next(key for key in registry.blobs if key[1] != digest)
    registry.blobs[key] = b"x" * len(registry.blobs[key])

    with pytest.raises(Failed, match="other bytes"):
        copy(image(registry, "demo/app:1"), Layout(tmp_path / "pulled", "1"))


def test_a_manifest_asked_by_digest_is_checked(registry: SmallRegistry) -> None:
    digest = Digest.of(b"{}")
    registry.manifests["demo/app", digest] = ("application/vnd.oci.image.manifest.v1+json", b'{"layers":[]}')

    with pytest.raises(Failed, match="other bytes"):
        image(registry, f"demo/app@{digest}").manifest(None)


def test_nobody_there_is_said_so() -> None:
    door = Door("127.0.0.1:1", None)

    with pytest.raises(Failed, match="does not answer"):
        RegistryImage(door, parse_remote("127.0.0.1:1/app")).manifest(None)
