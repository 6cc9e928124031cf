"""Snapshots: bounded pieces, whole or not at all, by one replica at a time; nothing of the layout is left out."""

import inspect
from collections.abc import AsyncGenerator
from typing import Any, cast, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from services.registry.app import build
from services.registry.layout import Layout
from services.registry.rebuilding import rows, shelf
from services.registry.rebuilding.loss import Loss, StateLost
from services.registry.rebuilding.rows import BlobsRow, Row, TagsRow
from services.registry.rebuilding.shelf import FOLDER, Shelf, Writing
from services.registry.rebuilding.taking import LEASE_SECONDS, LeaseLost
from shared.state import Keys, State
from tests.support.parts import client_of, memory_parts
from tests.support.rebuilding import flush, memory_history, publish, rebuilding, taking
from tests.support.registry import RegistryClient, registry, small_image
from tests.support.varied import first_stroke, image, parts_of_two_projects

WRITTEN_DOWN = {
    *("repository", "settings", "deletions", "cascades", "cascade", "blobs", "files"),
    *("image", "version", "tag"),
}
"""Kinds of keys of which snapshots have rows."""
MADE_ANEW = {
    *("repositories", "blob_list", "holders", "uses", "attachments", "attachment_ids"),
    *("images", "versions", "tags", "tags_of", "parents", "referrers", "ruled"),
}
"""Indexes over these, which are made anew as the rows are loaded."""
COUNTED_ANEW = {"sizes", "counted", "due"}
"""What a running registry works out by itself."""
FORGOTTEN = {"cancelled", "vouched", "clearing", "collector", "search", "snapshots", "rebuilding", "neared"}
"""Of uploads, searches and leases that are under way, and what was said of quotas; see docs/operate/rebuild.md."""
THE_SAME = {"deletions_of", "cascades_of", "due_of"}


@pytest.fixture
async def oci() -> AsyncGenerator[RegistryClient]:
    made = parts_of_two_projects()
    service = build(made.parts)
    async with client_of(service, made.parts) as client:
        yield RegistryClient(client, made, service=service)


def test_of_every_kind_of_key_it_is_said_how_it_comes_back() -> None:
    kinds = {name for name, _ in inspect.getmembers(Layout, inspect.isfunction) if not name.startswith("_")}
    assert kinds - THE_SAME <= WRITTEN_DOWN | MADE_ANEW | COUNTED_ANEW | FORGOTTEN


async def test_rows_go_in_pieces_of_bounded_size(oci: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shelf, "PIECE_BYTES", 2000)
    await first_stroke(oci)
    whole = await taking(oci.parts.parts).take_if_due()
    assert whole is not None
    assert len(whole.pieces) > 3
    sizes = [(await oci.parts.parts.blobs.stat(piece.name)).size for piece in whole.pieces]
    assert sizes == [piece.size for piece in whole.pieces]
    found = [row async for row in Shelf(oci.parts.parts.blobs, "local").read(whole)]
    assert len(found) == sum(whole.rows.values())
    assert set(whole.rows) >= {"counters", "repository", "blobs", "image", "version", "tags"}


async def test_one_that_lost_a_piece_does_not_count_and_the_one_before_does(oci: RegistryClient) -> None:
    parts = oci.parts.parts
    await oci.push(small_image(), "v1")
    first = await taking(parts).take_if_due()
    await oci.parts.clock.advance(10)
    await oci.push(image("more"), "v2")
    second = await taking(parts).take_if_due()
    assert first is not None
    assert second is not None
    await publish(parts)
    (piece,) = second.pieces
    await parts.blobs.put(piece.name, b"x" * piece.size)
    flush(oci.parts.store)
    report = await rebuilding(parts, memory_history(oci.parts)).run()
    assert report.snapshot == first.id
    assert report.versions == 2


async def test_nothing_is_written_where_nothing_was_said_or_it_is_not_time(oci: RegistryClient) -> None:
    often = taking(oci.parts.parts, seconds=100)
    await oci.push(small_image(), "v1")
    assert await often.take_if_due()
    await oci.parts.clock.advance(200)
    assert await often.take_if_due() is None
    await oci.push(image("more"), "v2")
    assert await often.take_if_due()
    await oci.push(image("still more"), "v3")
    assert await often.take_if_due() is None


async def test_only_the_newest_two_stay_and_no_rest_of_one_that_broke_off(oci: RegistryClient) -> None:
    blobs = oci.parts.parts.blobs
    broken = Writing(blobs, "000000000001-broken")
    await broken.add(BlobsRow(project="demo", repository="web", sizes={}))
    await broken.flush()
    for number in range(4):
        await oci.push(image(str(number)), f"v{number}")
        assert await taking(oci.parts.parts).take_if_due()
        await oci.parts.clock.advance(10)
    ids = {stat.name.removeprefix(FOLDER).partition("/")[0] async for stat in blobs.names(FOLDER)}
    newest = [whole.id async for whole in Shelf(blobs, "local").whole_ones()]
    assert ids == set(newest)
    assert len(newest) == 2
    assert newest == sorted(newest, reverse=True)


async def test_while_one_replica_is_at_it_another_leaves_it(oci: RegistryClient) -> None:
    await oci.push(small_image(), "v1")
    assert await oci.parts.parts.state.acquire("{00}:registry:snapshots", "another", LEASE_SECONDS)
    assert await taking(oci.parts.parts).take_if_due() is None


async def test_who_slept_through_its_lease_gives_up(oci: RegistryClient, monkeypatch: pytest.MonkeyPatch) -> None:
    await oci.push(small_image(), "v1")
    put = type(oci.parts.parts.blobs).put

    async def slowly(*given: object, **options: object) -> int:
        await oci.parts.clock.advance(2 * LEASE_SECONDS)
        return await put(*given, **options)  # pyright: ignore[reportArgumentType]

    monkeypatch.setattr(type(oci.parts.parts.blobs), "put", slowly)
    with pytest.raises(LeaseLost):
        await taking(oci.parts.parts).take_if_due()
    assert await Shelf(oci.parts.parts.blobs, "local").newest() is None


async def test_a_snapshot_of_another_location_is_not_ours(oci: RegistryClient) -> None:
    await oci.push(small_image(), "v1")
    assert await taking(oci.parts.parts).take_if_due()
    assert await Shelf(oci.parts.parts.blobs, "elsewhere").newest_sound() is None


async def test_on_an_empty_state_beside_a_full_bucket_no_replica_starts() -> None:
    made = memory_parts("registry")
    loss = Loss(made.parts.state, Layout(Keys("registry")), made.parts.blobs)
    await loss.refuse()
    await made.parts.blobs.put("manifests/demo/sha256/ab/abcd", b"{}")
    with pytest.raises(StateLost, match="rebuild-state registry"):
        await loss.refuse()


async def test_on_a_state_that_is_half_rebuilt_no_replica_starts() -> None:
    made = memory_parts("registry")
    made.store.hashes["{00}:registry:rebuilding"] = {"begun": "2026-01-01T00:00:00Z"}
    with pytest.raises(StateLost, match="has not ended"):
        await Loss(made.parts.state, Layout(Keys("registry")), made.parts.blobs).refuse()


class Counting:
    """A state that counts how often it is asked."""

    def __init__(self, inner: State) -> None:
        self._inner, self.asked = inner, 0

    def __getattr__(self, name: str) -> Any:
        self.asked += 1
        return getattr(self._inner, name)


async def test_a_start_asks_about_all_partitions_at_once() -> None:
    made = memory_parts("registry")
    state = Counting(made.parts.state)
    await Loss(cast("State", state), Layout(Keys("registry")), made.parts.blobs).refuse()
    assert state.asked == 2


async def test_a_registry_that_knows_something_starts() -> None:
    async with registry() as oci:
        await oci.push(small_image(), "v1")
        parts = oci.parts.parts
        await Loss(parts.state, Layout(parts.keys), parts.blobs).refuse()


texts = st.text(max_size=20)


@given(texts, texts, st.dictionaries(texts, texts, max_size=5))
def test_a_row_is_read_as_it_was_written(project: str, repository: str, held: dict[str, str]) -> None:
    for row in (
        BlobsRow(project=project, repository=repository, sizes=held, notes=held),
        TagsRow(project=project, repository=repository, image="app", pointers=held),
    ):
        line = rows.written(row)
        assert line.count(b"\n") == 1
        assert rows.parse(line) == row


@given(st.binary(max_size=200) | st.recursive(st.text() | st.booleans(), st.lists).map(orjson.dumps))
def test_a_line_that_is_no_row_is_refused(line: bytes) -> None:
    try:
        found = rows.parse(line)
    except ValidationError:
        return
    assert isinstance(found, get_args(Row))
