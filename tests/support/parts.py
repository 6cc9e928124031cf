"""The parts of a service in memory, for building it in a test: `build(memory_parts("registry").parts)`."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson
from aiohttp.test_utils import TestClient, TestServer
from aiohttp.web import Application, Request

from shared.blobs.memory import MemoryBlobs, MemoryBucket
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.events import Cause, Envelope, Event
from shared.events.states import Binding, PolicyState, ProjectState, RoleState
from shared.http.connection import LaneRunner
from shared.http.middleware import STRICT
from shared.identity.caller import Caller
from shared.identity.directory import Directory
from shared.outbox import Outbox
from shared.parts import Parts, Service
from shared.settings import PREFIX, Settings, read
from shared.state.keys import Keys
from shared.state.memory import MemoryState, MemoryStore
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Unexported
from tests.support.clock import FakeClock, SeededIds, at_once

Client = TestClient[Request, Application]
Grants = Mapping[str, Mapping[str, Sequence[str]]]
"""Resource, then member, then the permissions that the member has there."""


class Tokens:
    """Believes a token that says `as:MEMBER`; others are invalid."""

    def __init__(self) -> None:
        self.known: dict[str, Caller] = {}

    def verify(self, token: str) -> Caller:
        if token in self.known:
            return self.known[token]
        if not token.startswith("as:"):
            raise ValueError("not a token of this test")
        return Caller(token.removeprefix("as:"), key="key-1", expires=4e9)


def bearer(member: str) -> dict[str, str]:
    """Headers of a call by this member."""
    return {"Authorization": f"Bearer as:{member}"}


class Noted:
    """A journal that a test reads."""

    def __init__(self) -> None:
        self.events: list[Event] = []

    def note(self, events: Sequence[Event], cause: Cause) -> None:
        del cause
        self.events += events

    async def keep(self, events: Sequence[Event], cause: Cause) -> None:
        self.note(events, cause)


@dataclass(frozen=True)
class MemoryParts:
    """Parts of one service, and the memory behind them."""

    parts: Parts
    clock: FakeClock
    ids: SeededIds
    store: MemoryStore
    broker: MemoryBroker
    bucket: MemoryBucket
    tokens: Tokens
    journal: Noted
    granted: list[str] = field(default_factory=list[str])

    @property
    def directory(self) -> Directory:
        return self.parts.directory

    def grant(self, resource: str, member: str, *permissions: str) -> None:
        """Give a member permissions on a resource, beside what was given before."""
        self.granted.append(resource)
        role = f"roles/test.{len(self.granted)}"
        before = self.directory.policy(resource)
        binding = Binding(role=role, members=(member,))
        bindings = (*(before.bindings if before else ()), binding)
        project = resource.split("/")[1] if resource.startswith("projects/") else ""
        policy = before.model_copy(update={"bindings": bindings}) if before else None
        self.learn(RoleState(project="", role=role, permissions=permissions))
        self.learn(policy or PolicyState(project=project, full_name=resource, bindings=bindings))

    def learn(self, *facts: ProjectState | PolicyState | RoleState | Any) -> None:
        """Let the directory know facts, as if heard."""
        for fact in facts:
            self.directory.learn(fact, self.directory.version + 1)

    def announced(self, topic: str = "") -> list[Envelope]:
        """What lies in the outbox lanes, in order: everything that was said and not yet relayed."""
        entries = (entry for lane in self.store.lanes.values() for entry in lane.entries)
        found = [Envelope.parse(entry.content) for entry in entries]
        return [envelope for envelope in found if not topic or envelope.type == topic]

    def audited(self) -> list[dict[str, Any]]:
        """The audit entries of changes made, as LogEntries."""
        return [envelope.data["entry"] for envelope in self.announced("audit.activity")]


def memory_parts(
    service: str,
    *,
    grants: Grants | None = None,
    projects: Sequence[str] = ("demo",),
    environment: Mapping[str, str] | None = None,
    shared: MemoryParts | None = None,
    hears: bool = False,
) -> MemoryParts:
    """Parts of `service` in memory; with `shared`, on the same clock, broker, bucket and state as another's parts.

    With `hears` the directory follows the bus, as in a process; else it knows only what the test tells it.
    """
    clock = shared.clock if shared else FakeClock()
    ids = SeededIds(service)
    store = shared.store if shared else MemoryStore()
    broker = shared.broker if shared else MemoryBroker(clock)
    bucket = shared.bucket if shared else MemoryBucket()
    tokens, journal = Tokens(), Noted()
    environment = dict(environment or {})
    settings = read(Settings, {name: text for name, text in environment.items() if _common(name)})
    parts = Parts(
        service=service,
        settings=settings,
        environment=environment,
        clock=clock,
        ids=ids,
        cpu=at_once,
        state=MemoryState(service, clock.monotonic, store),
        keys=Keys(service),
        bus=MemoryBus(service, clock, broker, settings.one_of_several),
        blobs=MemoryBlobs(clock.now, bucket),
        outbox=Outbox(service, clock),
        journal=journal,
        directory=Directory(clock.now),
        verifier=tokens,
        metrics=Metrics(service),
        traces=Unexported(ids),
    )
    made = MemoryParts(parts, clock, ids, store, broker, bucket, tokens, journal)
    made.learn(*(ProjectState(project=project, number=number) for number, project in enumerate(projects, 1)))
    if hears:
        parts.directory.follow(parts.bus)
    for resource, members in (grants or {}).items():
        for member, permissions in members.items():
            made.grant(resource, member, *permissions)
    return made


def _common(name: str) -> bool:
    return name.removeprefix(PREFIX).lower() in Settings.model_fields


class _LaneTestServer(TestServer):
    """Serves as a process does."""

    async def _make_runner(self, **options: Any) -> LaneRunner:
        return LaneRunner(self.app, **options)


@asynccontextmanager
async def client_of(service: Service, parts: Parts | None = None, *, lane: bool = True) -> AsyncGenerator[Client]:
    """A client of a service's face on a free loopback port. With `parts`, the bus is started and stopped too."""
    async with client_of_app(service.app, lane=lane) as client:
        for start in service.on_start:
            await start()
        if parts is not None:
            await parts.bus.start()
        try:
            yield client
        finally:
            if parts is not None:
                await parts.bus.stop()
            for stop in service.on_stop:
                await stop()


@asynccontextmanager
async def client_of_app(app: Application, *, lane: bool = True) -> AsyncGenerator[Client]:
    """A client of a bare face. A change without its audit entry is answered as a defect (500)."""
    app[STRICT] = True
    serve = _LaneTestServer if lane else TestServer
    async with TestClient(serve(app, access_log=None)) as client:
        yield client


async def json_of(response: Any) -> Any:
    """The JSON of an answer, whatever its content type says."""
    content = await response.read()
    return orjson.loads(content) if content else None
