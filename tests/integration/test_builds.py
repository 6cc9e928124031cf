"""Whole builds in a real container runtime, with images from a registry on loopback."""

import asyncio
import io
import os
import tarfile
import time
from collections.abc import AsyncGenerator
from pathlib import Path

import orjson
import pytest

from shared.bus.memory import MemoryBus
from shared.clock import SystemClock
from shared.events.builds import BuildFinished, BuildStarted, BuildStepFinished
from tests.support.parts import bearer
from tests.support.workbench import ADA, BUSYBOX_IMAGE, NEEDED, Workbench, busybox, opened

pytestmark = NEEDED


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncGenerator[Workbench, None]:
    async with opened(tmp_path / "work", {BUSYBOX_IMAGE: busybox()}) as made:
        yield made


async def test_steps_share_the_workspace_and_see_their_image(bench: Workbench) -> None:
    build_made = await bench.run(
        steps=[
            {"name": bench.image, "args": ["echo made > made; ls /etc; cat /etc/added; echo; env"], "env": ["MINE=2"]},
            {"name": bench.image, "args": ["cat made; id"], "dir": ""},
        ]
    )
    said = await bench.log(build_made["id"])
    assert build_made["status"] == "SUCCESS", said
    assert "Step #0: kept" in said
    assert "gone" not in said
    assert "Step #0: new" in said
    assert "FROM_IMAGE=1" in said
    assert "MINE=2" in said
    assert "Step #1: made" in said
    assert build_made["results"]["buildStepImages"][0].startswith("sha256:")
    assert build_made["steps"][1]["status"] == "SUCCESS"


async def test_a_failing_step_ends_the_build_and_names_itself(bench: Workbench) -> None:
    build_made = await bench.run(
        steps=[{"name": bench.image, "id": "bad", "args": ["exit 7"]}, {"name": bench.image, "args": ["echo never"]}]
    )
    assert build_made["status"] == "FAILURE"
    assert "'bad'" in build_made["statusDetail"]
    assert build_made["steps"][0]["exitCode"] == 7
    assert build_made["steps"][1]["status"] == "QUEUED"
    assert "never" not in (await bench.log(build_made["id"])).replace("echo never", "")


async def test_a_failure_that_is_allowed_does_not_end_the_build(bench: Workbench) -> None:
    build_made = await bench.run(
        steps=[
            {"name": bench.image, "args": ["exit 3"], "allowExitCodes": [3]},
            {"name": bench.image, "args": ["exit 4"], "allowFailure": True},
        ]
    )
    assert build_made["status"] == "SUCCESS"


async def test_a_script_runs_with_its_first_failure_as_its_end(bench: Workbench) -> None:
    build_made = await bench.run(steps=[{"name": bench.image, "script": "echo one\nfalse\necho two\n"}])
    said = await bench.log(build_made["id"])
    assert build_made["status"] == "FAILURE"
    assert "Step #0: one" in said
    assert "Step #0: two" not in said


async def test_a_step_that_takes_too_long_is_ended(bench: Workbench) -> None:
    begun = time.monotonic()
    build_made = await bench.run(steps=[{"name": bench.image, "args": ["sleep 300"], "timeout": "1s"}])
    assert build_made["status"] == "TIMEOUT"
    assert time.monotonic() - begun < 30


async def test_a_cancelled_build_stops_and_leaves_no_process(bench: Workbench) -> None:
    begun = await bench.submit(steps=[{"name": bench.image, "args": ["echo here; sleep 31536"]}])
    until = time.monotonic() + 30
    while "here" not in (await bench.log(begun["id"])).replace("echo here", ""):
        assert time.monotonic() < until
        await asyncio.sleep(0.05)
    answer = await bench.client.post(f"/v1/projects/demo/builds/{begun['id']}:cancel", json={}, headers=bearer(ADA))
    assert (await answer.json())["status"] == "CANCELLED"
    while _running("31536"):
        assert time.monotonic() < until
        await asyncio.sleep(0.1)


async def test_a_step_can_neither_mount_nor_see_the_worker(bench: Workbench) -> None:
    build_made = await bench.run(
        steps=[
            {
                "name": bench.image,
                "args": ["ps | wc -l 2>/dev/null; mount -t tmpfs none /etc && echo mounted; ls /; true"],
            }
        ]
    )
    said = await bench.log(build_made["id"])
    assert "Step #0: mounted" not in said
    assert "Step #0: root" not in said
    assert "Operation not permitted" in said or "permission denied" in said


async def test_a_step_makes_neither_devices_nor_a_user_namespace_of_its_own(bench: Workbench) -> None:
    tries = "mknod /d b 7 0; echo mknod $?; unshare -U true; echo unshare $?"
    build_made = await bench.run(steps=[{"name": bench.image, "args": [f"{tries}; true"]}])
    said = await bench.log(build_made["id"])
    assert "Step #0: mknod 1" in said
    assert "Step #0: unshare 1" in said


async def test_the_source_is_the_workspace(bench: Workbench) -> None:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        member = tarfile.TarInfo("./src/hello.txt")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"hello"))
    answer = await bench.client.post("/v1/projects/demo/sources", data=packed.getvalue(), headers=bearer(ADA))
    source = await answer.json()
    build_made = await bench.run(source=source, steps=[{"name": bench.image, "args": ["cat src/hello.txt"]}])
    assert "Step #0: hello" in await bench.log(build_made["id"])
    provenance = orjson.loads(
        await bench.made.parts.blobs.content(f"builder/provenance/demo/{build_made['id']}/1.json")
    )
    uris = [found["uri"] for found in provenance["predicate"]["buildDefinition"]["resolvedDependencies"]]
    assert uris[0] == source["storageSource"]["object"]


async def test_an_image_that_is_not_there_fails_the_build_in_words(bench: Workbench) -> None:
    build_made = await bench.run(steps=[{"name": bench.image.replace("busybox:1", "nothing:1")}])
    assert build_made["status"] == "FAILURE"
    assert "404" in build_made["statusDetail"]


async def test_what_happened_is_said_in_order(bench: Workbench) -> None:
    said: list[str] = []
    bus = MemoryBus("watcher", SystemClock(), bench.made.broker)
    bus.view([BuildStarted, BuildStepFinished, BuildFinished], lambda heard: said.append(heard.event.topic))
    await bus.start()
    await bench.run(steps=[{"name": bench.image, "args": ["true"]}])
    until = time.monotonic() + 10
    while len(said) < 3:
        assert time.monotonic() < until, said
        await asyncio.sleep(0.05)
    await bus.stop()
    assert said == ["build.started", "build.step.finished", "build.finished"]


def _running(needle: str) -> list[str]:
    found: list[str] = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            text = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if needle in text and str(os.getpid()) not in str(process):
            found.append(text)
    return found
