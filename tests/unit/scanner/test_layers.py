"""From a layer's archive to its facts, and from several layers' facts to an image's packages."""

import io
import tarfile
from collections.abc import Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.scanner.inventory import distribution, dpkg, npm, pypi
from services.scanner.inventory.image import Installed, Inventory, inventory_of
from services.scanner.inventory.package import NotReadable
from services.scanner.layers.analysis import LayerAnalysis
from services.scanner.layers.facts import LayerFacts
from services.scanner.layers.limits import LayerRefused, Limits
from tests.support.images import layer_of
from tests.support.scans import DEBIAN_12, dpkg_status, metadata

SITE = "usr/lib/python3/dist-packages"


def facts(files: Mapping[str, bytes], limits: Limits | None = None) -> LayerFacts:
    analysis = LayerAnalysis(limits or Limits())
    analysis.feed(layer_of(files))
    return analysis.end()


def laid(*layers: Mapping[str, bytes]) -> Inventory:
    return inventory_of([(f"layer {number}", facts(files)) for number, files in enumerate(layers)])


def names(inventory: Inventory) -> dict[str, str]:
    return {installed.package.name: installed.package.version for installed in inventory.installed}


def only(inventory: Inventory) -> Installed:
    (installed,) = inventory.installed
    return installed


# One layer.


def test_debian_python_and_node_packages_are_found_where_they_are_installed() -> None:
    inventory = laid(
        {
            "./etc/os-release": DEBIAN_12,
            "/var/lib/dpkg/status": dpkg_status(("libssl3", "3.0.11-1", "openssl")),
            "opt/venv/lib/python3.11/site-packages/Jinja2-2.10.dist-info/METADATA": metadata("Jinja2", "2.10"),
            f"{SITE}/six-1.16.0.egg-info": metadata("six", "1.16.0"),
            f"{SITE}/old_name.egg-info/PKG-INFO": metadata("old_name", "1"),
            "app/node_modules/@babel/core/package.json": b'{"name": "@babel/core", "version": "7.0.0"}',
            "app/package.json": b'{"name": "shop", "version": "1.2.3"}',
            "app/node_modules/x/lib/package.json": b'{"name": "inner", "version": "9"}',
            "usr/share/doc/METADATA": metadata("no", "1"),
        }
    )
    assert names(inventory) == {
        "libssl3": "3.0.11-1",
        "jinja2": "2.10",
        "six": "1.16.0",
        "old-name": "1",
        "@babel/core": "7.0.0",
        "shop": "1.2.3",
    }
    assert inventory.distribution.ecosystem == "Debian:12"


def test_distroless_images_have_a_status_file_for_each_package() -> None:
    inventory = laid(
        {
            "var/lib/dpkg/status.d/base": b"Package: base-files\nVersion: 12.4\n",
            "var/lib/dpkg/status.d/base.md5sums": b"d41d8cd98f00b204e9800998ecf8427e  usr/lib/x\n",
        }
    )
    assert names(inventory) == {"base-files": "12.4"}


def test_a_python_package_that_dpkg_owns_is_marked() -> None:
    inventory = laid(
        {
            "var/lib/dpkg/info/python3-six.list": f"/.\n/{SITE}\n/{SITE}/six-1.16.0.egg-info\n".encode(),
            "var/lib/dpkg/info/node-x.list": b"/lib/node_modules/x/package.json\n",
            f"{SITE}/six-1.16.0.egg-info": metadata("six", "1.16.0"),
            "usr/lib/node_modules/x/package.json": b'{"name": "x", "version": "1.0.0"}',
            "usr/local/lib/python3.11/site-packages/six-1.15.0.dist-info/METADATA": metadata("six", "1.15.0"),
        }
    )
    assert {one.package.version: one.owned for one in inventory.installed} == {
        "1.16.0": True, "1.0.0": True, "1.15.0": False,
    }  # fmt: skip


def test_a_hard_link_to_metadata_has_its_packages() -> None:
    plain = io.BytesIO()
    with tarfile.open(fileobj=plain, mode="w") as archive:
        content = metadata("flask", "1.0")
        member = tarfile.TarInfo("cache/flask-1.0.dist-info/METADATA")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
        link = tarfile.TarInfo("app/flask-1.0.dist-info/METADATA")
        link.type, link.linkname = tarfile.LNKTYPE, "cache/flask-1.0.dist-info/METADATA"
        archive.addfile(link)
    analysis = LayerAnalysis(Limits())
    analysis.feed(plain.getvalue())
    assert {path: found[0].name for path, found in analysis.end().files.items()} == {
        "cache/flask-1.0.dist-info/METADATA": "flask",
        "app/flask-1.0.dist-info/METADATA": "flask",
    }


def test_files_that_do_not_say_what_they_should_are_counted_and_stop_nothing() -> None:
    found = facts(
        {
            "a/x.dist-info/METADATA": b"\xff\xfe nothing",
            "node_modules/x/package.json": b"[1, 2",
            "node_modules/y/package.json": b'{"name": {}, "version": 1}',
            "var/lib/dpkg/status": b"Package: x\nVersion: \n\nPackage: good\nVersion: 1\n",
        }
    )
    assert found.unreadable == 4
    assert [package.name for package in found.files["var/lib/dpkg/status"]] == ["good"]


@pytest.mark.parametrize("path", ["../x", "a/../../x", "/../etc/passwd", "./../x", "a/b/../../../package.json"])
def test_a_path_that_leads_out_of_the_image_is_refused(path: str) -> None:
    with pytest.raises(LayerRefused, match="out of the image"):
        facts({path: b"x"})


def test_a_path_that_stays_inside_is_taken_as_it_is_meant() -> None:
    assert set(facts({"a/../etc/./os-release": DEBIAN_12}).distributions) == {"etc/os-release"}


def test_a_layer_that_says_too_much_is_refused() -> None:
    packages = {f"node_modules/p{i}/package.json": b'{"name":"p","version":"1.0.0"}' for i in range(20)}
    with pytest.raises(LayerRefused, match="more than 10 things"):
        facts(packages, Limits(facts=10))


def test_long_paths_weigh_more_than_short_ones() -> None:
    whiteouts = {f"{'d' * 900}/.wh.{number}": b"" for number in range(10)}
    with pytest.raises(LayerRefused, match="more than 100 things"):
        facts(whiteouts, Limits(facts=100))
    assert facts({f"d/.wh.{number}": b"" for number in range(10)}, Limits(facts=100)).remembered == 10


def test_a_status_file_is_not_read_further_than_the_limit() -> None:
    with pytest.raises(LayerRefused, match="more than 10 things"):
        facts({"var/lib/dpkg/status": dpkg_status(*(("p", "1", ""),) * 20)}, Limits(facts=10))


def test_a_description_of_one_package_that_is_a_bomb_is_not_parsed() -> None:
    bomb = b'{"name": "a", "version": "1", "x": [' + b"[]," * 100_000 + b"[]]}"
    found = facts({"node_modules/x/package.json": bomb}, Limits(description=100_000))
    assert found.unreadable == 1
    assert found.files == {"node_modules/x/package.json": ()}


def test_a_line_of_spaces_in_metadata_costs_its_length_and_not_the_square_of_it() -> None:
    line = b"Name: x" + b" " * 1_000_000 + b"y\n"  # the square of which would be hours
    with pytest.raises(NotReadable):
        pypi.package(line + b"Version: 1\n")
    assert pypi.package(b"Name:  x \t\r\nName: y\r\nVersion:\r\nVersion: 1 \r\n\r\n").version == "1"


def test_facts_are_read_as_they_were_written() -> None:
    found = facts({"etc/os-release": DEBIAN_12, "a/.wh.b": b"", "a/x.dist-info/METADATA": metadata("x", "1")})
    assert LayerFacts.read(found.written()) == found


# Layers over each other.


def test_the_status_file_of_the_highest_layer_counts_and_the_first_layer_with_a_package_is_named() -> None:
    inventory = laid(
        {"var/lib/dpkg/status": dpkg_status(("a", "1", ""), ("b", "1", ""))},
        {"var/lib/dpkg/status": dpkg_status(("a", "1", ""), ("c", "1", ""))},
    )
    assert {one.package.name: one.layer for one in inventory.installed} == {"a": "layer 0", "c": "layer 1"}


def test_a_whiteout_hides_a_file_or_a_whole_folder_of_the_layers_below() -> None:
    lower = {f"site/{name}-1.dist-info/METADATA": metadata(name, "1") for name in ("a", "b")}
    assert names(laid(lower, {"site/a-1.dist-info/.wh.METADATA": b""})) == {"b": "1"}
    assert names(laid(lower, {"site/.wh.a-1.dist-info": b""})) == {"b": "1"}
    assert names(laid(lower, {".wh.site": b""})) == {}


def test_an_opaque_folder_hides_what_is_below_it_and_not_what_its_own_layer_brings() -> None:
    lower = {"site/a-1.dist-info/METADATA": metadata("a", "1"), "other/c-1.dist-info/METADATA": metadata("c", "1")}
    upper = {"site/.wh..wh..opq": b"", "site/b-1.dist-info/METADATA": metadata("b", "1")}
    assert names(laid(lower, upper)) == {"b": "1", "c": "1"}


def test_a_file_comes_back_after_a_whiteout_in_a_higher_layer() -> None:
    file = {"site/a-1.dist-info/METADATA": metadata("a", "1")}
    assert only(laid(file, {"site/.wh.a-1.dist-info": b""}, file)).layer_index == 0


def test_etc_os_release_counts_before_the_one_in_usr() -> None:
    inventory = laid({"usr/lib/os-release": b"ID=other\nVERSION_ID=1\n"}, {"etc/os-release": DEBIAN_12})
    assert inventory.distribution.id == "debian"


def test_an_inventory_is_read_as_it_was_written() -> None:
    inventory = laid({"etc/os-release": DEBIAN_12, "a/x.dist-info/METADATA": metadata("x", "1")})
    assert Inventory.read(inventory.written()) == inventory


# The parsers.


def test_the_source_of_a_debian_package_may_have_a_version_of_its_own() -> None:
    content = dpkg_status(("a", "1+b1", "src (1)"), ("b", "2", "src2"), ("c", "3", ""))
    found = [package for package in dpkg.packages(content) if package]
    assert [(one.source, one.source_version) for one in found] == [("src", "1"), ("src2", "2"), ("c", "3")]


def test_a_removed_debian_package_is_not_installed() -> None:
    content = b"Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n"
    assert list(dpkg.packages(content)) == []


@given(st.binary(max_size=300))
def test_any_bytes_are_packages_or_not_readable(noise: bytes) -> None:
    list(dpkg.packages(b"Package: " + noise))
    list(dpkg.owned_language_files(noise))
    distribution.distribution(b"ID=" + noise)
    for parser in (pypi.package, npm.package):
        for start in (b"", b"Name: ", b'{"name": "a", "version": "'):
            try:
                assert parser(start + noise).name
            except NotReadable:
                continue


@given(st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,10}", fullmatch=True))
def test_a_python_name_is_normalised_once_and_for_all(name: str) -> None:
    once = pypi.normalised(name)
    assert once == pypi.normalised(once)
    assert "_" not in once


@pytest.mark.parametrize(
    ("content", "ecosystem"),
    [
        (DEBIAN_12, "Debian:12"),
        (b"ID=debian\n", ""),
        (b"ID=ubuntu\nVERSION_ID='22.04'\n", "Ubuntu:22.04"),
        (b"ID=alpine\nVERSION_ID=3.19.1\n", ""),
        (b"", ""),
    ],
)
def test_os_release_names_the_ecosystem(content: bytes, ecosystem: str) -> None:
    assert distribution.distribution(content).ecosystem == ecosystem
