"""Clearing dies at any moment, and races pushes at any moment: what was acknowledged can be read all the same."""

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any, cast

import pytest

from services.registry.collecting import Collecting
from services.registry.housekeeping import Housekeeping
from services.registry.store import Store
from shared.names import manifest_object, partition_of
from tests.support.images import Image, descriptor
from tests.support.registry import NAME, RegistryClient, registry, small_image
from tests.unit.registry.test_bytes import collect, counted_anew, counters, house, layout, objects

KEPT, GOING = small_image("stays"), small_image("goes")
REST, MARK = 60.0, 900.0
PARTITION = partition_of("demo")
CALLS = 24
"""More than one turn needs that clears what is due."""


class KilledError(Exception):
    """The process is gone."""


class Watched:
    """A face that asks before each call."""

    def __init__(self, inner: Any, before: Callable[[], Awaitable[None]]) -> None:
        self._inner, self._before = inner, before

    def __getattr__(self, name: str) -> Any:
        found: Any = getattr(self._inner, name)
        if name in {"names", "path"} or not callable(found):
            return found

        async def call(*args: Any, **options: Any) -> Any:
            await self._before()
            return await found(*args, **options)

        return call


def watched(oci: RegistryClient, replica: str, before: Callable[[], Awaitable[None]]) -> Housekeeping:
    """A replica's housekeeping of its own, watched at each call to state and bucket."""
    ours, parts = house(oci), oci.parts.parts
    store = Store(cast("Any", Watched(parts.state, before)), layout())
    collecting: Collecting = replace(
        ours.searching.collecting, store=store, blobs=cast("Any", Watched(parts.blobs, before)), replica=replica
    )
    return replace(ours, searching=replace(ours.searching, collecting=collecting))


async def tried(oci: RegistryClient, image: Image, tag: str) -> bool:
    """One try of a push; whatever is refused is refused for now."""
    for content in image.blobs.values():
        digest = descriptor("", content)["digest"]
        answer = await oci.call("POST", f"/v2/{NAME}/blobs/uploads/?digest={digest}", content)
        assert answer.status in {201, 503}, answer
        if answer.status == 503:
            return False
    answer = await oci.manifest(image.manifest, tag)
    assert answer.status in {201, 503, 404}, answer
    return answer.status == 201


async def readable(oci: RegistryClient, image: Image, tag: str) -> None:
    assert (await oci.call("GET", f"/v2/{NAME}/manifests/{tag}")).content == image.manifest
    assert objects(oci)[manifest_object("demo", image.digest)].content == image.manifest
    for digest, content in image.blobs.items():
        assert (await oci.call("GET", f"/v2/{NAME}/blobs/{digest}")).content == content


async def due_twice(oci: RegistryClient, *, forgotten: bool) -> None:
    """One image that stays and one that may go: from its repository, or `forgotten` there, from the bucket."""
    await oci.push(KEPT, "kept")
    await oci.push(GOING, "going")
    await oci.call("DELETE", f"/v2/{NAME}/manifests/{GOING.digest}")
    await oci.parts.clock.advance(REST + 1)
    if forgotten:
        # A turn forgets before it clears: what it forgets it clears in a later one.
        await house(oci).searching.collecting.once(PARTITION)
        await oci.parts.clock.advance(REST + 1)


async def ends_well(oci: RegistryClient) -> None:
    """It can be pushed in the end, and when it is deleted once more it goes."""
    for _ in range(3):
        if await tried(oci, GOING, "again"):
            break
        await oci.parts.clock.advance(MARK + 1)
    await readable(oci, GOING, "again")
    await readable(oci, KEPT, "kept")
    await oci.parts.clock.advance(MARK + REST)
    for _ in range(3):
        await collect(oci, MARK + 1)
    await readable(oci, GOING, "again")
    await readable(oci, KEPT, "kept")
    assert await counters(oci) == await counted_anew(oci)
    await oci.call("DELETE", f"/v2/{NAME}/manifests/{GOING.digest}")
    for _ in range(4):
        await collect(oci, MARK + REST)
    await readable(oci, KEPT, "kept")
    assert await counters(oci) == await counted_anew(oci)
    assert not [name for name in objects(oci) if GOING.digest[7:] in name]
    only = set(GOING.blobs) - set(KEPT.blobs)
    assert not [name for name in objects(oci) if any(digest[7:] in name for digest in only)]


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("calls", range(CALLS))
async def test_a_collector_that_dies_before_any_call_loses_nothing(calls: int, *, forgotten: bool) -> None:
    left = [calls]

    async def die() -> None:
        left[0] -= 1
        if left[0] < 0:
            raise KilledError

    async with registry(collect_after_seconds=str(int(REST))) as oci:
        await due_twice(oci, forgotten=forgotten)
        dying = watched(oci, "dying", die)
        with suppress(KilledError):
            await dying.searching.collecting.once(PARTITION)
        await ends_well(oci)


@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize("calls", range(CALLS))
async def test_a_push_at_any_moment_of_clearing_is_readable_once_it_is_acknowledged(
    calls: int, *, forgotten: bool
) -> None:
    left, acknowledged = [calls], [False]
    async with registry(collect_after_seconds=str(int(REST))) as oci:
        await due_twice(oci, forgotten=forgotten)

        async def push() -> None:
            left[0] -= 1
            if left[0] == -1:
                acknowledged[0] = await tried(oci, GOING, "raced")

        racing = watched(oci, "racing", push)
        await racing.searching.collecting.once(PARTITION)
        if acknowledged[0]:
            await readable(oci, GOING, "raced")
            for _ in range(3):
                await collect(oci, MARK + 1)
            await readable(oci, GOING, "raced")
        await ends_well(oci)


async def test_a_push_that_stands_still_between_bytes_and_step_is_told_to_come_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with registry(collect_after_seconds=str(int(REST))) as oci:
        await due_twice(oci, forgotten=True)
        blobs = oci.parts.parts.blobs
        put, stood = blobs.put, [0]

        async def stand_still(name: str, *args: Any, **options: Any) -> int:
            size = await put(name, *args, **options)
            stood[0] += 1
            await collect(oci)
            return size

        monkeypatch.setattr(blobs, "put", stand_still)
        assert not await tried(oci, GOING, "slow")
        assert stood[0]
        monkeypatch.setattr(blobs, "put", put)
        await ends_well(oci)
