"""What the state forgot comes back from the bucket and from what was said."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, cast

import pytest

from services.registry.app import build
from services.registry.counting import Counting
from services.registry.layout import Layout
from services.registry.ledger import Ledger
from services.registry.rebuilding.rebuild import Refused
from services.registry.store import Store
from shared.events import Envelope
from shared.names import blob_object, manifest_object
from shared.state import Done, State, Step
from tests.support.parts import client_of
from tests.support.rebuilding import (
    differences,
    flush,
    memory_dump,
    memory_history,
    publish,
    rebuilding,
    taking,
)
from tests.support.registry import RegistryClient
from tests.support.varied import digest_of, first_stroke, image, parts_of_two_projects, referrer, second_stroke

COUNTED_ANEW: dict[str, frozenset[str]] = dict.fromkeys(("counted", "sizes", "due", "manifestuses"), frozenset({"*"}))
"""Worked out from the records when the registry runs."""
WITH_SNAPSHOT = COUNTED_ANEW | {
    # Only a repository that was made behind the snapshot: which life it is, is told by nothing.
    "repository": frozenset({"open"}),
    # Storing a blob counts on its repository's generation, and is said to nobody but the audit log.
    "generations": frozenset({"acme/fresh", "demo/web", "acme/brief", "acme/kept"}),
    # Of the audit log's entries some are not in the log yet, as there is none here; see the trail's own tests.
    "sequences": frozenset({"audit.activity|demo", "audit.activity|acme", "audit.system|demo"}),
}
WITHOUT = WITH_SNAPSHOT | {
    # Words of owners are said to nobody but the audit log.
    "version": frozenset({"annotations"}),
    "image": frozenset({"annotations"}),
}


COUNTING = {"counted": frozenset[str](), "manifestuses": frozenset[str](), "sizes": frozenset[str]()}


@pytest.fixture
async def oci() -> AsyncGenerator[RegistryClient]:
    made = parts_of_two_projects()
    service = build(made.parts)
    async with client_of(service, made.parts) as client:
        yield RegistryClient(client, made, service=service)


async def test_with_a_snapshot_all_records_come_back(oci: RegistryClient) -> None:
    parts = oci.parts.parts
    await first_stroke(oci)
    await referrer(oci)
    whole = await taking(parts).take_if_due()
    assert whole is not None
    await oci.parts.clock.advance(100)
    await second_stroke(oci)
    await oci.parts.clock.advance(100)
    await referrer(oci, "app 9", "attach again")
    await publish(parts)
    before = memory_dump(oci.parts.store)
    flush(oci.parts.store)
    report = await rebuilding(parts, memory_history(oci.parts)).run()
    found = differences(before, memory_dump(oci.parts.store), may=WITH_SNAPSHOT)
    assert not found, "\n".join(found)
    assert report.whole
    assert report.snapshot == whole.id
    assert report.versions == sum(len(found) for key, found in before.items() if ":versions:" in key)


async def test_without_a_snapshot_all_that_was_said_comes_back(oci: RegistryClient) -> None:
    await _live(oci)
    before = memory_dump(oci.parts.store)
    flush(oci.parts.store)
    report = await rebuilding(oci.parts.parts, memory_history(oci.parts)).run()
    found = differences(before, memory_dump(oci.parts.store), may=WITHOUT)
    assert not found, "\n".join(found)
    assert (report.snapshot, report.whole) == ("", True)


async def test_numbers_go_on_behind_the_last_ones(oci: RegistryClient) -> None:
    await _live(oci)
    before = {envelope.type: envelope for envelope in _said(oci)}
    flush(oci.parts.store)
    await rebuilding(oci.parts.parts, memory_history(oci.parts)).run()
    await oci.push(image("later"), "later", "demo/web/app")
    (pushed,) = oci.parts.announced("image.pushed")
    assert pushed.sequence == before["image.pushed"].sequence + 1
    assert pushed.generation > before["image.pushed"].generation
    (notification,) = oci.parts.announced("gcr")
    assert notification.sequence == before["gcr"].sequence + 1


async def test_a_rebuild_that_was_killed_is_begun_again_and_ends_in_the_same(oci: RegistryClient) -> None:
    parts, whole = oci.parts.parts, None
    await first_stroke(oci)
    whole = await taking(parts).take_if_due()
    await oci.parts.clock.advance(100)
    await second_stroke(oci)
    await publish(parts)
    before = memory_dump(oci.parts.store)
    history = memory_history(oci.parts)
    flush(oci.parts.store)
    for steps in range(1, 200, 7):
        dying = Dying(parts.state, steps)
        # Killed behind its very last step it has done all, and another one has nothing to do.
        with contextlib.suppress(Killed):
            with contextlib.suppress(Refused):
                await rebuilding(replace(parts, state=cast("State", dying)), history).run()
            break
        await oci.parts.clock.advance(60)
    assert whole is not None
    assert "{00}:registry:rebuilding" not in oci.parts.store.hashes
    found = differences(before, memory_dump(oci.parts.store), may=WITH_SNAPSHOT)
    assert not found, "\n".join(found)


async def test_a_rebuild_is_refused_on_records_unless_they_are_to_be_written_over(oci: RegistryClient) -> None:
    await _live(oci)
    before = memory_dump(oci.parts.store)
    history = memory_history(oci.parts)
    with pytest.raises(Refused, match="not empty"):
        await rebuilding(oci.parts.parts, history).run()
    assert memory_dump(oci.parts.store) == before
    await rebuilding(oci.parts.parts, history).run(force=True)
    assert not differences(before, memory_dump(oci.parts.store), may=COUNTED_ANEW)


async def test_what_was_pushed_after_the_loss_is_kept_by_force(oci: RegistryClient) -> None:
    parts = oci.parts.parts
    await first_stroke(oci)
    assert await taking(parts).take_if_due()
    await oci.parts.clock.advance(100)
    await publish(parts)
    flush(oci.parts.store)
    await oci.push(image("after"), "after", "demo/web/app")
    await publish(parts)
    await rebuilding(parts, memory_history(oci.parts)).run(force=True)
    listed = (await oci.call("GET", "/v2/demo/web/app/tags/list")).json["tags"]
    assert listed == ["after", "latest", "multi", "v0", "v1", "v2", "v3"]
    # What counted along since the loss knows nothing of what came back.
    assert not [key for key in memory_dump(oci.parts.store) if key.split(":")[2] in {"counted", "sizes"}]


async def test_bytes_are_counted_anew_and_come_to_the_same(oci: RegistryClient) -> None:
    parts = oci.parts.parts
    await _live(oci)
    before = memory_dump(oci.parts.store)
    flush(oci.parts.store)
    await rebuilding(parts, memory_history(oci.parts)).run()
    store, ledger = Store(parts.state, Layout(parts.keys)), Ledger(Layout(parts.keys), parts.clock, 60, 60)
    counting = Counting(store, ledger, parts.ids)
    for project in ("demo", "acme"):
        for repository in await counting.uncounted(project):
            assert await counting.count(project, repository)
    found = differences(before, memory_dump(oci.parts.store), may=WITHOUT | COUNTING)
    assert not found, "\n".join(found)


async def test_while_replicas_run_nothing_is_rebuilt(oci: RegistryClient) -> None:
    await _live(oci)
    flush(oci.parts.store)
    waking = aiter(oci.parts.parts.state.woken())
    waiting = asyncio.ensure_future(anext(waking))
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="1 replicas"):
        await rebuilding(oci.parts.parts, memory_history(oci.parts)).run()
    waiting.cancel()
    assert memory_dump(oci.parts.store) == {}


async def test_two_rebuilds_do_not_run_beside_each_other(oci: RegistryClient) -> None:
    await _live(oci)
    flush(oci.parts.store)
    assert await oci.parts.parts.state.acquire("{00}:registry:rebuilding", "another", 20)
    with pytest.raises(Refused, match="another rebuild"):
        await rebuilding(oci.parts.parts, memory_history(oci.parts)).run()


async def test_bytes_that_are_not_there_are_reported_and_not_promised(oci: RegistryClient) -> None:
    parts = oci.parts.parts
    await first_stroke(oci)
    assert await taking(parts).take_if_due()
    await oci.push(image("late"), "late", "demo/web/app")
    await publish(parts)
    layer = next(iter(image("app 2").blobs))
    for gone in (manifest_object("demo", digest_of("app 1")), manifest_object("demo", digest_of("late"))):
        await parts.blobs.delete(gone)
    await parts.blobs.delete(blob_object("demo", layer))
    flush(oci.parts.store)
    report = await rebuilding(parts, memory_history(oci.parts)).run()
    assert sorted(report.missing_manifests) == sorted(f"demo/web/app@{digest_of(text)}" for text in ("app 1", "late"))
    assert sorted(report.missing_blobs) == [f"demo/web@{layer}"]
    assert not report.whole
    assert (await oci.call("HEAD", f"/v2/demo/web/app/blobs/{layer}")).status == 404
    assert (await oci.call("GET", "/v2/demo/web/app/manifests/v1")).status == 404
    listed = (await oci.call("GET", "/v2/demo/web/app/tags/list")).json["tags"]
    assert listed == ["latest", "multi", "v0", "v2", "v3"]


async def test_events_that_the_stream_no_longer_holds_show_as_a_gap(oci: RegistryClient) -> None:
    await first_stroke(oci)
    await publish(oci.parts.parts)
    stream = oci.parts.broker.stream("EVENTS")
    first = next(number for number, stored in stream.messages.items() if stored.topic == "image.pushed")
    del stream.messages[first]
    flush(oci.parts.store)
    report = await rebuilding(oci.parts.parts, memory_history(oci.parts)).run()
    assert report.gaps == {"image.pushed|demo": 1}


async def test_a_deletion_that_was_under_way_goes_on(oci: RegistryClient) -> None:
    parts = oci.parts.parts
    await first_stroke(oci)
    key = "{32}:registry:repository:demo:web"
    oci.parts.store.hashes[key].pop("open")
    oci.parts.store.indexes.setdefault("{32}:registry:deletions", {})["demo/web"] = 0.0
    assert await taking(parts).take_if_due()
    await publish(parts)
    flush(oci.parts.store)
    await rebuilding(parts, memory_history(oci.parts)).run()
    assert "open" not in oci.parts.store.hashes[key]
    assert "demo/web" in oci.parts.store.indexes["{32}:registry:deletions"]


async def _live(oci: RegistryClient) -> None:
    """Both strokes, and all of it is published."""
    await first_stroke(oci)
    await oci.parts.clock.advance(100)
    await second_stroke(oci)
    await referrer(oci)
    await publish(oci.parts.parts)


def _said(oci: RegistryClient) -> list[Envelope]:
    found = [Envelope.parse(stored.content) for stored in oci.parts.broker.messages("EVENTS")]
    return [envelope for envelope in found if envelope.partitionkey == "demo"]


class Killed(BaseException):
    """The process is gone."""


class Dying:
    """State whose user dies at its n-th step; what was sent then may have happened."""

    def __init__(self, state: State, steps: int) -> None:
        self._state = state
        self._left = steps

    async def apply(self, step: Step) -> Done:
        self._left -= 1
        done = await self._state.apply(step)
        if self._left <= 0:
            raise Killed
        return done

    def __getattr__(self, name: str) -> Any:
        return getattr(self._state, name)
