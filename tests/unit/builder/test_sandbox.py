"""Ids, control groups and the budget of step images."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest
from aiohttp import ClientTimeout
from aiohttp.test_utils import TestServer

from services.builder.errors import ImageUnavailable, NoRuntime
from services.builder.images import Budget, ImageStore
from services.builder.reach import Reach
from services.builder.references import Reference, parse_reference
from services.builder.registry import RegistryClient
from services.builder.sandbox import Limits, Users
from services.builder.sandbox.cgroups import FOLDER, Cgroups
from services.builder.sandbox.users import DEFAULT, Range, range_of
from services.builder.settings import Settings
from services.builder.web import Web
from services.builder.workshop import limits_of
from shared.clock import SystemIds
from tests.support.images import ReadOnlyRegistry, image_of, layer_of
from tests.support.workbench import NEEDED


@pytest.mark.parametrize("text", ["", "1", "0:65536", "100:65536", "100000:10", "100000:x", "4294930000:65536", "-1:6"])
def test_a_range_of_ids_is_high_and_whole(text: str, tmp_path: Path) -> None:
    if not text:
        assert range_of(text, tmp_path / "none") == DEFAULT
        return
    with pytest.raises(NoRuntime, match="ENTREPOT_BUILDER_IDS"):
        range_of(text, tmp_path / "none")


def test_the_range_is_that_of_the_account_where_it_has_one(tmp_path: Path) -> None:
    (tmp_path / "subuid").write_text("bob:100000:65536\nentrepot:300000:70000\n")
    assert range_of("", tmp_path / "subuid") == Range(300_000, 70_000)
    assert range_of("500000:65536", tmp_path / "subuid") == Range(500_000, 65_536)


def test_where_no_user_namespace_can_be_made_the_builder_says_who_must_allow_it() -> None:
    program = (
        "import asyncio\nfrom services.builder.errors import NoRuntime\n"
        "from services.builder.sandbox import Users\n"
        "try:\n    asyncio.run(Users.open())\nexcept NoRuntime as said:\n    print(said)\n"
    )
    forbid = 'echo 0 >/proc/sys/user/max_user_namespaces && exec "$@"'
    ran = subprocess.run(
        ["unshare", "--user", "--map-root-user", "sh", "-c", forbid, "sh", sys.executable, "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    if not ran.stdout:
        pytest.skip(f"no user namespace to try it in: {ran.stderr[-200:]}")
    assert "no user namespace can be made here" in ran.stdout
    assert "user.max_user_namespaces" in ran.stdout


def test_groups_of_the_unified_hierarchy_are_told_their_limits(tmp_path: Path) -> None:
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids")
    (made,) = Cgroups.open("w", tmp_path).make("step", Limits(1 << 20, 7, 1.5))
    assert made == tmp_path / FOLDER / "w" / "step"
    assert (tmp_path / FOLDER / "cgroup.subtree_control").read_text() == "+memory +pids +cpu"
    told = {file.name: file.read_text() for file in made.iterdir()}
    assert told["memory.max"] == str(1 << 20)
    assert told["memory.swap.max"] == "0"
    assert told["pids.max"] == "7"
    assert told["cpu.max"] == "150000 100000"


def test_without_control_groups_a_limit_that_is_wanted_is_refused_and_none_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cgroups = Cgroups.open("w", tmp_path / "file")
    assert "no limits" in cgroups.refusal
    assert cgroups.make("step", Limits()) == ()
    assert limits_of(Settings(), cgroups).memory > 0
    with pytest.raises(NoRuntime, match="limit"):
        limits_of(Settings(memory=1 << 30), cgroups)


async def _kept(store: ImageStore, folder: Path, references: list[Reference]) -> list[int]:
    """Uses images in this order; how many are there after each."""
    counts: list[int] = []
    for reference in references:
        async with store.use(reference, "demo") as image:
            assert image.root.is_dir()
        counts.append(len(await asyncio.to_thread(os.listdir, folder)))
    return counts


@NEEDED[0]
@pytest.mark.parametrize(("budget", "most"), [(Budget(count=2), 2), (Budget(size=0), 1), (Budget(), 3)])
async def test_images_not_used_for_long_make_room(budget: Budget, most: int, tmp_path: Path) -> None:
    images = {("demo/i", str(n)): image_of([layer_of({"file": b"%d" % n})]) for n in range(3)}
    registry = ReadOnlyRegistry(dict(images))
    async with TestServer(registry.app(), host="127.0.0.1") as server:
        host = f"127.0.0.1:{server.make_url('/').port}"
        web = Web.open(Reach(), ClientTimeout(total=20))
        users = await Users.open()
        folder = tmp_path / "images"
        folder.mkdir()
        store = ImageStore(folder, RegistryClient(web, host, None), SystemIds(), users, budget)
        references = [parse_reference(f"{host}/demo/i:{n}") for n in range(3)]
        counts = await _kept(store, folder, [references[n] for n in (0, 1, 0, 2)])
        assert max(counts) == most
        before = len(registry.asked)
        async with store.use(references[2], "demo") as held:
            await _kept(store, folder, references[:2])
            assert held.root.is_dir(), "what is in use stays"
        pulled_again = any(asked.startswith("sha256:") for asked in registry.asked[before:])
        assert pulled_again == (most < 3)
        with pytest.raises(ImageUnavailable):
            await _kept(store, folder, [parse_reference(f"{host}/demo/i:9")])
        assert not store.in_use
        users.close()
        await web.close()
