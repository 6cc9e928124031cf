"""A quota comes near: said in the step that crosses a line, once each time."""

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest

from services.registry.layout import Layout
from services.registry.ledger import Limits
from services.registry.nearing import Nearing, _line
from services.registry.store import Store
from tests.support.registry import NAME, WEB, RegistryClient, artifact, registry

QUOTA = 10_000


def limited(**more: str) -> AbstractAsyncContextManager[RegistryClient]:
    return registry(repository_quota_bytes=str(QUOTA), **more)


def told(oci: RegistryClient) -> list[tuple[str, int, int, int]]:
    found = [event.data for event in oci.parts.announced("quota.near")]
    return [(data.get("repository", ""), data["percent"], data["used"], data["limit"]) for data in found]


async def blob(oci: RegistryClient, size: int, name: str = NAME) -> str:
    return await oci.blob(oci.parts.parts.ids.new().encode()[:16].ljust(size, b"."), name)


async def test_each_line_is_told_once_when_it_is_crossed() -> None:
    async with limited() as oci:
        for size in (7_000, 960, 40, 500, 960, 40, 100):
            await blob(oci, size)
        assert told(oci) == [("web", 80, 8_000, QUOTA), ("web", 95, 9_500, QUOTA)]


async def test_a_manifest_can_be_what_crosses_it_in_the_step_of_its_push() -> None:
    manifest = artifact()
    async with limited() as oci:
        await blob(oci, 8_000 - len(manifest) - 2)
        await oci.blob(b"{}")
        assert told(oci) == []
        for _ in range(2):
            assert (await oci.manifest(manifest, "v1")).status == 201
        assert told(oci) == [("web", 80, 8_000, QUOTA)]
        [near] = oci.parts.announced("quota.near")
        pushed = oci.parts.announced("image.pushed")
        assert near.generation == pushed[0].generation


async def test_over_both_lines_at_once_the_higher_is_told() -> None:
    async with limited() as oci:
        await blob(oci, 9_900)
        assert told(oci) == [("web", 95, 9_900, QUOTA)]


@pytest.mark.parametrize("left", [0, 7_900])
async def test_whoever_crosses_a_line_again_is_told_again(left: int) -> None:
    async with limited() as oci:
        if left:
            await blob(oci, left)
        digest = await blob(oci, 8_500 - left)
        assert (await oci.call("DELETE", f"/v2/{NAME}/blobs/{digest}")).status == 202
        await blob(oci, 8_600 - left)
        assert [line for _, line, _, _ in told(oci)] == [80, 80]


async def test_between_the_lines_nothing_is_told_again_where_bytes_come_and_go() -> None:
    async with limited() as oci:
        await blob(oci, 8_200)
        for _ in range(3):
            digest = await blob(oci, 500)
            assert (await oci.call("DELETE", f"/v2/{NAME}/blobs/{digest}")).status == 202
        assert [line for _, line, _, _ in told(oci)] == [80]


async def test_a_project_has_lines_of_its_own() -> None:
    async with registry(repository_quota_bytes=str(QUOTA), project_quota_bytes="12000") as oci:
        await blob(oci, 6_000)
        await blob(oci, 4_000, "demo/other/app")
        assert told(oci) == [("", 80, 10_000, 12_000)]
        assert oci.parts.announced("quota.near")[0].subject == "quota.near.demo.local._"


async def test_in_a_race_each_line_is_told_once() -> None:
    async with limited() as oci:
        await blob(oci, 100)
        await asyncio.gather(*(blob(oci, 200) for _ in range(49)))
        assert [line for _, line, _, _ in told(oci)] == [80, 95]


async def test_a_replica_that_does_not_know_what_was_said_says_nothing_again() -> None:
    async with limited() as oci:
        await blob(oci, 8_100)
        nearing = Nearing(Store(oci.parts.parts.state, Layout(oci.parts.parts.keys)), "local")
        found = await nearing.of(Limits(QUOTA), "demo", "web", 10, fresh=True)
        assert (found.writes, found.events) == ([], [])


async def test_a_repository_made_anew_begins_below_all_lines() -> None:
    async with limited() as oci:
        await blob(oci, 8_100)
        assert (await oci.call("DELETE", f"/v1/{WEB}")).status == 200
        await blob(oci, 8_200)
        assert [line for _, line, _, _ in told(oci)] == [80, 80]


async def test_without_quotas_nothing_is_near(oci: RegistryClient) -> None:
    await blob(oci, 9_900)
    assert told(oci) == []


@pytest.mark.parametrize(
    ("limit", "used", "line"),
    [(10, 7, 0), (10, 8, 80), (10, 9, 80), (10, 10, 95), (101, 80, 0), (101, 81, 80), (1, 1, 95)],
)
def test_lines_are_reached_by_whole_bytes(limit: int, used: int, line: int) -> None:
    assert _line(limit, used) == line
