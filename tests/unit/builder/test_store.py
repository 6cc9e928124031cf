"""Build records: replaced by compare-and-set, and done once for each cause and label."""

from collections.abc import Sequence

from services.builder.record import WORKING, Record
from services.builder.store import Builds
from shared.events import Cause, Event
from tests.support.parts import memory_parts

QUEUED = Record(id="b", project="demo", location="local", object="o", created="now", created_at=1.0)
HEARD = Cause("heard once")


class Begin:
    """Marks a build as begun, whatever was read: as a worker does that was frozen between reading and writing."""

    def __init__(self, worker: str) -> None:
        self._worker = worker

    def __call__(self, record: Record) -> tuple[Record, Sequence[Event]]:
        return record.model_copy(update={"status": WORKING, "attempt": 1, "worker": self._worker}), []


async def test_two_workers_that_begin_a_build_from_one_message_agree_on_who_does() -> None:
    parts = memory_parts("builder").parts
    builds = Builds(parts.state, parts.outbox, parts.keys)
    await builds.create(QUEUED, [], Cause("asked"))
    first = await builds.change("demo", "b", Begin("one"), HEARD, "begin/1")
    second = await builds.change("demo", "b", Begin("two"), HEARD, "begin/1")
    assert (first.worker, second.worker) == ("one", "one")
    assert await builds.get("demo", "b") == first
