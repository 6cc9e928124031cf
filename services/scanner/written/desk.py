"""Writes notes and occurrences for callers: what the scanner found itself is out of their reach."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from services.scanner.catalog import Catalog
from services.scanner.places import path_of
from services.scanner.written.entry import Entry
from services.scanner.written.kinds import (
    DETAILS,
    NOTE_FIELDS,
    NOTE_NAME,
    OCCURRENCE_FIELDS,
    SIGNED,
    Json,
    Note,
    Occurrence,
    read,
    severity_of,
)
from services.scanner.written.shelf import Shelf
from shared.clock import Clock, Ids, rfc3339
from shared.events.scans import NoteChanged, OccurrenceChanged
from shared.http.call import Call
from shared.http.errors import AlreadyExists, FailedPrecondition, InvalidArgument, NotFound
from shared.http.iam import Policies
from shared.http.masks import apply_mask, check_paths
from shared.names import partition_of
from shared.state import Change, Kept, Moved, Step

ATTACH = "containeranalysis.notes.attachOccurrence"
RESERVED = ("CVE-", "PACKAGE_VULNERABILITY")
"""How notes of the scanner's own begin, also those of advisories that come later."""
_ANSWERED = ("name", "kind", "createTime", "updateTime")


@dataclass(frozen=True)
class Desk:
    """Each change is one step with what is said about it and its audit entry."""

    catalog: Catalog
    notes: Shelf
    occurrences: Shelf
    policies: Policies
    clock: Clock
    ids: Ids

    # Notes.

    async def make_notes(self, call: Call, project: str, bodies: Mapping[str, Json]) -> list[Json]:
        """Write new notes, all or none. Raises AlreadyExists, InvalidArgument."""
        said = {own: read(Note, body).said() for own, body in bodies.items()}
        for own in said:
            if not NOTE_NAME.fullmatch(f"projects/{project}/notes/{own}"):
                raise InvalidArgument("A note's id has 1 to 128 letters, digits, dots, dashes and underscores.")
            if own.upper().startswith(RESERVED) or await self.catalog.is_own_note(project, own):
                raise AlreadyExists(f"projects/{project}/notes/{own} is the scanner's own.")
        try:
            return await self._put_notes(call, project, {own: (None, content) for own, content in said.items()})
        except Moved as error:
            raise AlreadyExists(f"One of these notes exists already in projects/{project}.") from error

    async def change_note(self, call: Call, project: str, own: str, patch: Json, paths: Sequence[str]) -> Json:
        """Change the named fields of a note. Raises NotFound, FailedPrecondition, InvalidArgument, Moved."""
        kept, before = await self._note(project, own)
        allowed = (*NOTE_FIELDS, DETAILS[kept.thing.kind])
        after = read(Note, _changed(before, patch, paths, allowed)).said()
        return (await self._put_notes(call, project, {own: (kept, after)}))[0]

    async def drop_note(self, call: Call, project: str, own: str) -> None:
        """Delete a note; occurrences that hang on it stay. Raises NotFound, FailedPrecondition, Moved."""
        kept, _ = await self._note(project, own)
        name = f"projects/{project}/notes/{own}"
        await self._ungrant(call, project, name)
        said = [NoteChanged(project=project, note=name, kind=kept.thing.kind), call.activity(project=project)]
        await self.notes.put(project, {own: (kept, None)}, Change(f"{call.id}/note", call.cause, said))

    async def _note(self, project: str, own: str) -> tuple[Kept[Entry], Json]:
        name = f"projects/{project}/notes/{own}"
        if await self.catalog.is_own_note(project, own):
            raise FailedPrecondition(f"{name} is the scanner's own and changes with the advisories.")
        return await _kept(self.notes, project, own)

    async def _put_notes(
        self, call: Call, project: str, written: Mapping[str, tuple[Kept[Entry] | None, Json]]
    ) -> list[Json]:
        now = rfc3339(self.clock.now())
        entries: dict[str, tuple[Kept[Entry] | None, Entry]] = {}
        for own, (before, content) in written.items():
            laid = await self.notes.lay(project, own, content, call.id)
            created = before.thing.created if before else now
            entries[own] = before, Entry(kind=content["kind"], object=laid, created=created, updated=now)
        said = [
            NoteChanged(project=project, note=f"projects/{project}/notes/{own}", kind=entry.kind, object=entry.object)
            for own, (_, entry) in entries.items()
        ]
        activity = call.activity(project=project, request={"notes": [one.note for one in said][:50]})
        await self.notes.put(project, entries, Change(f"{call.id}/notes", call.cause, [*said, activity]))
        return [_answer(one.note, written[own][1], entries[own][1]) for own, one in zip(written, said, strict=True)]

    # Occurrences.

    async def make_occurrences(self, call: Call, project: str, bodies: Sequence[Json]) -> list[Json]:
        """Write new occurrences, all or none, where their notes allow it.

        Raises InvalidArgument, PermissionDenied, NotFound, FailedPrecondition, ResourceExhausted.
        """
        said = [read(Occurrence, body).said() for body in bodies]
        kinds = {note: await self._kind_of(call, note) for note in dict.fromkeys(one["noteName"] for one in said)}
        for content in said:
            if content["kind"] != kinds[content["noteName"]]:
                raise InvalidArgument(f"The note {content['noteName']} is of kind {kinds[content['noteName']]}.")
        await self.occurrences.require_room(project, [_entry(content, "", "", "") for content in said])
        made = {self._fresh(): content for content in said}
        for number, note in enumerate(kinds):
            hanging = [f"projects/{project}/occurrences/{own}" for own, one in made.items() if one["noteName"] == note]
            await self.occurrences.hang(note, hanging, f"{call.id}/hang/{number}")
        return await self._put(call, project, {own: (None, content) for own, content in made.items()})

    async def change_occurrence(self, call: Call, project: str, own: str, patch: Json, paths: Sequence[str]) -> Json:
        """Change the named fields of an occurrence. Raises NotFound, FailedPrecondition, InvalidArgument, Moved."""
        kept, before = await self._occurrence(project, own)
        await call.require(ATTACH, kept.thing.note)
        allowed = (*OCCURRENCE_FIELDS, DETAILS[kept.thing.kind])
        after = read(Occurrence, _changed(before, patch, paths, allowed)).said()
        details = DETAILS[kept.thing.kind]
        if kept.thing.kind in SIGNED and after[details] != before[details]:
            raise FailedPrecondition("What is signed is not changed: delete this occurrence and make another.")
        return (await self._put(call, project, {own: (kept, after)}))[0]

    async def drop_occurrence(self, call: Call, project: str, own: str) -> None:
        """Delete an occurrence. Raises NotFound, FailedPrecondition, Moved."""
        kept, content = await self._occurrence(project, own)
        gone = _changed_occurrence(project, own, content, kept.thing.model_copy(update={"object": ""}))
        await self._ungrant(call, project, gone.occurrence)
        said = [gone, call.activity(project=project, request={"noteName": kept.thing.note})]
        await self.occurrences.put(project, {own: (kept, None)}, Change(f"{call.id}/occurrence", call.cause, said))
        await self.occurrences.unhang(kept.thing.note, gone.occurrence, f"{call.id}/unhang")

    async def _kind_of(self, call: Call, note: str) -> str:
        """The kind of a note that the caller may hang something on."""
        await call.require(ATTACH, note)
        _, project, _, own = note.split("/")
        if await self.catalog.is_own_note(project, own):
            raise FailedPrecondition(f"{note} is the scanner's own: nobody else hangs anything on it.")
        return (await _kept(self.notes, project, own))[0].thing.kind

    async def _occurrence(self, project: str, own: str) -> tuple[Kept[Entry], Json]:
        if await self.occurrences.entry(project, own) is None and await self.catalog.occurrence(project, own):
            raise FailedPrecondition(
                f"projects/{project}/occurrences/{own} is the scanner's own: only a scan changes it."
            )
        return await _kept(self.occurrences, project, own)

    async def _put(
        self, call: Call, project: str, written: Mapping[str, tuple[Kept[Entry] | None, Json]]
    ) -> list[Json]:
        now = rfc3339(self.clock.now())
        entries: dict[str, tuple[Kept[Entry] | None, Entry]] = {}
        for own, (before, content) in written.items():
            laid = await self.occurrences.lay(project, own, content, call.id)
            entries[own] = before, _entry(content, laid, before.thing.created if before else now, now)
        said = [_changed_occurrence(project, own, written[own][1], entry) for own, (_, entry) in entries.items()]
        asked = {"occurrences": [{"noteName": one.note, "resourceUri": one.resource_uri} for one in said][:20]}
        activity = call.activity(project=project, request=asked, response={"name": said[0].occurrence})
        await self.occurrences.put(project, entries, Change(f"{call.id}/occurrences", call.cause, [*said, activity]))
        return [
            _answer(one.occurrence, written[own][1], entries[own][1]) for own, one in zip(written, said, strict=True)
        ]

    async def _ungrant(self, call: Call, project: str, name: str) -> None:
        """Nobody has rights on what is about to be deleted; done before, so that one made anew begins without."""
        if await self.policies.of(name) is None:
            return
        dropped, fact = self.policies.gone(name)
        drafts = self.policies.outbox.drafts([fact], call.cause)
        counter = self.policies.counter(name)
        step = Step(partition_of(project), f"{call.id}/policy", writes=(dropped,), drafts=drafts, counter=counter)
        done = await self.policies.state.apply(step)
        self.policies.directory.learn(fact, done.generation)

    def _fresh(self) -> str:
        """A name as Google gives them; none of the scanner's own has this form."""
        one = self.ids.new()
        return f"{one[:8]}-{one[8:12]}-{one[12:16]}-{one[16:20]}-{one[20:]}"


async def _kept(shelf: Shelf, project: str, own: str) -> tuple[Kept[Entry], Json]:
    kept = await shelf.entry(project, own)
    content = await shelf.content(project, own, kept.thing) if kept else None
    if kept is None or content is None:
        raise NotFound(f"projects/{project}/{shelf.kind}/{own} does not exist.")
    return kept, content


def _changed(before: Json, patch: Json, paths: Sequence[str], allowed: Sequence[str]) -> Json:
    """What a PATCH makes of it. Fields that never change may be sent as they are."""
    check_paths(paths, allowed)
    for name, value in patch.items():
        if name not in allowed and name not in _ANSWERED and before.get(name) != value:
            raise InvalidArgument(f"{name[:80]} cannot be changed.")
    wanted = paths if paths and tuple(paths) != ("*",) else [name for name in patch if name in allowed]
    if tuple(paths) == ("*",):
        wanted = allowed
    return apply_mask(before, {name: value for name, value in patch.items() if name in allowed}, wanted)


def _entry(content: Json, laid: str, created: str, updated: str) -> Entry:
    return Entry(
        kind=content["kind"],
        object=laid,
        note=content["noteName"],
        path=path_of(content["resourceUri"]),
        severity=severity_of(content),
        size=len(orjson.dumps(content)),
        created=created,
        updated=updated,
    )


def _changed_occurrence(project: str, own: str, content: Json, entry: Entry) -> OccurrenceChanged:
    return OccurrenceChanged(
        project=project,
        occurrence=f"projects/{project}/occurrences/{own}",
        note=entry.note,
        kind=entry.kind,
        resource_uri=content["resourceUri"],
        object=entry.object,
    )


def _answer(name: str, content: Json, entry: Entry) -> dict[str, Any]:
    return {"name": name, **content, "createTime": entry.created, "updateTime": entry.updated}
