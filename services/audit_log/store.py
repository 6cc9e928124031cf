"""What the audit log remembers beside the log itself: sinks, and how far each has come."""

from services.audit_log.sinks import Sink
from shared.names import partition_of
from shared.outbox import Outbox
from shared.state import Change, DropField, FieldIs, Index, Kept, Keys, PutField, State, Step

_EVERYWHERE = "00"
"""The partition of what belongs to no project."""


class Store:
    """Sinks and their positions over a state store."""

    def __init__(self, state: State, keys: Keys, outbox: Outbox) -> None:
        self._state = state
        self._keys = keys
        self._outbox = outbox

    async def sink(self, project: str, sink: str) -> Kept[Sink] | None:
        """One sink."""
        raw = await self._state.field(self._sinks(project), sink)
        return None if raw is None else Kept(Sink.model_validate_json(raw), raw)

    async def sinks(self, project: str) -> dict[str, Kept[Sink]]:
        """All sinks of a project, by name."""
        found = await self._state.record(self._sinks(project))
        return {name: Kept(Sink.model_validate_json(found[name]), found[name]) for name in sorted(found)}

    async def projects(self, after: str = "") -> list[str]:
        """Projects that have or had a sink, a page of them."""
        return await self._state.members(self._projects(), after=after)

    async def make(self, project: str, sink: Sink, position: int, change: Change) -> None:
        """Make a sink that begins at `position`. Raises Moved when there is one of that name."""
        # First and by itself: it lies in another partition, and a project too many there does no harm.
        await self._state.apply(
            Step(_EVERYWHERE, f"{change.request} project", writes=(Index(self._projects(), project),))
        )
        writes = (
            PutField(self._sinks(project), sink.name, _text(sink)),
            PutField(self._positions(project), sink.name, str(position)),
        )
        await self._apply(project, FieldIs(self._sinks(project), sink.name, None), writes, change)

    async def replace(self, project: str, before: Kept[Sink], after: Sink, change: Change) -> None:
        """Change a sink. Raises Moved."""
        check = FieldIs(self._sinks(project), after.name, before.raw)
        await self._apply(project, check, (PutField(self._sinks(project), after.name, _text(after)),), change)

    async def drop(self, project: str, before: Kept[Sink], change: Change) -> None:
        """Delete a sink; what it exported stays. Raises Moved."""
        name = before.thing.name
        writes = (DropField(self._sinks(project), name), DropField(self._positions(project), name))
        await self._apply(project, FieldIs(self._sinks(project), name, before.raw), writes, change)

    async def position(self, project: str, sink: str) -> int | None:
        """The sequence from which on a sink has to export; None when the sink is gone."""
        raw = await self._state.field(self._positions(project), sink)
        return None if raw is None else int(raw)

    async def move(self, project: str, sink: str, before: int, after: int, change: Change) -> None:
        """Move a sink's position, and say what was exported. Raises Moved."""
        key = self._positions(project)
        await self._apply(project, FieldIs(key, sink, str(before)), (PutField(key, sink, str(after)),), change)

    async def _apply(
        self, project: str, check: FieldIs, writes: tuple[PutField | DropField, ...], change: Change
    ) -> None:
        drafts = self._outbox.drafts(change.events, change.cause)
        await self._state.apply(Step(partition_of(project), change.request, (check,), writes, drafts))

    def _sinks(self, project: str) -> str:
        return self._keys.of(project, "sinks")

    def _positions(self, project: str) -> str:
        return self._keys.of(project, "positions")

    def _projects(self) -> str:
        return self._keys.at(_EVERYWHERE, "sink_projects")


def _text(sink: Sink) -> str:
    return sink.model_dump_json(by_alias=True, exclude_defaults=True)
