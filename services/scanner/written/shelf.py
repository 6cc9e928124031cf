"""Where notes and occurrences that callers wrote are kept: a small record of each, and its content as an object."""

from collections.abc import Mapping, Sequence
from typing import Literal

import orjson
from pydantic import BaseModel, ConfigDict

from services.scanner.objects import Objects
from services.scanner.written.kinds import Json
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
    PutField,
    State,
    Step,
    Unindex,
    Write,
)

Kind = Literal["notes", "occurrences"]
_LIMIT = 2 * 1024 * 1024


class Entry(BaseModel):
    """A note or an occurrence, as far as lists ask for it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    kind: str
    object: str
    """Where its content lies; another one after each change."""
    note: str = ""
    """Of an occurrence: `projects/P/notes/N`."""
    path: str = ""
    """Of an occurrence: what its resource URI says behind the host."""
    severity: str = ""
    created: str = ""
    updated: str = ""

    def place(self, own: str) -> str:
        """Where it stands in its list: occurrences by what they are about, then by id."""
        return f"{self.path}\n{own}"


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

    async def put(self, project: str, changed: Mapping[str, tuple[Kept[Entry] | None, Entry]], change: Change) -> None:
        """Write entries in one step, each in place of what it was before. Raises Moved."""
        checks: list[Check] = []
        writes: list[Write] = []
        for own, (before, after) in changed.items():
            checks += [self._is_as(project, own, before), *self._objects.last(project, after.object)]
            writes += [
                PutField(self._entries(project), own, after.model_dump_json(exclude_defaults=True)),
                Index(self._list(project), after.place(own)),
                *self._objects.instead(project, before.thing.object if before else "", after.object, own),
            ]
        await self._apply(project, checks, writes, change)

    async def drop(self, project: str, own: str, before: Kept[Entry], change: Change) -> None:
        """Delete one of them. Raises Moved."""
        writes: list[Write] = [
            DropField(self._entries(project), own),
            Unindex(self._list(project), before.thing.place(own)),
            *self._objects.instead(project, before.thing.object, "", own),
        ]
        await self._apply(project, [self._is_as(project, own, before)], writes, change)

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
