"""Where notes and occurrences that callers wrote are kept: a small record of each, and its content as an object."""

from collections.abc import Mapping, Sequence
from typing import Literal

import orjson

from services.scanner.objects import Objects
from services.scanner.written.entry import Entry
from services.scanner.written.kinds import Json
from services.scanner.written.tallies import Tally, accounts, counted
from shared.blobs import BlobMissing, Blobs
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import (
    Change,
    Check,
    DropField,
    FieldIs,
    Index,
    Kept,
    Keys,
    Moved,
    PutField,
    State,
    Step,
    Unindex,
    Write,
)

Kind = Literal["notes", "occurrences"]
Changed = Mapping[str, tuple[Kept[Entry] | None, Entry | None]]
"""Entries by id: as they were read, None for none, and as they become, None for one that goes."""
_LIMIT = 2 * 1024 * 1024
_TRIES = 16


class Shelf:
    """All written notes, or all written occurrences."""

    def __init__(self, kind: Kind, state: State, keys: Keys, outbox: Outbox, blobs: Blobs) -> None:
        self.kind: Kind = kind
        self._state = state
        self._keys = keys
        self._outbox = outbox
        self._blobs = blobs
        self._objects = Objects(state, keys)

    async def entry(self, project: str, own: str) -> Kept[Entry] | None:
        """One of them, by the last part of its name."""
        raw = await self._state.field(self._entries(project), own)
        return None if raw is None else Kept(Entry.model_validate_json(raw), raw)

    async def entries(self, project: str, names: Sequence[str]) -> dict[str, Entry]:
        """Several of them at once; those that are not there are left out."""
        found = await self._state.fields(self._entries(project), names) if names else []
        pairs = zip(names, found, strict=True)
        return {own: Entry.model_validate_json(raw) for own, raw in pairs if raw is not None}

    async def places(self, project: str, after: str, prefix: str, limit: int) -> list[str]:
        """A page of places in the list of a project."""
        return await self._state.members(self._list(project), after=after, prefix=prefix, limit=limit)

    async def content(self, project: str, own: str, entry: Entry) -> Json | None:
        """All that one of them says; None where it was changed or deleted since its entry was read."""
        try:
            content: Json = orjson.loads(await self._blobs.content(entry.object, _LIMIT))
        except BlobMissing:
            return None
        times = {"createTime": entry.created, "updateTime": entry.updated}
        return {"name": f"projects/{project}/{self.kind}/{own}", **content, **times}

    async def lay(self, project: str, own: str, content: Json, unique: str) -> str:
        """Store a content, which holds for nobody yet, and return where it lies."""
        name = f"scanner/{self.kind}/{project}/{own}/{unique}"
        await self._blobs.put(name, orjson.dumps(content))
        return name

    async def put(self, project: str, changed: Changed, change: Change) -> None:
        """Write or delete entries in one step, each in place of what it was before.

        Raises Moved where one of them is not as it was read, and ResourceExhausted.
        """
        for _ in range(_TRIES):
            tallies = await self._tallies(project, changed)
            try:
                return await self._put(project, changed, tallies, change)
            except Moved:
                if tallies == await self._tallies(project, changed):
                    raise
        raise Moved

    async def require_room(self, project: str, entries: Sequence[Entry]) -> None:
        """That there is room for new entries as things stand. Raises ResourceExhausted."""
        changed = {str(number): (None, entry) for number, entry in enumerate(entries)}
        counted(_read(await self._tallies(project, changed)), (), entries)

    async def _put(self, project: str, changed: Changed, tallies: Mapping[str, str | None], change: Change) -> None:
        key = self._keys.of(project, f"{self.kind}_tallies")
        checks: list[Check] = [FieldIs(key, field, raw) for field, raw in tallies.items()]
        writes: list[Write] = []
        for own, (before, after) in changed.items():
            checks += [self._is_as(project, own, before), *self._objects.last(project, after.object if after else "")]
            writes += self._writes(project, own, before, after)
        for field, tally in counted(_read(tallies), *_gone_and_come(changed)).items():
            writes.append(PutField(key, field, tally.stored()) if tally.count > 0 else DropField(key, field))
        await self._apply(project, checks, writes, change)

    def _writes(self, project: str, own: str, before: Kept[Entry] | None, after: Entry | None) -> list[Write]:
        old, new = before.thing.object if before else "", after.object if after else ""
        users = self._objects.instead(project, old, new, own)
        if after is not None:
            kept = PutField(self._entries(project), own, after.model_dump_json(exclude_defaults=True))
            return [kept, Index(self._list(project), after.place(own)), *users]
        dropped = [Unindex(self._list(project), before.thing.place(own))] if before else []
        return [DropField(self._entries(project), own), *dropped, *users]

    async def _tallies(self, project: str, changed: Changed) -> dict[str, str | None]:
        gone, come = _gone_and_come(changed)
        fields = accounts([*gone, *come])
        found = await self._state.fields(self._keys.of(project, f"{self.kind}_tallies"), fields) if fields else []
        return dict(zip(fields, found, strict=True))

    # Which occurrences hang on a note, perhaps of another project: a hint, as no step reaches both.

    async def hang(self, note: str, occurrences: Sequence[str], request: str) -> None:
        """Say that occurrences will hang on a note, before they do; one that never comes to be is passed over."""
        await self._hint(note, [Index(self._hanging(note), name) for name in occurrences], request)

    async def unhang(self, note: str, occurrence: str, request: str) -> None:
        """Say that an occurrence hangs on a note no longer."""
        await self._hint(note, [Unindex(self._hanging(note), occurrence)], request)

    async def hanging(self, note: str, after: str, limit: int) -> list[str]:
        """Names of occurrences that hang, or hung, on a note."""
        return await self._state.members(self._hanging(note), after=after, limit=limit)

    async def _hint(self, note: str, writes: Sequence[Write], request: str) -> None:
        await self._state.apply(Step(partition_of(_project_of(note)), request, writes=tuple(writes)))

    def _hanging(self, note: str) -> str:
        return self._keys.of(_project_of(note), "hanging", note.rpartition("/")[2])

    async def _apply(self, project: str, checks: Sequence[Check], writes: Sequence[Write], change: Change) -> None:
        drafts = self._outbox.drafts(change.events, change.cause)
        counter = f"{project}/{self.kind}"
        step = Step(partition_of(project), change.request, tuple(checks), tuple(writes), drafts=drafts, counter=counter)
        await self._state.apply(step)

    def _is_as(self, project: str, own: str, before: Kept[Entry] | None) -> Check:
        return FieldIs(self._entries(project), own, before.raw if before else None)

    def _entries(self, project: str) -> str:
        return self._keys.of(project, f"written_{self.kind}")

    def _list(self, project: str) -> str:
        return self._keys.of(project, f"{self.kind}_list")


def _project_of(name: str) -> str:
    return name.split("/")[1]


def _gone_and_come(changed: Changed) -> tuple[list[Entry], list[Entry]]:
    gone = [before.thing for before, _ in changed.values() if before]
    return gone, [after for _, after in changed.values() if after]


def _read(tallies: Mapping[str, str | None]) -> dict[str, Tally]:
    return {field: Tally.read(raw) for field, raw in tallies.items()}
