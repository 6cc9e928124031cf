"""A build's log: every line once and in order, whoever reads it and whenever the bucket or the build fails."""

import asyncio
from collections.abc import AsyncIterable

import pytest

from services.builder.log import BATCH, Log, log_object, read_so_far
from shared.blobs import BucketUnavailable
from shared.blobs.memory import MemoryBlobs, MemoryBucket
from shared.clock import SystemClock
from shared.endings import called_off
from shared.events import Cause
from shared.events.builds import BuildLog
from tests.support.parts import Noted

LINES = [f"{number:06d} {'x' * 4000}" for number in range(30)]
TEXT = "".join(f"{line}\n" for line in LINES).encode()


class Bucket(MemoryBlobs):
    """Says no, or nothing, when it is told to; and has itself watched."""

    def __init__(self, bucket: MemoryBucket | None = None) -> None:
        super().__init__(lambda: 0.0, bucket)
        self.refusals = 0
        self.answers = asyncio.Event()
        self.answers.set()
        self.seen_at_deletions: list[bytes] = []

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        if self.refusals:
            self.refusals -= 1
            raise BucketUnavailable("away")
        await self.answers.wait()
        return await super().put(name, body, if_absent=if_absent)

    async def delete(self, name: str) -> None:
        await super().delete(name)
        self.seen_at_deletions.append(await whole(self))


def log_in(bucket: Bucket, heard: Noted | None = None, attempt: int = 1) -> Log:
    return Log(bucket, heard or Noted(), SystemClock(), ("demo", "b1", attempt), Cause("c"))


def written(log: Log) -> Log:
    for line in LINES:
        log.write("", line.encode())
    return log


async def whole(bucket: Bucket) -> bytes:
    return b"".join([part async for part in read_so_far(bucket, "demo", "b1")])


async def test_it_is_read_while_the_build_runs_and_after_its_end() -> None:
    bucket, heard = Bucket(), Noted()
    log = written(log_in(bucket, heard))
    await log.flush()
    assert await whole(bucket) == TEXT
    log.write("Step #1", b"more")
    assert await log.close() == log_object("demo", "b1")
    assert await whole(bucket) == TEXT + b"Step #1: more\n"
    told = [event for event in heard.events if isinstance(event, BuildLog)]
    assert "".join(event.text for event in told).encode() == TEXT + b"Step #1: more\n"
    assert [event.offset for event in told[:2]] == [0, BATCH]


async def test_a_reader_whom_the_end_of_the_build_overtakes_reads_on() -> None:
    bucket = Bucket()
    log = written(log_in(bucket))
    await log.flush()
    reader = read_so_far(bucket, "demo", "b1")
    first = await anext(reader)
    assert len(first) < len(TEXT)
    await log.close()
    assert first + b"".join([part async for part in reader]) == TEXT


async def test_whoever_begins_to_read_while_the_pieces_go_reads_all() -> None:
    bucket = Bucket()
    await written(log_in(bucket)).close()
    assert len(bucket.seen_at_deletions) > 2
    assert set(bucket.seen_at_deletions) == {TEXT}


async def test_what_the_bucket_refuses_waits_and_is_told_once() -> None:
    bucket, heard = Bucket(), Noted()
    log = written(log_in(bucket, heard))
    bucket.refusals = 1
    with pytest.raises(BucketUnavailable):
        await log.flush()
    await log.close()
    assert await whole(bucket) == TEXT
    assert "".join(event.text for event in heard.events if isinstance(event, BuildLog)).encode() == TEXT


async def test_a_bucket_that_is_away_for_a_while_does_not_silence_the_log() -> None:
    bucket = Bucket()
    log = written(log_in(bucket))
    bucket.refusals = 1
    running = asyncio.create_task(log.run())
    for _ in range(200):
        if await whole(bucket) == TEXT:
            break
        await asyncio.sleep(0.05)
    await called_off([running])
    assert await whole(bucket) == TEXT


async def test_a_flush_that_is_broken_off_at_the_end_of_the_build_loses_no_line() -> None:
    bucket = Bucket()
    log = written(log_in(bucket))
    bucket.answers.clear()
    flushing = asyncio.create_task(log.flush())
    await asyncio.sleep(0)
    log.write("", b"the last line")
    await called_off([flushing])
    bucket.answers.set()
    await log.close()
    assert await whole(bucket) == TEXT + b"the last line\n"


async def test_a_later_attempt_is_not_read_as_the_one_that_died_before_it() -> None:
    bucket = Bucket()
    await written(log_in(bucket)).close()
    again = log_in(bucket, attempt=2)
    await again.begin()
    again.write("", b"anew")
    await again.flush()
    assert await whole(bucket) == b"anew\n"
    await again.close()
    assert await whole(bucket) == b"anew\n"
