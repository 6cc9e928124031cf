"""Sees every step and every publication, and judges whether the promise was kept."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from shared.blobs.memory import MemoryBucket
from shared.bus import Message
from shared.bus.memory import MemoryBroker
from shared.names import blob_object, manifest_object
from shared.state import Step
from shared.state.memory import MemoryStore
from tests.simulation.loop import Breach, running_loop

STREAMS = ("EVENTS", "JOBS", "STATE", "AUDIT", "LOGS")
_SHOWS = {
    "image.pushed": "digest",
    "scan.completed": "findings",
    "attestation.created": "object",
    "referrer.requested": "object",
    "cleanup.planned": "object",
    "advisory.updated": "object",
}
"""Events that name something which must be there by then, and the field that does."""
NOT_BUSINESS = (":request:", ":generations", ":sequences", ":seen:")
"""Keys that hold counters and memories of the way, which may differ between two sound runs."""


@dataclass(frozen=True)
class End:
    """What a run has come to: to be the same with and without a storm."""

    said: Counter[str]
    """What was announced: type and data."""
    state: dict[str, Any]
    """What services remember, by key."""


class Witness:
    """Checks at each publication what must hold then, and all else at the end."""

    def __init__(self, bucket: MemoryBucket, broker: MemoryBroker) -> None:
        self._bucket = bucket
        self._broker = broker
        self._committed: dict[str, tuple[str, str, str]] = {}
        """Event id to its lane, in the order of the steps."""
        self._published: dict[str, Message] = {}
        self._decisions: list[str] = []
        self.steps: list[Step] = []
        """In the order in which they took effect."""
        self.given = 0
        """Messages that were there before the run."""

    def done(self, service: str) -> Callable[[Step], None]:
        """Told each step of a service as it takes effect."""

        def note(step: Step) -> None:
            self.steps.append(step)
            for draft in step.drafts:
                self._committed[draft.id] = (service, step.partition, draft.stream)

        return note

    def decided(self, uid: str) -> None:
        """A decision was answered."""
        self._decisions.append(uid)

    def publishing(self, messages: Sequence[Message]) -> None:
        """Told what is about to be stored: it must be true by now."""
        for message in messages:
            if message.id in self._committed:
                self.journaled([message])
                continue
            running_loop().fail(Breach(f"announced before its change: {message.subject}"))

    def journaled(self, messages: Sequence[Message]) -> None:
        """Told what a journal is about to publish, which goes with no change."""
        for message in messages:
            self._expect_objects(message)

    def published(self, messages: Sequence[Message]) -> None:
        """Told what is stored now."""
        for message in messages:
            self._published.setdefault(message.id, message)

    def _expect_objects(self, message: Message) -> None:
        topic = ".".join(message.subject.split(".", 2)[:2])
        if topic not in _SHOWS:
            return
        missing = [name for name in self._shown(topic, message) if name not in self._bucket.objects]
        if missing:
            running_loop().fail(Breach(f"announced but absent: {message.subject} names {missing[0]}"))

    def _shown(self, topic: str, message: Message) -> list[str]:
        """Objects that an event says are there."""
        data = orjson.loads(message.content)["data"]
        if topic != "image.pushed":
            return [data[_SHOWS[topic]]] if data.get(_SHOWS[topic]) else []
        project = data["project"]
        manifest = manifest_object(project, data["digest"])
        found = self._bucket.objects.get(manifest)
        return [manifest, *(blob_object(project, digest) for digest in _blobs(found.content if found else b""))]

    def judge(self) -> None:
        """At rest: everything done was said, once, in order, and without a gap; and nobody gave up."""
        missing = [lane for event_id, lane in self._committed.items() if event_id not in self._published]
        self._expect(not missing, f"{len(missing)} changes were never announced: {missing[:3]}")
        twins = sum(self._broker.stream(name).last for name in STREAMS) - len(self._published) - self.given
        self._expect(not twins, f"{twins} twins were stored")
        self._expect(not self._broker.messages("DEAD"), "a handler gave up")
        self._judge_order()
        self._judge_sequences()
        told = {envelope["data"]["uid"] for envelope in self.envelopes() if envelope["type"] == "admission.decided"}
        self._expect(told.issuperset(self._decisions), "an answered decision was never announced")

    def _judge_order(self) -> None:
        said = [event_id for event_id in self._published if event_id in self._committed]
        for lane in dict.fromkeys(self._committed.values()):
            done = [event_id for event_id, at in self._committed.items() if at == lane]
            self._expect([one for one in said if self._committed[one] == lane] == done, f"{lane} left out of order")

    def _judge_sequences(self) -> None:
        numbers: dict[tuple[str, ...], list[int]] = {}
        for envelope in self.envelopes():
            counter = (envelope["source"], envelope["type"], envelope["partitionkey"])
            numbers.setdefault(counter, []).append(envelope["sequence"])
        for counter, found in numbers.items():
            self._expect(found == list(range(1, len(found) + 1)), f"{counter} has gaps: {found}")

    def end(self, store: MemoryStore) -> End:
        """What the run has come to. Decisions are left out: an unanswered one is asked for, and said, again."""
        said = Counter(
            f"{envelope['type']} {orjson.dumps(envelope['data'], option=orjson.OPT_SORT_KEYS).decode()}"
            for envelope in self.envelopes()
            if envelope["type"] != "admission.decided"
        )
        return End(said, dict(_business(store)))

    def envelopes(self) -> list[dict[str, Any]]:
        """All that was said, in order."""
        return [orjson.loads(message.content) for message in self._published.values()]

    def _expect(self, holds: bool, otherwise: str) -> None:  # noqa: FBT001 - a condition
        if not holds:
            raise Breach(otherwise)


def _blobs(manifest: bytes) -> list[str]:
    """Digests that a manifest refers to; those of models are no JSON and refer to nothing."""
    if not manifest.startswith(b"{"):
        return []
    found = orjson.loads(manifest)
    return [part["digest"] for part in (found["config"], *found["layers"])]


def compare(calm: End, storm: End) -> None:
    """Raise Breach where the storm has left a trace."""
    if calm.said != storm.said:
        raise Breach(f"said otherwise: missing {calm.said - storm.said}, more {storm.said - calm.said}")
    keys = sorted({*calm.state, *storm.state})
    different = [f"{key}: {storm.state.get(key)}" for key in keys if calm.state.get(key) != storm.state.get(key)]
    if different:
        raise Breach(f"remembered otherwise: {different[:3]}")


def _business(store: MemoryStore) -> Iterable[tuple[str, Any]]:
    kinds: tuple[dict[str, Any], ...] = (store.values, store.hashes, store.indexes)
    for kind in kinds:
        for key, value in kind.items():
            if value and not any(part in key for part in NOT_BUSINESS):
                yield key, value
