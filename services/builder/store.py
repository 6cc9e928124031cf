"""What the builder remembers: build records, each replaced by compare-and-set together with what is said about it."""

from collections.abc import Callable, Sequence

from services.builder.record import Record
from shared.events import Cause, Event
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import Index, Keys, Moved, Put, State, Step, ValueIs

_TRIES = 20


class BuildUnknown(Exception):
    """There is no such build."""


class Builds:
    """The records of all builds."""

    def __init__(self, state: State, outbox: Outbox, keys: Keys) -> None:
        """The parts come from `app.py`."""
        self._state = state
        self._outbox = outbox
        self._keys = keys

    async def create(self, record: Record, events: Sequence[Event], cause: Cause) -> Record:
        """Write a new record and say so; the same request twice makes one build."""
        key = self._key(record.project, record.id)
        done = await self._state.apply(
            Step(
                partition=partition_of(record.project),
                request=f"{cause.id}/create",
                checks=(ValueIs(key, None),),
                writes=(
                    Put(key, record.model_dump_json()),
                    Index(self._index(record.project), record.id, record.created_at),
                ),
                drafts=self._outbox.drafts(events, cause),
                answer=record.id,
            )
        )
        return await self.get(record.project, done.answer) if done.again else record

    async def say(self, project: str, events: Sequence[Event], cause: Cause) -> None:
        """Say what changes no record."""
        drafts = self._outbox.drafts(events, cause)
        await self._state.apply(Step(partition=partition_of(project), request=f"{cause.id}/say", drafts=drafts))

    async def get(self, project: str, build: str) -> Record:
        """One record. Raises BuildUnknown."""
        found = await self._state.value(self._key(project, build))
        if found is None:
            raise BuildUnknown(build)
        return Record.model_validate_json(found)

    async def newest(self, project: str, before: float, limit: int) -> list[Record]:
        """Records older than `before` (Unix time), newest first."""
        ranked = await self._state.ranked(self._index(project), low=0, high=before, limit=100_000)
        return [await self.get(project, build) for build, _ in reversed(ranked[-limit:])]

    async def change(
        self,
        project: str,
        build: str,
        change: Callable[[Record], tuple[Record, Sequence[Event]] | None],
        cause: Cause,
        label: str,
    ) -> Record:
        """Replace a record by what `change` makes of it, together with its events; None leaves it as it is.

        `label` tells the steps of one cause apart: a change done twice under the same label is done once.
        """
        for _ in range(_TRIES):
            found = await self._state.value(self._key(project, build))
            if found is None:
                raise BuildUnknown(build)
            record = Record.model_validate_json(found)
            changed = change(record)
            if changed is None:
                return record
            try:
                return await self._replace(found, changed, cause, label)
            except Moved:
                continue
        raise Moved

    async def _replace(self, found: str, changed: tuple[Record, Sequence[Event]], cause: Cause, label: str) -> Record:
        record, events = changed
        key = self._key(record.project, record.id)
        own = Cause(id=f"{cause.id}/{label}", actor=cause.actor, traceparent=cause.traceparent)
        done = await self._state.apply(
            Step(
                partition=partition_of(record.project),
                request=own.id,
                checks=(ValueIs(key, found),),
                writes=(Put(key, record.model_dump_json()),),
                drafts=self._outbox.drafts(events, own),
            )
        )
        # Where another replica has done it under the same label, what that one wrote is what counts.
        return await self.get(record.project, record.id) if done.again else record

    def _key(self, project: str, build: str) -> str:
        return self._keys.of(project, "build", build)

    def _index(self, project: str) -> str:
        return self._keys.of(project, "builds")
