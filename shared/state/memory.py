"""State in memory: for tests, for simulation and for a service that is tried alone; gone when the process ends."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, assert_never

from shared.events import Draft
from shared.state.face import REQUEST_SECONDS, UNKNOWN, LaneEntry, LaneFull, Lease, Moved, Told
from shared.state.keys import Keys
from shared.state.questions import Answer, FieldOf, FieldsOf, MemberOf, MembersOf, Question, RecordOf, ValueOf
from shared.state.step import (
    Add,
    Check,
    Done,
    Drop,
    DropField,
    FieldAtMost,
    FieldIs,
    Index,
    IsEmpty,
    IsMember,
    NotMember,
    Put,
    PutField,
    ScoreIs,
    Stamp,
    Step,
    Unindex,
    Value,
    ValueIs,
    Write,
)


@dataclass
class _Lane:
    entries: list[LaneEntry] = field(default_factory=list[LaneEntry])
    last: int = 0
    holder: str = ""
    until: float = 0.0


@dataclass
class MemoryStore:
    """What all replicas of all services share; each service looks at it through a `MemoryState` of its own."""

    values: dict[str, str] = field(default_factory=dict[str, str])
    hashes: dict[str, dict[str, str]] = field(default_factory=dict[str, dict[str, str]])
    indexes: dict[str, dict[str, float]] = field(default_factory=dict[str, dict[str, float]])
    lanes: dict[str, _Lane] = field(default_factory=dict[str, _Lane])
    expiries: dict[str, float] = field(default_factory=dict[str, float])
    listeners: dict[int, tuple[str, asyncio.Queue[str]]] = field(
        default_factory=dict[int, tuple[str, asyncio.Queue[str]]]
    )
    listened: int = 0


class MemoryState:
    """The state face over a `MemoryStore`. One loop round, without an await, is what makes a step atomic."""

    def __init__(
        self, service: str, monotonic: Callable[[], float], store: MemoryStore | None = None, lane_limit: int = 100_000
    ) -> None:
        """`monotonic` tells the time that leases and expiries run by, in seconds."""
        self.store = store or MemoryStore()
        self._keys = Keys(service)
        self._monotonic = monotonic
        self._lane_limit = lane_limit
        self._told: Callable[[str], None] = _to_nobody

    async def apply(self, step: Step) -> Done:
        """Do the step whole, or raise and leave everything as it was."""
        remembered = self._live(self._keys.at(step.partition, "request", step.request))
        if remembered is not None:
            generation, _, answer = remembered.partition(" ")
            return Done(generation=int(generation), answer=answer, again=True)
        self._refuse_a_full_lane(step)
        if not all(self._holds(check) for check in step.checks):
            raise Moved
        self._refuse_wrong_kinds(step.writes)
        generation = self._count_up(step)
        for write in step.writes:
            self._write(write, generation)
        for draft in step.drafts:
            self._append(step.partition, draft, generation)
        request = Put(
            self._keys.at(step.partition, "request", step.request), f"{generation} {step.answer}", REQUEST_SECONDS
        )
        self._write(request, generation)
        return Done(generation=generation, answer=step.answer)

    async def value(self, key: str) -> str | None:
        """The value of a key."""
        return self._live(key)

    async def field(self, key: str, field: str) -> str | None:
        """One field of a hash."""
        return self.store.hashes.get(key, {}).get(field)

    async def fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        """Several fields of a hash."""
        found = self.store.hashes.get(key, {})
        return [found.get(field) for field in fields]

    def peek(self, key: str, told: Told, *, field: str = "", unless: str = "") -> bool:
        """Tell at once."""
        if unless and self._live(unless) is not None:
            told(UNKNOWN)
        else:
            told(self.store.hashes.get(key, {}).get(field) if field else self._live(key))
        return True

    async def look(self, questions: Sequence[Question]) -> list[Any]:
        """The answers to several questions."""
        return [await self._answer(question) for question in questions]

    async def _answer(self, question: Question) -> Answer:
        match question:
            case ValueOf(key):
                return await self.value(key)
            case FieldOf(key, field):
                return await self.field(key, field)
            case FieldsOf(key, fields):
                return await self.fields(key, fields)
            case MemberOf(key, member):
                return await self.has_member(key, member)
            case RecordOf(key):
                return await self.record(key)
            case MembersOf(key, limit):
                return await self.members(key, limit=limit)
            case _:
                assert_never(question)

    async def record(self, key: str) -> dict[str, str]:
        """All fields of a hash."""
        return dict(self.store.hashes.get(key, {}))

    async def members(self, key: str, *, after: str = "", prefix: str = "", limit: int = 1000) -> list[str]:
        """A page of an index, in byte order."""
        found = sorted(self.store.indexes.get(key, {}), key=str.encode)
        page = [
            member for member in found if (not after or member.encode() > after.encode()) and member.startswith(prefix)
        ]
        return page[:limit]

    async def ranked(self, key: str, *, low: float, high: float, limit: int = 1000) -> list[tuple[str, float]]:
        """Members by score."""
        found = self.store.indexes.get(key, {}).items()
        ranked = sorted(found, key=lambda item: (item[1], item[0].encode()))
        return [(member, score) for member, score in ranked if low <= score <= high][:limit]

    async def has_member(self, key: str, member: str) -> bool:
        """Whether the index holds the member."""
        return member in self.store.indexes.get(key, {})

    async def size(self, key: str) -> int:
        """How many members the index has."""
        return len(self.store.indexes.get(key, {}))

    async def generation(self, partition: str, counter: str) -> int:
        """The last generation given by that counter."""
        return int(self.store.hashes.get(self._keys.at(partition, "generations"), {}).get(counter, "0"))

    async def busy_lanes(self) -> list[str]:
        """Lanes of this service that hold entries."""
        own = f"}}:{self._keys.service}:lane:"
        return [name for name, lane in self.store.lanes.items() if lane.entries and own in name]

    async def woken(self) -> AsyncIterator[str]:
        """Names of lanes that got entries."""
        number = self.store.listened = self.store.listened + 1
        queue: asyncio.Queue[str] = asyncio.Queue()
        self.store.listeners[number] = (f":{self._keys.service}:lane:", queue)
        try:
            while True:
                yield await queue.get()
        finally:
            self.store.listeners.pop(number, None)

    def heed(self, told: Callable[[str], None]) -> None:
        """Have `told` called with each lane that a step put something into."""
        self._told = told

    async def listeners(self) -> int:
        """How many hear of this service's lanes."""
        own = f":{self._keys.service}:lane:"
        return sum(service == own for service, _ in self.store.listeners.values())

    async def acquire(self, lane: str, token: str, seconds: float) -> bool:
        """Take or renew the lane's lease."""
        found = self.store.lanes.setdefault(lane, _Lane())
        now = self._monotonic()
        if found.holder not in {"", token} and found.until > now:
            return False
        found.holder, found.until = token, now + seconds
        return True

    async def release(self, lease: Lease) -> None:
        """Give the lease back."""
        found = self.store.lanes.get(lease.lane)
        if found is not None and found.holder == lease.token:
            found.holder = ""

    async def entries(self, lane: str, limit: int) -> list[LaneEntry]:
        """The oldest entries of a lane."""
        found = self.store.lanes.get(lane)
        return found.entries[:limit] if found else []

    async def remove(self, lease: Lease, last: int) -> bool:
        """Remove what was published, unless the lease has gone to another."""
        found = self.store.lanes.get(lease.lane)
        if found is None or found.holder != lease.token or found.until <= self._monotonic():
            return False
        found.entries = [entry for entry in found.entries if entry.number > last]
        return True

    async def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> list[LaneEntry] | None:
        """One turn of the relay."""
        if published and not await self.remove(lease, published):
            return None
        if not await self.acquire(lease.lane, lease.token, seconds):
            return None
        return await self.entries(lease.lane, limit)

    # The step's parts.

    def _live(self, key: str) -> str | None:
        if self.store.expiries.get(key, self._monotonic() + 1) <= self._monotonic():
            self.store.values.pop(key, None)
            self.store.expiries.pop(key, None)
        return self.store.values.get(key)

    def _refuse_a_full_lane(self, step: Step) -> None:
        for stream in dict.fromkeys(draft.stream for draft in step.drafts):
            lane = self.store.lanes.get(self._keys.lane(step.partition, stream))
            if lane is not None and len(lane.entries) >= self._lane_limit:
                raise LaneFull(stream)

    def _holds(self, check: Check) -> bool:  # noqa: PLR0911 - a table of seven rows
        match check:
            case ValueIs(key, value):
                return self._live(key) == value
            case FieldIs(key, field, value):
                return self.store.hashes.get(key, {}).get(field) == value
            case NotMember(key, member):
                return member not in self.store.indexes.get(key, {})
            case IsMember(key, member):
                return member in self.store.indexes.get(key, {})
            case IsEmpty(key):
                return not self.store.indexes.get(key) and not self.store.hashes.get(key)
            case FieldAtMost(key, field, limit):
                return int(self.store.hashes.get(key, {}).get(field, "0")) <= limit
            case ScoreIs(key, member, score):
                return self.store.indexes.get(key, {}).get(member) == score
            case _:
                assert_never(check)

    def _refuse_wrong_kinds(self, writes: Sequence[Write]) -> None:
        """A key is a value, a hash or an index: a real store would fail half-way, so both refuse before they begin."""
        dropped = {write.key for write in writes if isinstance(write, Drop)}
        for write in writes:
            if write.key in dropped:
                continue
            wanted = _kind_of(write)
            for kind, found in (
                ("value", self.store.values),
                ("hash", self.store.hashes),
                ("index", self.store.indexes),
            ):
                if kind != wanted and found.get(write.key):
                    raise TypeError(f"the step does not fit what is stored: {write.key} is a {kind}")
            if isinstance(write, Add):
                int(self.store.hashes.get(write.key, {}).get(write.field, "0"))

    def _count_up(self, step: Step) -> int:
        if not step.counter:
            return 0
        counters = self.store.hashes.setdefault(self._keys.at(step.partition, "generations"), {})
        generation = int(counters.get(step.counter, "0")) + 1
        counters[step.counter] = str(generation)
        return generation

    def _write(self, write: Write, generation: int) -> None:
        match write:
            case Put(key, value, seconds):
                self.store.values[key] = _resolved(value, generation)
                self.store.expiries.pop(key, None)
                if seconds is not None:
                    self.store.expiries[key] = self._monotonic() + seconds
            case Drop(key):
                for kind in (self.store.values, self.store.hashes, self.store.indexes, self.store.expiries):
                    kind.pop(key, None)
            case PutField(key, field, value):
                self.store.hashes.setdefault(key, {})[field] = _resolved(value, generation)
            case DropField(key, field):
                self.store.hashes.get(key, {}).pop(field, None)
            case Add(key, field, by):
                found = self.store.hashes.setdefault(key, {})
                found[field] = str(int(found.get(field, "0")) + by)
            case Index(key, member, score):
                self.store.indexes.setdefault(key, {})[member] = score
            case Unindex(key, member):
                self.store.indexes.get(key, {}).pop(member, None)
            case _:
                assert_never(write)

    def _append(self, partition: str, draft: Draft, generation: int) -> None:
        sequences = self.store.hashes.setdefault(self._keys.at(partition, "sequences"), {})
        counter = f"{draft.topic}|{draft.project}"
        sequence = int(sequences.get(counter, "0")) + 1
        sequences[counter] = str(sequence)
        name = self._keys.lane(partition, draft.stream)
        lane = self.store.lanes.setdefault(name, _Lane())
        if not lane.entries:
            self._wake(name)
        lane.last += 1
        lane.entries.append(LaneEntry(lane.last, draft.id, draft.subject, draft.finished(sequence, generation)))
        self._told(name)

    def _wake(self, lane: str) -> None:
        for own, queue in self.store.listeners.values():
            if own in lane:
                queue.put_nowait(lane)


def _to_nobody(_lane: str) -> None:
    """Until somebody heeds."""


def _kind_of(write: Write) -> str:
    match write:
        case Put():
            return "value"
        case PutField() | DropField() | Add():
            return "hash"
        case Index() | Unindex():
            return "index"
        case Drop():
            return "anything"
        case _:
            assert_never(write)


def _resolved(value: Value, generation: int) -> str:
    return str(generation) if isinstance(value, Stamp) else value
