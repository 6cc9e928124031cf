"""The sweep: plans made, written down and, unless they are tries, turned into jobs for the owner of the images."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

import structlog

from services.cleanup.jobs import jobs, names_in, plan_json, planned
from services.cleanup.plan import Plan, plan
from services.cleanup.policies import CleanupPolicy
from services.cleanup.repositories import Repositories, policies_of
from services.cleanup.runs import Run
from services.cleanup.store import Change, Place, Store
from services.cleanup.versions import Name
from shared.blobs import Blobs, BucketUnavailable
from shared.clock import Clock, Cpu, Ids, rfc3339
from shared.events import Cause, Event
from shared.events.audit import AuditSystem
from shared.events.cleanups import CleanupCompleted
from shared.http.entries import Asked, Origin, log_entry
from shared.identity.caller import Caller
from shared.state import LaneFull, Moved, StateUnavailable

MOST_VERSIONS = 5_000
"""One run asks for; more is left to the next."""
MOST_WAIT = 900.0
"""Seconds until what is not gone counts as kept by its owner."""

_LOG = structlog.get_logger("sweep")


@dataclass(frozen=True)
class Wish:
    """A run that somebody, or the clock, wants."""

    run: str
    dry_run: bool
    policies: Mapping[str, CleanupPolicy]
    cause: Cause
    events: Sequence[Event] = field(default_factory=tuple[Event, ...])
    """Said in the same step: the audit entry of who wants it."""
    periodic: tuple[str | None, str] | None = None


@dataclass(frozen=True)
class Habits:
    """How careful."""

    running_seconds: float
    """Images admitted within this time are taken to run still."""


class Sweeper:
    """Makes plans and runs."""

    def __init__(self, store: Store, blobs: Blobs, clock: Clock, cpu: Cpu, habits: Habits) -> None:
        self._store = store
        self._blobs = blobs
        self._clock = clock
        self._cpu = cpu
        self._habits = habits

    async def plan(self, place: Place, policies: Mapping[str, CleanupPolicy]) -> Plan:
        """What would go now."""
        now = self._clock.now()
        versions = await self._store.versions(place, now, self._habits.running_seconds)
        return await self._cpu(lambda: plan(versions, policies, now))

    async def run(self, place: Place, wish: Wish) -> Run:
        """Plan, write the plan down, and ask for what it says. Raises Moved when another replica was faster."""
        found = await self.plan(place, wish.policies)
        doomed = found.doomed[:MOST_VERSIONS]
        name = f"cleanup/plans/{place.project}/{place.location}/{place.repository}/{wish.run}.json"
        await self._blobs.put(name, plan_json(found))
        run = Run(
            id=wish.run,
            name=f"{place.resource}/cleanupRuns/{wish.run}",
            state="PLANNED" if wish.dry_run else "RUNNING" if doomed else "DONE",
            dry_run=wish.dry_run,
            count=len(doomed),
            size_bytes=sum(version.size for version, _ in doomed),
            more=len(found.doomed) > len(doomed),
            plan_object=name,
            started=rfc3339(self._clock.now()),
        )
        events = [planned(place, run), *([] if wish.dry_run else jobs(place, run, doomed)), *wish.events]
        await self._store.begin(place, run, Change(f"run {wish.run}", wish.cause, events), wish.periodic)
        return run

    async def settle(self, place: Place, run_id: str) -> bool:
        """End a run when everything it asked for is gone, or its owner had time enough; whether it ended."""
        run = await self._store.run(place, run_id)
        if run is None or run.state != "RUNNING":
            await self._store.close(place, run_id)
            return True
        names = [Name(image, digest) for image, digest in names_in(await self._blobs.content(run.plan_object, 2**30))]
        left = [name for name in names[: run.count] if await self._store.is_there(place, name)]
        now = self._clock.now()
        if left and now - _seconds(run.started) < MOST_WAIT:
            return False
        deleted = run.count - len(left)
        after = run.model_copy(
            update={"state": "DONE", "deleted": deleted, "spared": len(left), "finished": rfc3339(now)}
        )
        cause = Cause(id=f"settle {place.resource} {run.id}")
        event = CleanupCompleted(
            project=place.project,
            location=place.location,
            repository=place.repository,
            run=run.id,
            requested=run.count,
            deleted=deleted,
        )
        await self._store.finish(place, run, after, Change(cause.id, cause, [event]))
        return True


@dataclass(frozen=True)
class SweepLoop:
    """Runs what is due. All replicas do; the record of the last run decides which of them begins one."""

    sweeper: Sweeper
    store: Store
    repositories: Repositories
    clock: Clock
    ids: Ids
    interval: float

    async def run(self, seconds: float) -> None:
        """For ever."""
        while True:
            await self.clock.sleep(seconds)
            await self.once()

    async def once(self) -> None:
        """One round over all repositories."""
        try:
            for project in self.repositories.projects():
                for place, run in await self.store.open_runs(project):
                    await self.sweeper.settle(place, run)
            for place, fact in self.repositories.with_policies():
                policies = policies_of(fact)
                if policies:
                    await self._run_if_due(place, policies, dry_run=fact.cleanup_policy_dry_run)
        except (Moved, LaneFull, StateUnavailable, BucketUnavailable) as error:
            _LOG.warning("sweep put off", error=type(error).__name__)

    async def _run_if_due(self, place: Place, policies: Mapping[str, CleanupPolicy], *, dry_run: bool) -> None:
        before, now = await self.store.last(place), self.clock.now()
        if before is None:  # the first run comes after one interval: whoever set a policy has time to look at its plan
            await self.store.first_seen(place, str(now))
            return
        if now - float(before) < self.interval:
            return
        run = self.ids.new()
        entry = _system_entry(place, run, now, dry_run=dry_run)
        wish = Wish(run, dry_run, policies, Cause(id=run), (entry,), (before, str(now)))
        try:
            await self.sweeper.run(place, wish)
        except Moved:
            return  # another replica began it


def _system_entry(place: Place, run: str, now: float, *, dry_run: bool) -> AuditSystem:
    asked = Asked(
        method="entrepot.cleanup.v1.Run",
        resource=place.resource,
        request={"run": run, "dryRun": dry_run},
        location=place.location,
    )
    origin = Origin("cleanup", Caller("system:cleanup"), "", "", "")
    entry = log_entry("system_event", place.project, origin, asked, now=now, insert_id=run)
    return AuditSystem(project=place.project, location=place.location, producer="cleanup", entry=entry)


def _seconds(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()
