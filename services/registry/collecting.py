"""Clearing what nothing holds any more, beside all other work.

Repositories forget blobs that no manifest refers to, and bytes go that no repository holds.
What may go was entered in the index of what is `due` by the step that let it go. Bytes are marked in a step that fails
where anything uses them; from then on no step comes to use them. Whoever stores the same bytes again meanwhile sees the
mark in his own step, and looks whether they are there. A mark goes by itself where the collector dies: it then stands
for longer than any request to the bucket takes, so that no late deletion finds bytes that somebody counts on.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from services.registry.acts import Steps
from services.registry.counting import Counting
from services.registry.holdings import Holdings
from services.registry.layout import BLOBS, LOOSE, MANIFESTS
from services.registry.ledger import GOING, GONE
from services.registry.store import Store
from services.registry.voice import Voice
from shared.blobs import Blobs
from shared.clock import Ids
from shared.digest import Digest
from shared.events import Cause, Event
from shared.events.audit import AuditSystem
from shared.http.entries import Asked, Origin, log_entry
from shared.identity.caller import Caller
from shared.names import blob_object, manifest_object
from shared.state import (
    Check,
    FieldIs,
    IsEmpty,
    IsMember,
    Lease,
    Moved,
    Put,
    ScoreIs,
    Step,
    Unindex,
    ValueIs,
    Write,
)

BATCH = 100
"""What is marked, cleared and forgotten together."""
MOST = 1000
"""What is looked at in one turn of a partition."""
GONE_SECONDS = 3600
"""How long it is remembered that they are: longer than anybody takes from storing bytes to his step."""
LATE = 3
"""What took longer than this part of the time that a mark stands may not be over: the mark stays."""
_LEASE_SECONDS = 60.0

_log = structlog.get_logger("registry")


@dataclass
class Tally:
    """What this replica has done since it started."""

    forgotten: int = 0
    """Blobs that repositories forgot."""
    freed: int = 0
    """Bytes of them."""
    cleared: int = 0
    """Objects that went from the bucket."""
    would: int = 0
    """What would have gone in the last turn, were this not a dry run."""
    searched: int = 0
    """Objects that searches looked at."""


@dataclass(frozen=True)
class _Due:
    """Something whose time has come."""

    member: str
    score: float
    kind: str
    project: str
    repository: str
    digest: Digest

    @classmethod
    def parse(cls, member: str, score: float) -> "_Due":
        kind, project, *repository, digest = member.split("/")
        return cls(member, score, kind, project, "".join(repository), Digest(digest))


@dataclass(frozen=True)
class _Act:
    """What is checked and written for one thing that is due."""

    due: _Due
    checks: tuple[Check, ...]
    writes: tuple[Write, ...]
    size: int = 0
    mark: tuple[str, str] = ("", "")
    """The key of the mark that is set, and its value."""


@dataclass(frozen=True)
class Collecting:
    """Clears what is due."""

    store: Store
    steps: Steps
    holdings: Holdings
    counting: Counting
    blobs: Blobs
    voice: Voice
    ids: Ids
    replica: str
    """Whom a partition is leased to."""
    stands: int = 900
    """Seconds for which a mark stands where nobody says that the bytes are gone."""
    dry: bool = False
    tally: Tally = field(default_factory=Tally)
    whole: set[str] = field(default_factory=set[str])
    """Projects of which every repository is counted."""

    async def once(self, partition: str) -> int:
        """Clear what is due in a partition, unless another replica does; how much went."""
        state, layout = self.store.state, self.store.layout
        now = self.steps.clock.now()
        found = await state.ranked(layout.due(partition), low=0, high=now, limit=MOST)
        if not found:
            return 0
        lease = Lease(layout.collector(partition), self.replica)
        if not await state.acquire(lease.lane, lease.token, _LEASE_SECONDS):
            return 0
        try:
            due = [_Due.parse(member, score) for member, score in found]
            done = await self._forget(partition, [one for one in due if one.kind == LOOSE])
            return done + await self._clear(partition, [one for one in due if one.kind != LOOSE])
        finally:
            await state.release(lease)

    # Repositories forget.

    async def _forget(self, partition: str, due: Sequence[_Due]) -> int:
        acts = [act for one in due if (act := await self._forgetting(partition, one)) is not None]
        if self.dry:
            self.tally.would += len(acts)
            return 0
        done = await self._together(partition, acts, announced=True)
        self.tally.forgotten += len(done)
        self.tally.freed += sum(act.size for act in done)
        return len(done)

    async def _forgetting(self, partition: str, due: _Due) -> _Act | None:
        """None where the blob stays: it is referred to, a file of its own, or gone already."""
        layout, place = self.store.layout, (due.project, due.repository)
        held, files, holders = layout.blobs(*place), layout.files(*place), layout.holders(*place, due.digest)
        size = await self.store.blob_size(*place, due.digest)
        if size is None:
            return await self._strike(partition, due, FieldIs(held, due.digest, None))
        holder = await self.store.blob_holders(*place, due.digest, 1)
        if holder:
            return await self._strike(partition, due, IsMember(holders, holder[0]))
        (note,) = await self.store.file_notes(*place, [due.digest])
        if note is not None:
            return await self._strike(partition, due, FieldIs(files, due.digest, note))
        checks = (FieldIs(held, due.digest, str(size)), IsEmpty(holders), FieldIs(files, due.digest, None))
        return _Act(due, checks, tuple(self.holdings.unwrites(*place, due.digest, size)), size)

    # Bytes go.

    async def _clear(self, partition: str, due: Sequence[_Due]) -> int:
        cleared = 0
        for start in range(0, len(due), BATCH):
            acts = [act for one in due[start : start + BATCH] if (act := await self._marking(partition, one))]
            if self.dry:
                self.tally.would += len(acts)
                continue
            began = self.steps.clock.monotonic()
            marked = await self._together(partition, acts)
            await self.blobs.delete_all([_object(act.due) for act in marked])
            if self.steps.clock.monotonic() - began < self.stands / LATE:
                await self._together(partition, [self._gone(act) for act in marked])
            cleared += len(marked)
            self.tally.cleared += len(marked)
        return cleared

    async def _marking(self, partition: str, due: _Due) -> _Act | None:
        """None where something uses the bytes, or a collector that died may still be about to clear them."""
        if due.kind == MANIFESTS and not await self._is_whole(due.project):
            return None
        layout, state = self.store.layout, self.store.state
        uses, mark = layout.uses(due.project, due.digest, due.kind), layout.clearing(due.project, due.kind, due.digest)
        users = await state.members(uses, limit=1)
        if users:
            return await self._strike(partition, due, IsMember(uses, users[0]))
        before = await state.value(mark)
        if before is not None and before.startswith(GOING):
            return None
        going = f"{GOING} {self.ids.new()}"
        put = Put(mark, going, self.stands)
        return _Act(due, (IsEmpty(uses), ValueIs(mark, before)), (put,), mark=(mark, going))

    def _gone(self, marked: _Act) -> _Act:
        key, going = marked.mark
        gone = Put(key, going.replace(GOING, GONE, 1), GONE_SECONDS)
        struck = Unindex(self.store.layout.due_of(marked.due.project), marked.due.member)
        return _Act(marked.due, (ValueIs(key, going),), (gone, struck))

    async def _is_whole(self, project: str) -> bool:
        if project not in self.whole and not await self.counting.uncounted(project):
            self.whole.add(project)
        return project in self.whole

    # Steps.

    async def _strike(self, partition: str, due: _Due, because: Check) -> None:
        """It stays, and is no longer due."""
        if not self.dry:
            struck = Unindex(self.store.layout.due(partition), due.member)
            await self._together(partition, [_Act(due, (because,), (struck,))])

    async def _together(self, partition: str, acts: Sequence[_Act], *, announced: bool = False) -> list[_Act]:
        """Those that were done: all in few steps, or each alone where something has changed meanwhile."""
        done: list[_Act] = []
        for batch in self._batches(acts):
            if await self._apply(partition, batch, announced=announced):
                done += batch
            elif len(batch) > 1:
                done += [act for act in batch if await self._apply(partition, [act], announced=announced)]
        return done

    def _batches(self, acts: Sequence[_Act]) -> list[list[_Act]]:
        """Of one project and repository each, so that one audit entry tells of a batch."""
        batches: list[list[_Act]] = []
        for act in sorted(acts, key=lambda act: act.due.member):
            last = batches[-1][0].due if batches else None
            if (
                last
                and len(batches[-1]) < BATCH
                and last.member.rpartition("/")[0] == act.due.member.rpartition("/")[0]
            ):
                batches[-1].append(act)
            else:
                batches.append([act])
        return batches

    async def _apply(self, partition: str, acts: Sequence[_Act], *, announced: bool) -> bool:
        layout = self.store.layout
        cause = Cause(self.ids.new())
        scores = [ScoreIs(layout.due(partition), act.due.member, act.due.score) for act in acts]
        checks = [*scores, *(check for act in acts for check in act.checks)]
        events = [self._entry(acts, cause)] if announced else []
        step = Step(
            partition,
            f"collect/{cause.id}",
            tuple(checks),
            tuple(write for act in acts for write in act.writes),
            tuple(self.steps.outbox.drafts(events, cause)),
        )
        try:
            await self.store.state.apply(step)
        except Moved:
            return False
        return True

    def _entry(self, acts: Sequence[_Act], cause: Cause) -> Event:
        due = acts[0].due
        asked = Asked(
            method="entrepot.registry.v1.ForgetBlobs",
            resource=self.voice.resource(due.project, due.repository),
            request={"digests": [act.due.digest for act in acts], "bytes": sum(act.size for act in acts)},
            location=self.voice.location,
        )
        origin = Origin("registry", Caller("system:registry"), "", "", "")
        entry = log_entry("system_event", due.project, origin, asked, now=self.steps.clock.now(), insert_id=cause.id)
        return AuditSystem(project=due.project, location=self.voice.location, producer="registry", entry=entry)


def _object(due: _Due) -> str:
    return (blob_object if due.kind == BLOBS else manifest_object)(due.project, due.digest)
