"""Exporting: each sink goes through the log at its own pace and writes what its filter takes."""

import structlog

from services.audit_log.filters import Node, holds, parse
from services.audit_log.log import AuditLog
from services.audit_log.query import log_of
from services.audit_log.segments import Record
from services.audit_log.sinks import Sink, export_object
from services.audit_log.store import Store
from shared.blobs import Blobs, BucketUnavailable
from shared.clock import Clock, Ids
from shared.events import Cause
from shared.events.audit import LogExported
from shared.state import Change, Keys, LaneFull, Lease, Moved, State, StateUnavailable

MOST_ENTRIES = 5_000
MOST_BYTES = 8 * 1024 * 1024
STRIDE = 10_000
"""Entries that a sink passes over without a match before its position is written."""
LEASE_SECONDS = 60.0

_LOG = structlog.get_logger("export")


class Exporter:
    """Serves all sinks. One replica at a time does, but two would lose nothing and say nothing twice."""

    def __init__(self, log: AuditLog, store: Store, blobs: Blobs) -> None:
        self._log = log
        self._store = store
        self._blobs = blobs

    async def export_all(self) -> int:
        """Bring every sink up to the end of the log; returns how many objects were written."""
        await self._log.follow()
        made = 0
        after = ""
        while page := await self._store.projects(after):
            for project in page:
                for kept in (await self._store.sinks(project)).values():
                    while not kept.thing.disabled and await self._export(project, kept.thing):
                        made += 1
            after = page[-1]
        return made

    async def _export(self, project: str, sink: Sink) -> bool:
        """One batch; False when the sink has come to the end."""
        position = await self._store.position(project, sink.name)
        if position is None:
            return False
        lines, reached = await self._batch(project, sink, position)
        if not lines:
            if reached - position >= STRIDE:
                cause = Cause(id=f"pass {project} {sink.name} {reached}")
                await self._store.move(project, sink.name, position, reached, Change(cause.id, cause))
            return False
        name = export_object(project, sink.name, position, reached - 1)
        await self._blobs.put(name, b"".join(lines))
        event = LogExported(
            project=project,
            sink=f"projects/{project}/sinks/{sink.name}",
            object=name,
            count=len(lines),
            first=position,
            last=reached - 1,
        )
        cause = Cause(id=f"export {name}")
        await self._store.move(project, sink.name, position, reached, Change(cause.id, cause, [event]))
        return True

    async def _batch(self, project: str, sink: Sink, position: int) -> tuple[list[bytes], int]:
        """The lines of the next batch, and the sequence behind its last entry."""
        takes, leaves = parse(sink.filter), [parse(found.filter) for found in sink.exclusions if not found.disabled]
        lines: list[bytes] = []
        size = 0
        reached = position
        async for record in self._log.since(position):
            if len(lines) >= MOST_ENTRIES or size >= MOST_BYTES:
                break
            reached = record.sequence + 1
            if log_of(record.entry)[0] == project and _wanted(record, takes, leaves):
                lines.append(record.line() + b"\n")
                size += len(lines[-1])
        return lines, reached


def _wanted(record: Record, takes: Node, leaves: list[Node]) -> bool:
    return holds(takes, record.entry) and not any(holds(found, record.entry) for found in leaves)


class ExportLoop:
    """Exports again and again, on the one replica that holds the lease."""

    def __init__(self, exporter: Exporter, state: State, keys: Keys, clock: Clock, ids: Ids) -> None:
        self._exporter = exporter
        self._state = state
        self._clock = clock
        self._lease = Lease(keys.at("00", "lease", "export"), ids.new())

    async def run(self, seconds: float) -> None:
        """For ever."""
        while True:
            await self._clock.sleep(seconds)
            await self.once()

    async def once(self) -> int:
        """One round, if no other replica has the lease."""
        try:
            if not await self._state.acquire(self._lease.lane, self._lease.token, LEASE_SECONDS):
                return 0
            return await self._exporter.export_all()
        except (Moved, LaneFull, StateUnavailable, BucketUnavailable) as error:
            _LOG.warning("export put off", error=type(error).__name__)
            return 0
