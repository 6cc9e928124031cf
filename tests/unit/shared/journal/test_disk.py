import asyncio
import contextlib
import errno
import os
import stat
import time
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import pytest

from shared.bus import BusUnavailable, Message, StreamFull
from shared.clock import SystemClock, SystemIds, in_a_thread
from shared.events import Cause, Envelope, Event
from shared.events.attestations import AdmissionDecided
from shared.events.audit import AuditAccess
from shared.journal import JournalFull, JournalUnavailable, files
from shared.journal.disk import DiskJournal, JournalTaken

CAUSE = Cause(id="call", actor="user:a@example.org")


class Bus:
    """A publisher that keeps what it is given and may be away, or full for one stream."""

    def __init__(self, *, away: bool = False) -> None:
        self.away = away
        self.full = ""
        self.said: list[Message] = []
        self.batches: list[int] = []

    async def publish(self, messages: Sequence[Message]) -> None:
        self.batches.append(len(messages))
        if self.away:
            raise BusUnavailable("away")
        if self.full and messages[0].subject.startswith(self.full):
            raise StreamFull(self.full)
        self.said += messages

    def envelopes(self) -> list[Envelope]:
        return [Envelope.parse(message.content) for message in self.said]

    def sequences(self, project: str = "acme") -> list[int]:
        return [envelope.sequence for envelope in self.envelopes() if envelope.partitionkey == project]


def read(project: str = "acme") -> AuditAccess:
    return AuditAccess(project=project, producer="registry", entry={"n": 1})


def decided() -> AdmissionDecided:
    return AdmissionDecided(project="acme", uid="u", allowed=True)


def opened(folder: Path, bus: Bus, limit: int = 1 << 20) -> DiskJournal:
    return DiskJournal(folder, "registry", bus, clock=SystemClock(), ids=SystemIds(), cpu=in_a_thread, limit=limit)


@contextlib.asynccontextmanager
async def running(journal: DiskJournal) -> AsyncIterator[DiskJournal]:
    task = asyncio.create_task(journal.run())
    await asyncio.sleep(0)
    try:
        yield journal
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


async def until(what: Callable[[], object], seconds: float = 5.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come true in time"
        await asyncio.sleep(0.005)


def segments(folder: Path) -> list[Path]:
    return sorted(folder.rglob("*.segment"))


async def crash(task: asyncio.Task[None], journal: DiskJournal) -> None:
    """Free what the kernel would free, without the journal's own ending."""
    for ledger in journal._ledgers.values():
        ledger._close = _nothing  # type: ignore[method-assign]
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _nothing() -> None:
    return


async def test_what_is_noted_or_kept_reaches_the_bus_numbered_without_a_gap(tmp_path: Path) -> None:
    bus = Bus()
    async with running(opened(tmp_path, bus)) as journal:
        journal.note([read(), read("other")], CAUSE)
        await journal.keep([read()], CAUSE)
        journal.note([read()], CAUSE)
        await until(lambda: len(bus.said) == 4)
    assert bus.sequences() == [1, 2, 3]
    assert bus.sequences("other") == [1]
    assert len({message.id for message in bus.said}) == 4
    assert {envelope.source for envelope in bus.envelopes()} == {f"/services/{journal.producer}"}


async def test_keeping_waits_for_the_disk_and_noting_does_not(tmp_path: Path) -> None:
    journal = opened(tmp_path, Bus(away=True))
    journal.note([read()], CAUSE)
    keeping = asyncio.create_task(journal.keep([read()], CAUSE))
    await asyncio.sleep(0.05)
    assert not keeping.done()
    async with running(journal):
        await keeping
        assert b'"sequence":2' in b"".join(path.read_bytes() for path in segments(tmp_path))


async def test_many_that_keep_at_once_share_few_syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs: list[int] = []
    real = os.fsync

    def counted(file: int) -> None:
        syncs.append(file)
        real(file)

    monkeypatch.setattr(os, "fsync", counted)
    async with running(opened(tmp_path, Bus())) as journal:
        await journal.keep([read()], CAUSE)
        syncs.clear()
        await asyncio.gather(*(journal.keep([read()], CAUSE) for _ in range(200)))
        assert 1 <= len(syncs) <= 3


async def test_a_note_is_on_disk_after_a_tenth_of_a_second(tmp_path: Path) -> None:
    async with running(opened(tmp_path, Bus(away=True))) as journal:
        journal.note([read()], CAUSE)
        started = time.monotonic()
        await until(lambda: any(b'"sequence":1' in path.read_bytes() for path in segments(tmp_path)))
        assert time.monotonic() - started < 1


async def test_files_are_for_the_owner_alone(tmp_path: Path) -> None:
    async with running(opened(tmp_path / "journal", Bus(away=True))) as journal:
        await journal.keep([read()], CAUSE)
    for path in segments(tmp_path):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "journal").stat().st_mode) == 0o700


async def test_what_the_bus_did_not_take_is_told_after_the_next_start_without_a_gap(tmp_path: Path) -> None:
    async with running(opened(tmp_path, Bus(away=True))) as journal:
        await journal.keep([read(), read()], CAUSE)
        journal.note([read()], CAUSE)
    bus = Bus()
    async with running(opened(tmp_path, bus)) as again:
        again.note([read()], CAUSE)
        await until(lambda: len(bus.said) == 4)
    assert bus.sequences() == [1, 2, 3, 4]
    assert again.producer == journal.producer


async def test_what_the_bus_has_is_not_told_again(tmp_path: Path) -> None:
    bus = Bus()
    async with running(opened(tmp_path, bus)) as journal:
        await journal.keep([read()], CAUSE)
        await until(lambda: bus.said)
        await asyncio.sleep(0.05)
    async with running(opened(tmp_path, bus)) as journal:
        await journal.keep([read()], CAUSE)
        await until(lambda: len(bus.said) == 2)
    assert bus.sequences() == [1, 2]


async def test_after_a_crash_kept_entries_are_there_and_a_gap_shows_that_notes_may_be_missing(tmp_path: Path) -> None:
    journal = opened(tmp_path, Bus(away=True))
    task = asyncio.create_task(journal.run())
    await journal.keep([read()], CAUSE)
    journal.note([read()], CAUSE)
    await crash(task, journal)
    bus = Bus()
    async with running(opened(tmp_path, bus)) as again:
        await again.keep([read()], CAUSE)
        await until(lambda: len(bus.said) == 2)
    assert bus.sequences() == [1, 3]


async def test_after_a_crash_at_rest_there_is_no_gap(tmp_path: Path) -> None:
    journal = opened(tmp_path, Bus(away=True))
    task = asyncio.create_task(journal.run())
    await journal.keep([read()], CAUSE)
    await asyncio.sleep(1.2)
    await crash(task, journal)
    bus = Bus()
    async with running(opened(tmp_path, bus)) as again:
        await again.keep([read()], CAUSE)
        await until(lambda: len(bus.said) == 2)
    assert bus.sequences() == [1, 2]


async def test_a_torn_end_is_cut_and_what_came_before_is_told(tmp_path: Path) -> None:
    async with running(opened(tmp_path, Bus(away=True))) as journal:
        await journal.keep([read(), read()], CAUSE)
    (segment,) = segments(tmp_path)
    with segment.open("ab") as file:
        file.write(b"\x00\x00\x01\x00torn")
    bus = Bus()
    async with running(opened(tmp_path, bus)) as again:
        await again.keep([read()], CAUSE)
        await until(lambda: len(bus.said) == 3)
    assert bus.sequences() == [1, 2, 4]
    assert b"torn" not in segment.read_bytes() if segment.exists() else True


async def test_segments_that_the_bus_has_are_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "SEGMENT_BYTES", 2000)
    bus = Bus(away=True)
    async with running(opened(tmp_path, bus)) as journal:
        for _ in range(30):
            await journal.keep([read()], CAUSE)
        assert len(segments(tmp_path)) > 5
        bus.away = False
        await until(lambda: len(segments(tmp_path)) == 1 and len(bus.said) == 30, 10)
    assert bus.sequences() == list(range(1, 31))
    async with running(opened(tmp_path, bus)) as journal:
        await journal.keep([read()], CAUSE)
        # Told twice is what was not yet marked as told when the first journal ended; the bus drops it.
        await until(lambda: len({message.id for message in bus.said}) == 31)
    assert bus.sequences()[-1] == 31


async def test_a_full_journal_refuses_what_must_be_kept_and_shows_what_it_dropped_as_a_gap(tmp_path: Path) -> None:
    bus = Bus(away=True)
    async with running(opened(tmp_path, bus, limit=2000)) as journal:
        journal.note([read()] * 10, CAUSE)
        with pytest.raises(JournalFull):
            await journal.keep([read()], CAUSE)
        assert journal.dropped() > 0
        assert journal.waiting() >= 2000
        bus.away = False
        await until(lambda: journal.waiting() == 0)
        await journal.keep([read()], CAUSE)
        await until(lambda: bus.sequences()[-1:] == [11])
    assert bus.sequences() == [*range(1, len(bus.said)), 11]


async def test_a_full_stream_stops_its_own_ledger_only(tmp_path: Path) -> None:
    bus = Bus()
    bus.full = "audit"
    async with running(opened(tmp_path, bus)) as journal:
        events: list[Event] = [read(), decided()]
        await journal.keep(events, CAUSE)
        await until(lambda: [envelope.type for envelope in bus.envelopes()] == ["admission.decided"])
        bus.full = ""
        await until(lambda: len(bus.said) == 2)


async def test_a_disk_that_fails_is_said_and_nothing_noted_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bus = Bus()
    real = os.fsync
    broken = True

    def failing(file: int) -> None:
        if broken:
            raise OSError(errno.ENOSPC, "no space")
        real(file)

    async with running(opened(tmp_path, bus)) as journal:
        await journal.keep([read()], CAUSE)
        monkeypatch.setattr(os, "fsync", failing)
        journal.note([read()], CAUSE)
        with pytest.raises(JournalUnavailable):
            await journal.keep([read()], CAUSE)
        broken = False
        await until(lambda: len(bus.said) == 3)
        await journal.keep([read()], CAUSE)
        await until(lambda: len(bus.said) == 4)
    assert bus.sequences() == [1, 2, 3, 4]


async def test_one_journal_has_one_writer(tmp_path: Path) -> None:
    async with running(opened(tmp_path, Bus())):
        with pytest.raises(JournalTaken):
            opened(tmp_path, Bus())
    opened(tmp_path, Bus())


async def test_batches_are_bounded(tmp_path: Path) -> None:
    bus = Bus(away=True)
    async with running(opened(tmp_path, bus)) as journal:
        await journal.keep([read()] * 300, CAUSE)
        bus.away = False
        await until(lambda: len(bus.said) == 300)
    assert max(bus.batches) <= 64
    assert bus.sequences() == list(range(1, 301))


async def test_a_closed_journal_refuses_to_keep(tmp_path: Path) -> None:
    async with running(opened(tmp_path, Bus())) as journal:
        await journal.keep([read()], CAUSE)
    with pytest.raises(JournalUnavailable):
        await journal.keep([read()], CAUSE)
