"""Hearing what was said: the events behind the snapshot, the last words on repositories, the audit trail's numbers."""

from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from services.registry.layout import counter, counter_of
from services.registry.rebuilding import trail
from services.registry.rebuilding.counters import Counters
from services.registry.rebuilding.replaying import Replaying
from services.registry.rebuilding.report import Report
from services.registry.rebuilding.sources import Sources
from services.registry.rebuilding.standing import Standing
from shared.blobs import BucketUnavailable
from shared.bus import Heard, Reject
from shared.bus.fates import Arrival, read
from shared.bus.history import Said
from shared.events import Envelope, Event
from shared.events.earlier import today
from shared.events.images import (
    GcrNotification,
    ImageDeleted,
    ImageEvent,
    ImagePushed,
    ImageUntagged,
    ReferrerAttached,
    RepositoryChanged,
    RepositoryState,
)
from shared.events.states import PolicyState, owner_of
from shared.names import from_subject_token

BACK_SECONDS = 3600.0
"""How far before the snapshot the replay begins: the bus has a clock of its own."""
PRODUCER = "registry"
_SOURCE = f"/services/{PRODUCER}"
_EVENTS: tuple[type[Event], ...] = (
    ImagePushed,
    ImageUntagged,
    ImageDeleted,
    ReferrerAttached,
    RepositoryChanged,
    GcrNotification,
)
_BY_TOPIC: dict[str, type[Event]] = {event.topic: event for event in (*_EVENTS, RepositoryState, PolicyState)}
_AUDIT = ("audit.activity", "audit.system")


@dataclass(frozen=True)
class Hearing:
    """Reads the streams and has done what they say."""

    sources: Sources
    counters: Counters
    replaying: Replaying
    standing: Standing
    report: Report

    async def events(self) -> None:
        """Replay what the snapshot does not know. Raises BusUnavailable."""
        say = self.sources.say
        since = max(0.0, self.counters.begun - BACK_SECONDS)
        told, count = self.sources.progress("{} events read"), 0
        async for said in self.sources.history.said("EVENTS", [event.topic for event in _EVENTS], since):
            count += 1
            told(count)
            heard = self._read(said)
            if heard is not None and self._is_ours(heard.event):
                await self._hear(said, heard)
        say(f"{sum(self.report.replayed.values())} events replayed of {count} read")

    async def _hear(self, said: Said, heard: Heard[Event]) -> None:
        topic, project = heard.event.topic, _project_in(said, heard.event)
        if self.counters.told_before(topic, project, heard.sequence, _timestamp(heard.time)):
            self.report.known += 1
            return
        self.counters.count(topic, project, heard.sequence)
        self.report.replayed[topic] = self.report.replayed.get(topic, 0) + 1
        event = heard.event
        if isinstance(event, ImageEvent | RepositoryChanged):
            self.counters.grown(counter(project, event.repository), heard.generation)
        if isinstance(event, RepositoryChanged) and event.change == "deleted":
            await self.standing.gone(project, event.repository)
        await self.replaying.replay(heard)

    async def facts(self) -> None:
        """Let facts have the last word. Raises BusUnavailable."""
        async for said in self.sources.history.said("STATE", ["state.repository", f"state.policy.{PRODUCER}"]):
            heard = self._read(said)
            if heard is None or not self._is_ours(heard.event):
                continue
            event = heard.event
            self.report.facts += 1
            self.counters.reached(event.topic, event.project, heard.sequence)
            if isinstance(event, RepositoryState):
                self.counters.grown(counter(event.project, event.repository), heard.generation)
                await self.standing.repository(event)
            elif isinstance(event, PolicyState):
                self.counters.grown(counter_of(event.full_name), heard.generation)
                await self.standing.policy(event)
        self.sources.say(f"{self.report.facts} facts taken")

    async def trail(self) -> None:
        """Take the numbers of audit entries, of those that wait and of those in the log. Raises BusUnavailable."""
        async for said in self.sources.history.said("AUDIT", [f"{topic}.{PRODUCER}" for topic in _AUDIT]):
            self._number(said)
        try:
            async for number in trail.numbers(self.sources.blobs, PRODUCER):
                self.counters.reached(number.topic, number.project, number.sequence)
        except (BucketUnavailable, ValueError) as error:
            self.report.audit_numbers = f"from the snapshot alone: {error}"

    def _number(self, said: Said) -> None:
        try:
            envelope = Envelope.parse(said.content)
        except ValidationError:
            self.report.unreadable += 1
            return
        if envelope.source == _SOURCE:
            self.counters.reached(envelope.type, envelope.partitionkey, envelope.sequence)

    def _read(self, said: Said) -> Heard[Event] | None:
        try:
            heard: Heard[Event] = read(Arrival(*today(said.subject, said.content)), _BY_TOPIC)
        except Reject:
            self.report.unreadable += 1
            return None
        return heard if heard.source == _SOURCE else None

    def _is_ours(self, event: Event) -> bool:
        """Registries of several locations say things on one bus; what Google's notification tells is of all."""
        if isinstance(event, GcrNotification):
            return True
        if isinstance(event, PolicyState):
            return (
                owner_of(event.full_name) == PRODUCER and event.full_name.split("/")[3] == self.sources.voice.location
            )
        return event.location == self.sources.voice.location


def _project_in(said: Said, event: Event) -> str:
    """Google's notification does not tell the project, its subject does."""
    return from_subject_token(said.subject.removeprefix(f"{event.topic}.").partition(".")[0])


def _timestamp(time: str) -> float:
    """An envelope's time; of one that cannot be read, the end of time: it is not taken for known."""
    try:
        return datetime.fromisoformat(time).timestamp()
    except ValueError:
        return float("inf")
