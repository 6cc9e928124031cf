"""What nothing stands on goes from the bucket; what is used, or comes to be used meanwhile, stays."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from services.scanner.clearing import Clearing, ClearingLoop
from services.scanner.findings import Findings
from services.scanner.store import Store
from shared.parts import Parts
from shared.state import Moved
from tests.support.scans import CRITICAL, ScannerAtWork, osv, python_image, scanner_at_work

OLD = ("jinja2", "2.10")
ADVISORY = osv("PYSEC-1", "PyPI", "jinja2", {"introduced": "0"}, {"fixed": "2.10.1"}, vector=CRITICAL)
WITHDRAWN = {**ADVISORY, "withdrawn": "2026-02-01T00:00:00Z"}


@pytest.fixture
async def scanner() -> AsyncIterator[ScannerAtWork]:
    async with scanner_at_work() as scanner:
        yield scanner


def clearing(scanner: ScannerAtWork, seconds: float = 60) -> Clearing:
    parts = scanner.memory.parts
    return Clearing(Store(parts.state, parts.keys, parts.outbox), parts.blobs, parts.clock, parts.ids, seconds)


async def names(scanner: ScannerAtWork, kind: str = "") -> set[str]:
    return {stat.name async for stat in scanner.memory.parts.blobs.names(f"scanner/{kind}")}


async def cleared(scanner: ScannerAtWork) -> int:
    """Two rounds with the time between them for which a thing must have been unused."""
    rounds = clearing(scanner)
    first = await rounds.once()
    await scanner.memory.clock.advance(61)
    return first + await rounds.once()


async def test_what_is_used_stays(scanner: ScannerAtWork) -> None:
    await scanner.take_in(ADVISORY)
    await scanner.push(python_image(OLD))
    before = await names(scanner)
    assert await cleared(scanner) == 0
    assert await names(scanner) == before


async def test_superseded_findings_and_feeds_go(scanner: ScannerAtWork) -> None:
    await scanner.take_in(ADVISORY)
    await scanner.push(python_image(OLD))
    await scanner.take_in(WITHDRAWN)
    old = scanner.said("scan.completed")[0]["findings"]
    assert len(await names(scanner, "advisories/")) == 2
    await cleared(scanner)
    assert await names(scanner, "findings/") == {scanner.said("scan.completed")[-1]["findings"]}
    assert old not in await names(scanner)
    assert len(await names(scanner, "advisories/")) == 1
    assert (await scanner.get("/v1/projects/demo/occurrences"))["occurrences"]


async def test_findings_that_come_back_after_they_were_cleared_lie_at_another_name(scanner: ScannerAtWork) -> None:
    await scanner.take_in(ADVISORY)
    await scanner.push(python_image(OLD))
    for records in (WITHDRAWN, ADVISORY, WITHDRAWN, ADVISORY):
        await scanner.take_in(records)
        await cleared(scanner)
    said = [one["findings"] for one in scanner.said("scan.completed")]
    assert len(set(said)) == len(said) == 5
    found = Findings.read(await scanner.memory.parts.blobs.content(said[-1]))
    assert [finding.advisory for finding in found.findings] == ["PYSEC-1"]


async def test_of_a_deleted_image_nothing_stays(scanner: ScannerAtWork) -> None:
    await scanner.take_in(ADVISORY)
    pushed = await scanner.push(python_image(OLD))
    twin = await scanner.push(python_image(OLD), name="twin")
    await scanner.delete(pushed)
    assert await cleared(scanner) == 0, "the same image has another name"
    await scanner.delete(twin)
    assert await cleared(scanner) == 3
    assert not [name for name in await names(scanner) if name.split("/")[1] in {"layers", "inventories", "findings"}]


async def test_facts_that_were_cleared_are_read_anew(scanner: ScannerAtWork) -> None:
    pushed = await scanner.push(python_image(OLD))
    await scanner.delete(pushed)
    await cleared(scanner)
    await scanner.hear(pushed)
    assert scanner.said("scan.completed")[-1]["packages"] == 1
    assert len(await names(scanner, "layers/")) == 1


async def test_a_list_of_changed_advisories_stays_as_long_as_the_events_that_name_it(scanner: ScannerAtWork) -> None:
    await scanner.take_in(ADVISORY)
    await scanner.memory.clock.advance(39 * 86_400)
    await cleared(scanner)
    assert len(await names(scanner, "changes/")) == 1
    await scanner.memory.clock.advance(2 * 86_400)
    await cleared(scanner)
    assert await names(scanner, "changes/") == set()


async def test_what_is_unused_for_a_moment_only_stays(scanner: ScannerAtWork) -> None:
    await scanner.push(python_image(OLD))
    await scanner.memory.parts.blobs.put("scanner/findings/demo/sha256/ab/orphan", b"{}")
    rounds = clearing(scanner)
    for _ in range(3):
        assert await rounds.once() == 0
    await scanner.memory.clock.advance(61)
    assert await rounds.once() == 1


async def test_only_the_replica_with_the_lease_clears(scanner: ScannerAtWork) -> None:
    parts = scanner.memory.parts
    await parts.blobs.put("scanner/findings/demo/sha256/ab/orphan", b"{}")
    one, other = (ClearingLoop(clearing(scanner, 0), parts.state, parts.keys, parts.clock, parts.ids) for _ in range(2))
    assert await one.once(60) == 1
    await parts.blobs.put("scanner/findings/demo/sha256/ab/orphan", b"{}")
    assert await other.once(60) == 0
    assert await one.once(60) == 1


class Interrupted(BaseException):
    """The process is killed."""


class Between:
    """Stands before a face and, once told to, does something before its n-th call from then on."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner
        self._left = 0
        self._act: Callable[[], Awaitable[object]] = killed
        self.acted = False

    def before(self, number: int, act: Callable[[], Awaitable[object]]) -> None:
        self._left, self._act = number, act

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._inner, name)
        if name not in {"apply", "put", "content", "delete", "value", "size"}:
            return found

        async def called(*arguments: Any, **named: Any) -> Any:
            self._left -= 1
            if self._left == 0:
                self.acted = True
                await self._act()
            return await found(*arguments, **named)

        return called


async def killed() -> None:
    raise Interrupted


@pytest.mark.parametrize("number", range(1, 7))
@pytest.mark.parametrize("face", ["state", "blobs"])
async def test_a_kill_at_any_line_of_a_round_leaves_what_the_next_round_finishes(face: str, number: int) -> None:
    async with scanner_at_work() as scanner:
        await scanner.take_in(ADVISORY)
        await scanner.push(python_image(OLD))
        await scanner.take_in(WITHDRAWN)
        parts = scanner.memory.parts
        faces: dict[str, Any] = {"state": parts.state, "blobs": parts.blobs}
        faces[face] = Between(faces[face])
        faces[face].before(number, killed)
        store = Store(faces["state"], parts.keys, parts.outbox)
        with suppress(Interrupted):
            await Clearing(store, faces["blobs"], parts.clock, parts.ids, 0).once()
        assert (await scanner.get("/v1/projects/demo/occurrences"))["occurrences"]
        await cleared(scanner)
        assert await names(scanner, "findings/") == {scanner.said("scan.completed")[-1]["findings"]}
        await scanner.take_in(ADVISORY)
        assert await scanner.memory.parts.blobs.content(scanner.said("scan.completed")[-1]["findings"])


@pytest.mark.parametrize("number", range(1, 13))
@pytest.mark.parametrize("face", ["state", "blobs"])
async def test_a_scan_under_way_never_stands_on_what_is_cleared_beside_it(face: str, number: int) -> None:
    """Findings come back while their old object is unused and cleared, at each moment of the import and the scan."""
    between: list[Between] = []

    def around(parts: Parts) -> Parts:
        between.append(Between(getattr(parts, face)))
        return replace(parts, **{face: between[0]})

    async with scanner_at_work(around=around) as scanner:
        await scanner.take_in(ADVISORY)
        await scanner.push(python_image(OLD))
        await scanner.take_in(WITHDRAWN)
        parts = scanner.memory.parts
        between[0].before(number, clearing(scanner, 0).once)
        try:
            await scanner.take_in(ADVISORY)
        except AssertionError as refusal:  # the new feed was cleared before it held: that is said, and can be repeated
            assert "ABORTED" in str(refusal)  # noqa: PT017
            await scanner.take_in(ADVISORY)
        between[0].before(0, killed)
        said = scanner.said("scan.completed")
        assert len(said) == 3
        assert await parts.blobs.content(said[-1]["findings"])
        assert len((await scanner.get("/v1/projects/demo/occurrences"))["occurrences"]) == 2
        (feed,) = (await Store(parts.state, parts.keys, parts.outbox).feeds("demo")).values()
        assert await parts.blobs.stat(feed.object)


async def test_what_is_used_cannot_be_retired(scanner: ScannerAtWork) -> None:
    await scanner.push(python_image(OLD))
    store = Store(scanner.memory.parts.state, scanner.memory.parts.keys, scanner.memory.parts.outbox)
    with pytest.raises(Moved):
        await store.objects.retire("demo", scanner.said("scan.completed")[0]["findings"], "r")
