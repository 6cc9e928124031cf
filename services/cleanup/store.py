"""What cleanup remembers: versions and tags of each repository, what runs, and its own runs."""

import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Literal, Self, TypeVar

from services.cleanup.runs import Run
from services.cleanup.versions import Name, Running, TagRecord, Version, VersionRecord
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import (
    Change,
    Check,
    Drop,
    DropField,
    FieldIs,
    Fold,
    Index,
    Keys,
    Moved,
    Put,
    PutField,
    State,
    Step,
    Unindex,
    ValueIs,
    Write,
    learn,
)

R = TypeVar("R", VersionRecord, TagRecord, Running)
Kind = Literal["version", "tag", "running"]
_RECORDS: dict[Kind, str] = {"version": "versions", "tag": "tags", "running": "running"}

PAGE = 500
KEPT_RUNS = 100
TOMBSTONE_SECONDS = 40 * 86_400.0
"""Longer than events can be late: their stream keeps them for 31 days."""


@dataclass(frozen=True)
class Place:
    """A repository."""

    project: str
    location: str
    repository: str

    @property
    def resource(self) -> str:
        """Its full name."""
        return f"projects/{self.project}/locations/{self.location}/repositories/{self.repository}"


@dataclass(frozen=True)
class Times:
    """Seconds that begin with a run, measured by the state store."""

    wait: int
    """How long the owner of the images has to do what it is asked for."""
    rest: int = 0
    """Until the next periodic run may begin; 0: this is none."""


@dataclass(frozen=True)
class Schedule:
    """For which policies a repository is cleaned periodically."""

    created: str
    """When the repository was made: another one of that name has other policies."""
    generation: int = 0
    """Of the last word on the repository when its policies were first seen."""

    @classmethod
    def read(cls, raw: str) -> Self:
        """A schedule as it is kept."""
        created, _, generation = raw.partition(" ")
        return cls(created, int(generation or 0))

    def stored(self) -> str:
        """The schedule as it is kept."""
        return f"{self.created} {self.generation}" if self.generation else self.created


class Store:
    """Cleanup's records over a state store."""

    def __init__(self, state: State, keys: Keys, outbox: Outbox) -> None:
        self._state = state
        self._keys = keys
        self._outbox = outbox

    # What was heard.

    def version(self, place: Place, name: Name, become: Callable[[str | None], str | None]) -> Fold:
        """A change of what is known of a version."""
        return self._fold(place, "version", _member(name), become)

    def tag(self, place: Place, image: str, tag: str, become: Callable[[str | None], str | None]) -> Fold:
        """A change of what is known of a tag."""
        return self._fold(place, "tag", f"{image}:{tag}", become)

    def running(self, place: Place, name: Name, become: Callable[[str | None], str | None]) -> Fold:
        """A change of what is known to run."""
        return self._fold(place, "running", _member(name), become)

    async def learn(self, project: str, request: str, folds: Sequence[Fold]) -> None:
        """Write facts in one step, again from the start when somebody else wrote one of them meanwhile."""
        await learn(self._state, partition_of(project), request, folds)

    # What a plan needs.

    async def versions(self, place: Place, now: float, running_seconds: float) -> list[Version]:
        """All versions that are there, with their tags."""
        tags: dict[Name, list[str]] = {}
        async for member, tag in self._all(place.project, self._kind(place, "tag"), TagRecord, now):
            image, _, own = member.rpartition(":")
            tags.setdefault(Name(image, tag.digest), []).append(own)
        runs = await self._where_it_runs(place, now - running_seconds)
        found: list[Version] = []
        gone: set[Name] = set()
        async for member, record in self._all(place.project, self._kind(place, "version"), VersionRecord, now):
            name = name_of(member)
            if record.deleted:
                gone.add(name)
            elif not record.awaits_push:
                found.append(_version(name, record, tuple(sorted(tags.get(name, ()))), runs.get(member, "")))
        return [
            replace(version, orphaned=any(Name(version.name.image, subject) in gone for subject in version.subjects))
            for version in found
        ]

    async def is_there(self, place: Place, name: Name) -> bool:
        """Whether a version is known and not deleted."""
        raw = await self._state.field(self._key(place, "versions"), _member(name))
        return raw is not None and not VersionRecord.model_validate_json(raw).deleted

    async def _where_it_runs(self, place: Place, since: float) -> dict[str, str]:
        found: dict[str, str] = {}
        hash_key, index = self._kind(place, "running")
        async for member, raw in self._pages(hash_key, index):
            running = Running.model_validate_json(raw)
            if running.when >= since:
                found[member] = running.where
            else:
                await self._forget(place.project, hash_key, index, member, raw)
        return found

    def _fold(self, place: Place, kind: Kind, member: str, become: Callable[[str | None], str | None]) -> Fold:
        key, index = self._kind(place, kind)
        return Fold(key, member, become, (Index(index, member),))

    def _kind(self, place: Place, kind: Kind) -> tuple[str, str]:
        """The records of a kind, and the index of their names."""
        return self._key(place, _RECORDS[kind]), self._key(place, f"{kind}_names")

    async def _all(
        self, project: str, keys: tuple[str, str], record: type[R], now: float
    ) -> AsyncIterator[tuple[str, R]]:
        """All records of a kind; tombstones that nothing can be late for any more go on the way."""
        async for member, raw in self._pages(*keys):
            found = record.model_validate_json(raw)
            if _is_old_tombstone(found, now):
                await self._forget(project, *keys, member, raw)
            else:
                yield member, found

    async def _pages(self, hash_key: str, index: str) -> AsyncIterator[tuple[str, str]]:
        after = ""
        while members := await self._state.members(index, after=after, limit=PAGE):
            after = members[-1]
            for member, raw in zip(members, await self._state.fields(hash_key, members), strict=True):
                if raw is not None:
                    yield member, raw

    async def _forget(self, project: str, hash_key: str, index: str, member: str, raw: str) -> None:
        writes = (DropField(hash_key, member), Unindex(index, member))
        request = f"forget {hashlib.sha256(f'{hash_key} {member} {raw}'.encode()).hexdigest()[:32]}"
        try:
            await self._state.apply(Step(partition_of(project), request, (FieldIs(hash_key, member, raw),), writes))
        except Moved:
            return  # it was heard of again just now

    # Runs.

    async def run(self, place: Place, run: str) -> Run | None:
        """One run."""
        raw = await self._state.field(self._key(place, "runs"), run)
        return None if raw is None else Run.model_validate_json(raw)

    async def runs(self, place: Place) -> list[Run]:
        """The last runs, newest first."""
        found = await self._state.record(self._key(place, "runs"))
        return [Run.model_validate_json(found[run]) for run in sorted(found, reverse=True)]

    async def rests(self, place: Place) -> bool:
        """Whether no periodic run is due: the rest after the last one is not over yet.

        The state store measures it, so that no replica's clock and no restart makes it shorter or longer.
        """
        return await self._state.value(self._key(place, "rest")) is not None

    async def follows(self, place: Place) -> Schedule | None:
        """What periodic runs of a repository are kept for; None: there are none."""
        raw = await self._state.field(self._followed(place.project), _repository(place))
        return None if raw is None else Schedule.read(raw)

    async def schedules(self, project: str) -> dict[Place, Schedule]:
        """Repositories of a project that have periodic runs."""
        found = await self._state.record(self._followed(project))
        return {Place(project, *name.split("/")): Schedule.read(raw) for name, raw in found.items()}

    async def follow(self, place: Place, before: Schedule | None, after: Schedule, rest: int, request: str) -> None:
        """Begin with a rest: whoever sets policies has time to look at the plan. Raises Moved."""
        followed = self._followed(place.project)
        check = FieldIs(followed, _repository(place), before.stored() if before else None)
        writes = (PutField(followed, _repository(place), after.stored()), Put(self._key(place, "rest"), request, rest))
        await self._state.apply(Step(partition_of(place.project), request, (check,), writes))

    async def unfollow(self, place: Place, schedule: Schedule) -> None:
        """End periodic runs, with the rest that was kept for them. Raises Moved."""
        followed, raw = self._followed(place.project), schedule.stored()
        check = FieldIs(followed, _repository(place), raw)
        writes = (DropField(followed, _repository(place)), Drop(self._key(place, "rest")))
        request = f"unfollow {_repository(place)} {raw}"
        await self._state.apply(Step(partition_of(place.project), request, (check,), writes))

    async def waits(self, place: Place, run: str) -> bool:
        """Whether the owner of the images has time yet to do what a run asked for."""
        return await self._state.value(self._key(place, "wait", run)) is not None

    async def begin(self, place: Place, run: Run, change: Change, times: Times) -> None:
        """Write a run down, and say what it asks for. Raises Moved, also when another replica began a periodic one."""
        runs = self._key(place, "runs")
        checks: list[Check] = [FieldIs(runs, run.id, None)]
        writes: list[Write] = [PutField(runs, run.id, run.stored())]
        known = sorted(await self._state.record(runs))
        writes += [DropField(runs, old) for old in known[: max(0, len(known) + 1 - KEPT_RUNS)]]
        if run.state == "RUNNING":
            writes.append(Index(self._open(place.project), f"{_repository(place)}/{run.id}"))
            writes.append(Put(self._key(place, "wait", run.id), run.id, times.wait))
        if times.rest:
            checks.append(ValueIs(self._key(place, "rest"), None))
            writes.append(Put(self._key(place, "rest"), run.id, times.rest))
        await self._apply(place.project, checks, writes, change)

    async def open_runs(self, project: str) -> list[tuple[Place, str]]:
        """Runs whose jobs are not known to be done."""
        members = await self._state.members(self._open(project))
        parts = (member.split("/") for member in members)
        return [(Place(project, location, repository), run) for location, repository, run in parts]

    async def finish(self, place: Place, before: Run, after: Run, change: Change) -> None:
        """Write down how a run ended, and say so. Raises Moved."""
        runs = self._key(place, "runs")
        checks = [FieldIs(runs, before.id, before.stored())]
        open_run = Unindex(self._open(place.project), f"{_repository(place)}/{before.id}")
        await self._apply(place.project, checks, [PutField(runs, after.id, after.stored()), open_run], change)

    async def close(self, place: Place, run: str) -> None:
        """Take a run that is forgotten off the list of open ones."""
        member = f"{_repository(place)}/{run}"
        step = Step(
            partition_of(place.project), f"close {member}", writes=(Unindex(self._open(place.project), member),)
        )
        await self._state.apply(step)

    async def _apply(self, project: str, checks: Sequence[Check], writes: Sequence[Write], change: Change) -> None:
        drafts = self._outbox.drafts(change.events, change.cause)
        await self._state.apply(Step(partition_of(project), change.request, tuple(checks), tuple(writes), drafts))

    def _key(self, place: Place, kind: str, *more: str) -> str:
        return self._keys.of(place.project, kind, place.location, place.repository, *more)

    def _followed(self, project: str) -> str:
        return self._keys.of(project, "followed")

    def _open(self, project: str) -> str:
        return self._keys.of(project, "open")


def _repository(place: Place) -> str:
    return f"{place.location}/{place.repository}"


def _member(name: Name) -> str:
    return f"{name.image}@{name.digest}"


def name_of(member: str) -> Name:
    """The name in `IMAGE@DIGEST`; without an image where there is no `@`."""
    image, _, digest = member.rpartition("@")
    return Name(image, digest)


def _version(name: Name, record: VersionRecord, tags: tuple[str, ...], running: str) -> Version:
    return Version(
        name=name,
        generation=record.generation,
        uploaded=datetime.fromisoformat(record.uploaded).timestamp(),
        size=record.size,
        tags=tags,
        subject=record.subject,
        children=record.children,
        running=running,
        pulled=record.pulled,
    )


def _is_old_tombstone(record: VersionRecord | TagRecord | Running, now: float) -> bool:
    if isinstance(record, Running):
        return False
    gone = record.deleted if isinstance(record, VersionRecord) else not record.digest
    return gone and record.changed < now - TOMBSTONE_SECONDS
