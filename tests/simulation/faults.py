"""Mistakes that are easily made, to be planted one at a time: the simulation is worth what it finds of them."""

import asyncio
import contextlib
import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from shared.bus import BusUnavailable, Heard, Message, Publisher, StreamFull
from shared.bus.memory import MemoryBus
from shared.events import Event, finish
from shared.names import manifest_object
from shared.state import Done, LaneEntry, Lease, State, Step
from shared.state.memory import MemoryState
from tests.simulation.model import Attestor, Node, Registry


def _same(thing: Any, *_: Any) -> Any:
    return thing


@dataclass(frozen=True)
class Fault:
    """What is put between a service and its parts."""

    name: str
    server: Callable[[MemoryState], State] = _same
    """Wraps the state on the server's side of the network."""
    state: Callable[[State, Publisher], State] = _same
    publisher: Callable[[Publisher], Publisher] = _same
    bus: Callable[[MemoryBus], None] = lambda _: None
    model: Callable[[Any], Any] = _same


class _Wrapped:
    """A state but for what is overridden."""

    def __init__(self, inner: Any) -> None:
        self._inner = inner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)


class _PublishesFirst(_Wrapped):
    def __init__(self, inner: State, publisher: Publisher) -> None:
        super().__init__(inner)
        self._publisher = publisher

    async def apply(self, step: Step) -> Done:
        for draft in step.drafts:
            message = Message(draft.id, draft.subject, finish(draft.body, 1, 1))
            await self._publisher.publish([message])
        return await self._inner.apply(step)


class _EntryInASecondStep(_Wrapped):
    def __init__(self, inner: State, _: Publisher) -> None:
        super().__init__(inner)

    async def apply(self, step: Step) -> Done:
        done = await self._inner.apply(replace(step, drafts=(), counter=""))
        if step.drafts:
            said = Step(step.partition, f"{step.request}.said", drafts=step.drafts, counter=step.counter)
            await self._inner.apply(said)
        return done


class _ForgetsRequests(_Wrapped):
    """Whatever arrives is done; a request that is sent again is done again."""

    def __init__(self, inner: MemoryState) -> None:
        super().__init__(inner)
        self._numbers = itertools.count()

    async def apply(self, step: Step) -> Done:
        return await self._inner.apply(replace(step, request=f"{step.request} {next(self._numbers)} {id(self)}"))


class _RemovesUnfenced(_Wrapped):
    """The server takes off as many entries as a relay has published, and does not ask whose lane it is by then."""

    def __init__(self, inner: MemoryState) -> None:
        super().__init__(inner)
        self._read: dict[str, int] = {}

    async def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> list[LaneEntry] | None:
        if published:
            lane = self._inner.store.lanes[lease.lane]
            lane.entries = lane.entries[self._read[lease.lane] :]
            found = await self._inner.entries(lease.lane, limit)
        else:
            found = await self._inner.drain(lease, seconds, 0, limit)
        if found is not None:
            self._read[lease.lane] = len(found)
        return found


@dataclass(frozen=True)
class _TellsNobody:
    """Returns before the bus has answered, so the entries are removed whatever it says."""

    inner: Publisher

    async def publish(self, messages: Sequence[Message]) -> None:
        asyncio.get_running_loop().create_task(self._try(messages))

    async def _try(self, messages: Sequence[Message]) -> None:
        try:
            await self.inner.publish(messages)
        except (BusUnavailable, StreamFull):
            return


def _acknowledge_first(bus: MemoryBus) -> None:
    bus._works = [replace(work, handler=_started(work.handler)) for work in bus._works]


def _started(handler: Callable[[Heard[Event]], Any]) -> Any:
    async def start(heard: Heard[Event]) -> None:
        asyncio.get_running_loop().create_task(_quietly(handler(heard)))

    return start


async def _quietly(work: Any) -> None:
    with contextlib.suppress(Exception):
        await work


class _TagFirst(Registry):
    """Says what it is about to store."""

    async def push(self, request: str, project: str, tag: str, digest: str) -> None:
        blobs, self.node = self.node.blobs, replace(self.node, blobs=_Nowhere())  # type: ignore[arg-type]
        await super().push(request, project, tag, digest)
        await blobs.put(manifest_object(project, digest), digest.encode())


class _Nowhere:
    async def put(self, *_: Any) -> None:
        return


class _BelievesTheLastWord(Attestor):
    """Does not compare generations."""

    async def _mirror(self, project: str, tag: str, digest: str, generation: int, request: str) -> None:
        before = await self.node.state.field(self.node.keys.of(project, "seen"), tag)
        await super()._mirror(project, tag, digest, max(generation, int(before or "0") + 1), request)


def _registry_as(kind: type[Registry]) -> Callable[[Any], Any]:
    return lambda model: kind if model is Registry else model


def _attestor_as(kind: type[Attestor]) -> Callable[[Any], Any]:
    return lambda model: kind if model is Attestor else model


SOUND = Fault("sound")
PUBLISH_BEFORE_COMMIT = Fault("publish before commit", state=_PublishesFirst)
ENTRY_IN_A_SECOND_STEP = Fault("entry in a second step", state=_EntryInASecondStep)
NO_REQUEST_KEY = Fault("no request key", server=_ForgetsRequests)  # type: ignore[arg-type]
NO_FENCE = Fault("no fence", server=_RemovesUnfenced)  # type: ignore[arg-type]
REMOVAL_BEFORE_ACKNOWLEDGEMENT = Fault("removal before the bus's acknowledgement", publisher=_TellsNobody)
ACKNOWLEDGE_BEFORE_EFFECT = Fault("ack before effect", bus=_acknowledge_first)
OBJECT_AFTER_TAG = Fault("object after tag", model=_registry_as(_TagFirst))
NO_GENERATION = Fault("no comparison of generations", model=_attestor_as(_BelievesTheLastWord))

ALL = (
    PUBLISH_BEFORE_COMMIT,
    ENTRY_IN_A_SECOND_STEP,
    NO_REQUEST_KEY,
    NO_FENCE,
    REMOVAL_BEFORE_ACKNOWLEDGEMENT,
    ACKNOWLEDGE_BEFORE_EFFECT,
    OBJECT_AFTER_TAG,
    NO_GENERATION,
)
__all__ = ["ALL", "SOUND", "Fault", "Node"]
