"""The sweep: plans made, written down and, unless they are tries, turned into jobs for the owner of the images."""

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from math import ceil

import structlog

from services.cleanup.calendar import Calendar
from services.cleanup.jobs import jobs, names_in, plan_json, planned
from services.cleanup.plan import Plan, plan
from services.cleanup.repositories import Repositories, fingerprint_of, policies_of
from services.cleanup.runs import Run
from services.cleanup.store import Place, Schedule, Store, Times
from services.cleanup.versions import Name
from shared.blobs import BlobMissing, Blobs, BucketUnavailable
from shared.cleanup_policies import CleanupPolicy
from shared.clock import Clock, Cpu, Ids, rfc3339
from shared.events import Cause, Event
from shared.events.audit import AuditSystem
from shared.events.cleanups import CleanupCompleted
from shared.events.images import RepositoryState
from shared.http.entries import Asked, Origin, log_entry
from shared.identity.caller import Caller
from shared.state import Change, LaneFull, Moved, StateUnavailable

MOST_VERSIONS = 5_000
"""One run asks for; more is left to the next."""
MOST_WAIT = 900
"""Seconds until what is not gone counts as kept by its owner."""
PLAN_GONE = "its plan is gone from the bucket: what was deleted of what it asked for is not known"

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
    rest: int = 0
    """Seconds until the next periodic run; 0: this is none."""
    fingerprint: str = ""
    """Of the policies, where they are the repository's own and count only as long as they are."""


@dataclass(frozen=True)
class Habits:
    """How careful."""

    running_seconds: float
    """Images admitted within this time are taken to run still."""


class Sweeper:
    """Makes plans and runs."""

    def __init__(  # noqa: PLR0913, PLR0917 - what a sweep stands on
        self, store: Store, blobs: Blobs, repositories: Repositories, clock: Clock, cpu: Cpu, habits: Habits
    ) -> None:
        self._store = store
        self._repositories = repositories
        self._blobs = blobs
        self._clock = clock
        self._calendar = Calendar(clock)
        self._cpu = cpu
        self._habits = habits

    async def plan(self, place: Place, policies: Mapping[str, CleanupPolicy]) -> Plan:
        """What would go now."""
        now = self._calendar.now()
        versions = await self._store.versions(place, now, self._habits.running_seconds)
        rules = self._repositories.tag_rules(place)
        return await self._cpu(lambda: plan(versions, policies, now, rules))

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
        events = [
            planned(place, run),
            *([] if wish.dry_run else jobs(place, run, wish.fingerprint, doomed)),
            *wish.events,
        ]
        times = Times(MOST_WAIT, wish.rest)
        await self._store.begin(place, run, Change(f"run {wish.run}", wish.cause, events), times)
        return run

    async def settle(self, place: Place, run_id: str) -> bool:
        """End a run when everything it asked for is gone, or its owner had time enough; whether it ended."""
        run = await self._store.run(place, run_id)
        if run is None or run.state != "RUNNING":
            await self._store.close(place, run_id)
            return True
        names = await self._asked_for(run)
        left = [name for name in names or () if await self._store.is_there(place, name)]
        if left and await self._store.waits(place, run_id):
            return False
        deleted = 0 if names is None else run.count - len(left)
        told = {
            "state": "DONE",
            "deleted": deleted,
            "spared": len(left),
            "finished": rfc3339(self._clock.now()),
            "reason": PLAN_GONE if names is None else "",
        }
        after = run.model_copy(update=told)
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

    async def _asked_for(self, run: Run) -> list[Name] | None:
        """What a run asked to delete; None where its plan is gone or cannot be read, which must hinder no other run."""
        try:
            names = names_in(await self._blobs.content(run.plan_object, 2**30))
        except (BlobMissing, ValueError, LookupError) as error:
            _LOG.warning("plan gone", run=run.name, reason=f"{type(error).__name__}: {error}")
            return None
        return [Name(image, digest) for image, digest in names[: run.count]]


@dataclass(frozen=True)
class SweepLoop:
    """Runs what is due. All replicas do; the step that begins a run, and the rest after it, is one replica's."""

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
                await self._forget_schedules(project)
            for place, fact in self.repositories.with_policies():
                policies = policies_of(fact)
                if policies:
                    await self._run_if_due(place, fact, policies)
        except (Moved, LaneFull, StateUnavailable, BucketUnavailable) as error:
            _LOG.warning("sweep put off", error=type(error).__name__)

    async def _forget_schedules(self, project: str) -> None:
        """Policies that come back, or come to a new repository of that name, begin with a rest of their own."""
        scheduled = {place for place, _ in self.repositories.with_policies()}
        for place, schedule in (await self.store.schedules(project)).items():
            # A replica that has not heard of these policies yet has nothing to say about them.
            if place not in scheduled and schedule.generation < self.repositories.generation(place):
                with suppress(Moved):  # another replica did
                    await self.store.unfollow(place, schedule)

    async def _run_if_due(self, place: Place, fact: RepositoryState, policies: Mapping[str, CleanupPolicy]) -> None:
        if await self.store.rests(place):
            return
        followed, run, rest = await self.store.follows(place), self.ids.new(), ceil(self.interval)
        try:
            if followed is None or followed.created != fact.created:  # another repository of that name had its own
                schedule = Schedule(fact.created, self.repositories.generation(place))
                await self.store.follow(place, followed, schedule, rest, run)
                return
            dry_run = fact.cleanup_policy_dry_run
            entry = _system_entry(place, run, self.clock.now(), dry_run=dry_run)
            wish = Wish(run, dry_run, policies, Cause(id=run), (entry,), rest, fingerprint_of(fact))
            await self.sweeper.run(place, wish)
        except Moved:
            return  # another replica did


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
