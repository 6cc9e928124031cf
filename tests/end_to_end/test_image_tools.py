"""skopeo, podman and buildah against a running suite: all that each can do with a registry."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from shared.digest import Digest
from tests.support import unusual
from tests.support.images import image_of, layer_of
from tests.support.layouts import INDEX, LayoutWriter
from tests.support.suite import Suite

pytestmark = pytest.mark.timeout(300)

Run = Callable[..., str]
OCI = "application/vnd.oci.image.manifest.v1+json"
SCHEMA_2 = "application/vnd.docker.distribution.manifest.v2+json"
PLATFORMS = ("linux/amd64", "linux/arm64")


@pytest.fixture
def layout(tmp_path: Path) -> LayoutWriter:
    return LayoutWriter(tmp_path / "layout")


def there(suite: Suite, rest: str) -> str:
    return f"{suite.registry}/demo/{rest}"


def raw(client: Run, name: str) -> str:
    return client("skopeo", "inspect", "--raw", f"docker://{name}")


def tags(client: Run, name: str) -> list[str]:
    return json.loads(client("skopeo", "list-tags", f"docker://{name}"))["Tags"]


# skopeo.


@pytest.mark.parametrize("kind", ["zstd", "artifact", "many"])
def test_skopeo_copies_every_kind_in_between_repositories_and_out_again(
    client: Run, suite: Suite, layout: LayoutWriter, tmp_path: Path, kind: str
) -> None:
    digest = many(layout) if kind == "many" else getattr(unusual, kind)(layout)
    first, second = there(suite, f"skopeo/{kind}:1"), there(suite, f"skopeo2/{kind}:1")
    client("skopeo", "copy", "--all", f"oci:{layout.folder}:{kind}", f"docker://{first}")
    client("skopeo", "copy", "--all", f"docker://{first}", f"docker://{second}")
    client("skopeo", "copy", "--all", f"docker://{second}", f"dir:{tmp_path}/back")

    assert Digest.of((tmp_path / "back" / "manifest.json").read_bytes()) == digest
    assert raw(client, second) == raw(client, first.replace(":1", f"@{digest}"))


def test_skopeo_fetches_layers_that_lie_elsewhere_from_there(
    client: Run, suite: Suite, layout: LayoutWriter, tmp_path: Path
) -> None:
    name = there(suite, "skopeo/foreign:1")
    with unusual.served_elsewhere() as elsewhere:
        digest = unusual.foreign(layout, elsewhere)
        client("skopeo", "copy", f"oci:{layout.folder}:foreign", f"docker://{name}")
        assert not elsewhere.asked
        client("skopeo", "copy", f"docker://{name}", f"dir:{tmp_path}/back")
        assert elsewhere.asked
    assert Digest.of(raw(client, name).encode()) == digest


def many(layout: LayoutWriter) -> Digest:
    """An index of two platforms, in the layout under the name `many`."""
    images = {platform: layout.image([{"etc/platform": platform.encode()}], platform) for platform in PLATFORMS}
    return layout.name(layout.index(images), "many")


def test_skopeo_takes_a_nested_index_alone_when_what_it_lists_is_there(
    client: Run, suite: Suite, layout: LayoutWriter
) -> None:
    name = there(suite, "skopeo/nested")
    outer = unusual.nested(layout)
    alone = ("skopeo", "copy", "--multi-arch", "index-only", f"oci:{layout.folder}:nested", f"docker://{name}:outer")
    assert "manifest blob unknown" in client(*alone, fails=True)

    inner = json.loads((layout.folder / "blobs" / "sha256" / outer.hex).read_bytes())["manifests"][0]
    layout.name(inner, "inner")
    client("skopeo", "copy", "--all", f"oci:{layout.folder}:inner", f"docker://{name}:inner")
    client(*alone)
    assert Digest.of(raw(client, f"{name}:outer").encode()) == outer


def test_skopeo_inspects_lists_and_deletes(client: Run, suite: Suite, layout: LayoutWriter) -> None:
    name = there(suite, "skopeo/deleted")
    for tag in ("1", "2"):
        digest = layout.name(layout.image([{"tag": tag.encode()}]), tag)
        client("skopeo", "copy", f"oci:{layout.folder}:{tag}", f"docker://{name}:{tag}")
    seen = json.loads(client("skopeo", "inspect", f"docker://{name}:2"))
    assert (seen["Digest"], seen["RepoTags"], seen["Architecture"]) == (digest, ["1", "2"], "amd64")

    client("skopeo", "delete", f"docker://{name}:2")
    assert tags(client, name) == ["1"]
    assert "manifest unknown" in client("skopeo", "inspect", f"docker://{name}:2", fails=True)


def test_schema_2_and_oci_manifests_of_one_image_live_side_by_side(
    client: Run, suite: Suite, layout: LayoutWriter
) -> None:
    name = there(suite, "skopeo/formats")
    layout.name(layout.image([{"etc/motd": b"both"}]), "1")
    for form in ("v2s2", "oci"):
        client("skopeo", "copy", "--format", form, f"oci:{layout.folder}:1", f"docker://{name}:{form}")
    kinds = {tag: json.loads(raw(client, f"{name}:{tag}"))["mediaType"] for tag in tags(client, name)}
    assert kinds == {"oci": OCI, "v2s2": SCHEMA_2}


def test_skopeo_is_told_what_to_do_instead_of_schema_1(client: Run, suite: Suite, layout: LayoutWriter) -> None:
    name = there(suite, "skopeo/old")
    layout.name(layout.add(image_of([layer_of({"etc/motd": b"old"})], history=[{"created_by": "COPY motd"}])), "1")
    client("skopeo", "copy", "--format", "v2s2", f"oci:{layout.folder}:1", f"docker://{name}:2")
    said = client("skopeo", "copy", "--format", "v2s1", f"docker://{name}:2", f"docker://{name}:1", fails=True)
    assert "schema 1, which is no longer taken; push it with" in said
    assert tags(client, name) == ["2"]


def test_who_overwrites_an_immutable_tag_is_told_which_rule_refuses_it(
    client: Run, suite: Suite, layout: LayoutWriter
) -> None:
    name = there(suite, "lasting/app:1")
    for number in ("1", "2"):
        layout.name(layout.image([{"etc/motd": number.encode()}]), number)
    client("skopeo", "copy", f"oci:{layout.folder}:1", f"docker://{name}")
    repository = "v1/projects/demo/locations/local/repositories/lasting"
    suite.call("registry", repository, {"dockerConfig": {"immutableTags": True}}, "PATCH")
    client("skopeo", "copy", f"oci:{layout.folder}:1", f"docker://{name}")
    said = client("skopeo", "copy", f"oci:{layout.folder}:2", f"docker://{name}", fails=True)
    assert "denied: the tag 1 of" in said
    assert "dockerConfig.immutableTags of the repository refuses to overwrite it" in said
    said = client("skopeo", "delete", f"docker://{name}", fails=True)
    assert "dockerConfig.immutableTags of the repository refuses to delete it" in said


# podman.


def test_podman_pulls_every_platform_of_an_index_by_tag_and_digest(
    client: Run, suite: Suite, layout: LayoutWriter, store: tuple[str, ...]
) -> None:
    digest = many(layout)
    name = there(suite, "podman/many")
    suite.entrepot("copy", f"oci:{layout.folder}:many", f"docker://{name}:1")
    for platform in PLATFORMS:
        for reference in (f"{name}:1", f"{name}@{digest}"):
            image = client("podman", *store, "pull", "--quiet", "--platform", platform, reference).strip()
            form = "{{.Os}}/{{.Architecture}}"
            assert client("podman", *store, "image", "inspect", "--format", form, image).strip() == platform


def test_podman_pushes_zstd_layers_and_pulls_them(
    client: Run, suite: Suite, layout: LayoutWriter, store: tuple[str, ...]
) -> None:
    name = there(suite, "podman/zstd:1")
    layout.name(layout.image([{"etc/motd": b"of zstd" * 1000}]), "1")
    image = client("podman", *store, "pull", "--quiet", f"oci:{layout.folder}:1").strip()
    client("podman", *store, "push", "--compression-format", "zstd", "--format", "oci", image, f"docker://{name}")
    assert [layer["mediaType"] for layer in json.loads(raw(client, name))["layers"]] == [unusual.ZSTD]
    client("podman", *store, "rmi", "--all", "--force")
    assert client("podman", *store, "pull", "--quiet", name).strip() == image


def test_podman_finds_images_and_their_tags(
    client: Run, suite: Suite, layout: LayoutWriter, store: tuple[str, ...]
) -> None:
    name = there(suite, "podman/found")
    layout.name(layout.image([{"etc/motd": b"found"}]), "1")
    for tag in ("1", "2"):
        suite.entrepot("copy", f"oci:{layout.folder}:1", f"docker://{name}:{tag}")
    listed = client("podman", *store, "search", "--list-tags", name).splitlines()[1:]
    assert [line.split() for line in listed] == [[name, "1"], [name, "2"]]
    assert name in client("podman", *store, "search", "--format", "{{.Name}}", f"{suite.registry}/found")


@pytest.mark.parametrize("tool", ["podman", "buildah"])
def test_podman_and_buildah_log_in_and_out_and_no_wrong_password_does(
    client: Run, suite: Suite, tmp_path: Path, store: tuple[str, ...], tool: str
) -> None:
    file = f"--authfile={tmp_path}/auth.json"
    login = (tool, *store, "login", "--username", "_json_key", "--password-stdin", file, suite.registry)
    assert "Login Succeeded" in client(*login, given=suite.admin_key.read_text())
    assert suite.registry in (tmp_path / "auth.json").read_text()
    client(tool, *store, "logout", file, suite.registry)
    assert suite.registry not in (tmp_path / "auth.json").read_text()
    assert "invalid username/password" in client(*login, given="wrong", fails=True)


# buildah.


def test_buildah_builds_pushes_in_both_formats_and_pulls(
    client: Run, suite: Suite, tmp_path: Path, store: tuple[str, ...]
) -> None:
    name = there(suite, "buildah/app")
    (tmp_path / "motd").write_text("built")
    container = client("buildah", *store, "from", "scratch").strip()
    client("buildah", *store, "copy", container, str(tmp_path / "motd"), "/etc/motd")
    image = client("buildah", *store, "commit", "--rm", container, f"{name}:1").strip()
    for form, kind in (("oci", OCI), ("docker", SCHEMA_2)):
        file = tmp_path / form
        client("buildah", *store, "push", "--format", form, "--digestfile", str(file), image, f"docker://{name}:{form}")
        pushed = raw(client, f"{name}:{form}")
        assert (Digest.of(pushed.encode()), json.loads(pushed)["mediaType"]) == (file.read_text(), kind)
    client("buildah", *store, "rmi", "--all", "--force")
    assert client("buildah", *store, "pull", "--quiet", f"{name}:oci").strip() == image


def test_buildah_makes_an_index_and_pushes_it_with_all_it_lists(
    client: Run, suite: Suite, layout: LayoutWriter, store: tuple[str, ...]
) -> None:
    name = there(suite, "buildah/many")
    for number, platform in enumerate(PLATFORMS):
        layout.name(layout.image([{"etc/platform": platform.encode()}], platform), f"{number}")
        suite.entrepot("copy", f"oci:{layout.folder}:{number}", f"docker://{there(suite, 'buildah/one')}:{number}")
    client("buildah", *store, "manifest", "create", "many")
    for number in range(len(PLATFORMS)):
        client("buildah", *store, "manifest", "add", "many", f"docker://{there(suite, 'buildah/one')}:{number}")
    client("buildah", *store, "manifest", "push", "--all", "many", f"docker://{name}:1")
    seen = json.loads(raw(client, f"{name}:1"))
    assert seen["mediaType"] == INDEX
    assert {f"{each['platform']['os']}/{each['platform']['architecture']}" for each in seen["manifests"]} == set(
        PLATFORMS
    )
