"""Small services with the real Step, Outbox, Relay and handlers: enough of each to break when the promise breaks."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

from shared.blobs import Blobs
from shared.bus import Bus, Heard
from shared.clock import Clock, Ids
from shared.events import Cause
from shared.events.attestations import AdmissionDecided, AttestationCreated
from shared.events.audit import AuditActivity
from shared.events.images import ImagePushed, ImageUntagged
from shared.events.scans import ScanCompleted
from shared.journal import Journal
from shared.names import manifest_object, partition_of
from shared.outbox import Outbox
from shared.state import (
    Add,
    Check,
    DropField,
    FieldIs,
    Index,
    Keys,
    Moved,
    PutField,
    State,
    Step,
)


@dataclass(frozen=True)
class Node:
    """What one process of a service works with."""

    service: str
    clock: Clock
    ids: Ids
    state: State
    bus: Bus
    blobs: Blobs
    journal: Journal

    @cached_property
    def keys(self) -> Keys:
        return Keys(self.service)

    @cached_property
    def outbox(self) -> Outbox:
        return Outbox(self.service, self.clock)


class Model(Protocol):
    """A service of the simulation; what it hears it registers when it is made."""

    node: Node


class Registry:
    """Pushes and untags: an object, then one step with the tag, the counter and the events."""

    def __init__(self, node: Node) -> None:
        self.node = node

    async def push(self, request: str, project: str, tag: str, digest: str) -> None:
        await self.node.blobs.put(manifest_object(project, digest), digest.encode())
        while True:
            before = await self._points_at(project, tag)
            pushed = ImagePushed(
                project=project,
                repository="web",
                image="app",
                digest=digest,
                tag=tag,
                previous_digest=before or "",
                media_type="m",
                size=1,
                uploaded="",
            )
            if await self._change(request, tag, digest, pushed):
                return

    async def untag(self, request: str, project: str, tag: str) -> None:
        while before := await self._points_at(project, tag):
            event = ImageUntagged(project=project, repository="web", image="app", tag=tag, digest=before)
            if await self._change(request, tag, "", event):
                return

    async def _points_at(self, project: str, tag: str) -> str | None:
        return await self.node.state.field(self.node.keys.of(project, "tags"), tag)

    async def _change(self, request: str, tag: str, after: str, event: ImagePushed | ImageUntagged) -> bool:
        """Whether the tag was still where the event says it was."""
        project = event.project
        before = event.digest if isinstance(event, ImageUntagged) else event.previous_digest
        keys, tags = self.node.keys, self.node.keys.of(project, "tags")
        audit = AuditActivity(project=project, producer="registry", entry={"request": request})
        step = Step(
            partition=partition_of(project),
            request=request,
            checks=(FieldIs(tags, tag, before or None),),
            writes=(
                PutField(tags, tag, after) if after else DropField(tags, tag),
                Add(keys.of(project, "counts"), "changes", 1),
            ),
            drafts=self.node.outbox.drafts([event, audit], Cause(id=request)),
            counter=f"{project}/web",
        )
        try:
            await self.node.state.apply(step)
        except Moved:
            return False
        return True


class Scanner:
    """Reads what was pushed, which must be there, and says so."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.bus.work(ImagePushed, self.on_pushed)

    async def on_pushed(self, heard: Heard[ImagePushed]) -> None:
        event = heard.event
        content = await self.node.blobs.content(manifest_object(event.project, event.digest))
        completed = ScanCompleted(
            project=event.project,
            repository=event.repository,
            image=event.image,
            digest=content.decode(),
            advisories="a",
            scanned="",
        )
        keys = self.node.keys
        await self.node.state.apply(
            Step(
                partition=partition_of(event.project),
                request=f"{heard.id}.scan",
                writes=(
                    Index(keys.of(event.project, "scanned"), event.digest),
                    Add(keys.of(event.project, "counts"), "scans", 1),
                ),
                drafts=self.node.outbox.drafts([completed], heard.cause),
            )
        )


class Attestor:
    """Mirrors where tags point, by generation, and attests what was scanned; answers what it has decided."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.bus.work(ImagePushed, self.on_pushed)
        node.bus.work(ImageUntagged, self.on_untagged)
        node.bus.work(ScanCompleted, self.on_scanned)

    async def on_pushed(self, heard: Heard[ImagePushed]) -> None:
        await self._mirror(heard.event.project, heard.event.tag, heard.event.digest, heard.generation, heard.id)

    async def on_untagged(self, heard: Heard[ImageUntagged]) -> None:
        await self._mirror(heard.event.project, heard.event.tag, "gone", heard.generation, heard.id)

    async def on_scanned(self, heard: Heard[ScanCompleted]) -> None:
        event = heard.event
        created = AttestationCreated(
            project=event.project,
            attestor="a",
            repository=event.repository,
            image=event.image,
            digest=event.digest,
            object=manifest_object(event.project, event.digest),
            key_id="k",
        )
        keys = self.node.keys
        await self.node.state.apply(
            Step(
                partition=partition_of(event.project),
                request=f"{heard.id}.attest",
                writes=(
                    Index(keys.of(event.project, "attested"), event.digest),
                    Add(keys.of(event.project, "counts"), "attestations", 1),
                ),
                drafts=self.node.outbox.drafts([created], heard.cause),
            )
        )

    async def admit(self, request: str, project: str) -> None:
        """A decision changes nothing, so the journal keeps it."""
        decided = AdmissionDecided(project=project, uid=request, allowed=True)
        await self.node.journal.keep([decided], Cause(id=request))

    async def _mirror(self, project: str, tag: str, digest: str, generation: int, request: str) -> None:
        """A late event changes nothing; what is gone stays as a tombstone."""
        keys = self.node.keys
        tags, seen = keys.of(project, "tags"), keys.of(project, "seen")
        while True:
            before = await self.node.state.field(seen, tag)
            if before is not None and int(before) >= generation:
                return
            check: Check = FieldIs(seen, tag, before)
            writes = (PutField(tags, tag, digest), PutField(seen, tag, str(generation)))
            try:
                await self.node.state.apply(Step(partition_of(project), f"{request}.mirror", (check,), writes))
            except Moved:
                continue
            return


class AuditLog:
    """Writes down every audit entry once."""

    def __init__(self, node: Node) -> None:
        self.node = node
        node.bus.work(AuditActivity, self.on_activity)

    async def on_activity(self, heard: Heard[AuditActivity]) -> None:
        project, request = heard.event.project, str(heard.event.entry["request"])
        key = self.node.keys.of(project, "entries")
        await self.node.state.apply(Step(partition_of(project), heard.id, (), (Index(key, request),)))


MODELS = {"registry": Registry, "scanner": Scanner, "attestor": Attestor, "audit_log": AuditLog}
