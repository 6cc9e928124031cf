# ruff: noqa: S311, ASYNC110 - a seeded generator is the point, and time is virtual
"""One seed's world: servers in memory, replicas that crash and come back, a client that asks until it is answered."""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from typing import Any, TypeVar

from shared.blobs import BucketUnavailable
from shared.blobs.memory import MemoryBlobs, MemoryBucket
from shared.bus import BusUnavailable
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.journal.memory import MemoryJournal, Pages
from shared.relay import Relay
from shared.state import LaneFull, Moved, StateUnavailable
from shared.state.memory import MemoryState, MemoryStore
from tests.simulation.faces import Away, FarBlobs, FarPublisher, FarState, SimulatedClock
from tests.simulation.faults import SOUND, Fault
from tests.simulation.loop import Breach, Process, SeededLoop, in_the_world
from tests.simulation.model import MODELS, Attestor, Model, Node, Registry
from tests.simulation.network import Lost, Network
from tests.simulation.plan import LEAST_CRASHES, REPLICAS, Blow, Change, Plan
from tests.simulation.witness import Witness
from tests.support.clock import SeededIds

T = TypeVar("T")

RETRYABLE = (Lost, Moved, LaneFull, StateUnavailable, BucketUnavailable, BusUnavailable)
PATIENCE = 4000.0
"""Virtual seconds until everything must have come to rest."""


class Replica:
    """One replica through its deaths."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.service = name.rpartition("-")[0]
        self.steps = 0
        self.process: Process | None = None
        self.model: Model | None = None
        self.died: asyncio.Future[None] | None = None
        self.pages = Pages()
        self.calls: dict[int, asyncio.Future[Any]] = {}


class World:
    """Everything that one run consists of."""

    def __init__(self, seed: int, plan: Plan, fault: Fault = SOUND) -> None:
        self.plan, self.fault = plan, fault
        self.loop = SeededLoop(random.Random(f"{seed} schedule"))
        self.draw = random.Random(f"{seed} world")
        self.network = Network(self.draw, plan.odds)
        self.clock = SimulatedClock()
        self.ids = SeededIds(f"{seed} ids")
        self.store, self.bucket = MemoryStore(), MemoryBucket()
        self.broker = MemoryBroker(self.clock, weather=self.network, limits={"AUDIT": plan.stream_limit})
        self.state_server = Away()
        self.witness = Witness(self.bucket, self.broker)
        self.replicas = {name: Replica(name) for name in REPLICAS}
        self.blows = list(plan.blows)
        self.counts: Counter[str] = Counter()
        self.loop.on_step = self._on_step
        self._calls = 0

    def run(self, changes: Sequence[Change]) -> None:
        """Run to rest; raises Breach, or whatever a service died of by itself."""
        self.loop.run(self._live(changes))

    async def _live(self, changes: Sequence[Change]) -> None:
        for replica in self.replicas.values():
            self._in_the_world(self._keep_up(replica))
        for absence in self.plan.absences:
            self._in_the_world(self._be_away(absence.server, absence.at, absence.seconds))
        # What is done to one tag is done in order, so the end is the same whatever happened on the way.
        lines = [[change for change in changes if change.tag == tag] for tag in ("v1", "v2")]
        await asyncio.gather(*map(self._make, lines))
        await self._see_all_crashes()
        self._end_the_storm()
        await self._rest()

    # The client.

    async def _make(self, changes: Sequence[Change]) -> None:
        for change in changes:
            await self._insist("registry", lambda model, change=change: _asked(model, change))
            self.counts["changes"] += 1
            if self.draw.random() < 0.2:
                await self._insist("attestor", lambda model, change=change: _decision(model, change))
                self.witness.decided(change.request)

    async def _insist(self, service: str, request: Callable[[Model], Awaitable[None]]) -> None:
        replicas = [replica for replica in self.replicas.values() if replica.service == service]
        while True:
            try:
                await self.network.send(lambda: self._call(self.draw.choice(replicas), request))
            except RETRYABLE as error:
                self.counts[type(error).__name__] += 1
                await asyncio.sleep(self.draw.uniform(0.05, 0.4))
            else:
                return

    async def _call(self, replica: Replica, request: Callable[[Model], Awaitable[T]]) -> T:
        """Let a replica answer; when it dies meanwhile, the connection is reset."""
        if replica.model is None or replica.process is None:
            raise Lost
        number = self._calls = self._calls + 1
        answer: asyncio.Future[T] = self.loop.create_future()
        replica.calls[number] = answer
        replica.process.spawn(_answered(request(replica.model), answer))
        try:
            return await answer
        finally:
            replica.calls.pop(number, None)

    # The replicas.

    async def _keep_up(self, replica: Replica) -> None:
        while True:
            replica.died = self.loop.create_future()
            process = replica.process = Process(replica.name)
            process.spawn(self._watched(self._boot(replica)))
            await replica.died
            for answer in replica.calls.values():
                if not answer.done():
                    answer.set_exception(Lost())
            await asyncio.sleep(self.draw.uniform(0.05, 2.0))

    async def _boot(self, replica: Replica) -> None:
        clock = SimulatedClock(self.clock.epoch + self.plan.wall_jumps.get(replica.name, 0.0))
        memory = MemoryState(replica.service, self.clock.monotonic, self.store, self.plan.lane_limit)
        bus = MemoryBus(replica.service, clock, self.broker)
        far = FarPublisher(bus.publisher, self.network, self.witness)
        publisher = self.fault.publisher(far)
        bus.publisher = publisher  # type: ignore[assignment]
        inner = self.fault.server(memory)
        state = FarState(inner, self.network, self.state_server, self.witness.done(replica.service))
        journal = MemoryJournal(f"{replica.service}/{replica.name}", publisher, clock, replica.pages)
        blobs = FarBlobs(MemoryBlobs(clock.now, self.bucket), self.network)
        node = Node(replica.service, clock, self.ids, self.fault.state(state, publisher), bus, blobs, journal)
        replica.model = self.fault.model(MODELS[replica.service])(node)
        self.fault.bus(bus)
        relay = Relay(node.state, publisher, clock, self.ids)
        await bus.start()
        await asyncio.gather(relay.run(), journal.run())

    async def _watched(self, coroutine: Coroutine[Any, Any, None]) -> None:
        """A service that ends by itself is a finding of its own."""
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001 - it is handed on
            self.loop.fail(error)
        else:
            self.loop.fail(Breach("a service ended by itself"))

    def _on_step(self, process: Process) -> None:
        replica = self.replicas[process.name]
        replica.steps += 1
        for blow in self.blows:
            if blow.replica == process.name and replica.steps >= blow.step:
                self.blows.remove(blow)
                self._strike(replica, process, blow)
                return

    def _strike(self, replica: Replica, process: Process, blow: Blow) -> None:
        if blow.seconds:
            process.paused_until = self.loop.time() + blow.seconds
            self.counts["pauses"] += 1
            return
        process.dead = True
        replica.model = None
        self.counts["crashes"] += 1
        assert replica.died is not None
        replica.died.set_result(None)

    # The storm and its end.

    async def _be_away(self, server: str, at: float, seconds: float) -> None:
        await asyncio.sleep(at)
        target: Any = self.broker if server == "bus" else self.state_server
        target.away = True
        self.counts[f"{server} away"] += 1
        await asyncio.sleep(seconds)
        target.away = False

    async def _see_all_crashes(self) -> None:
        """Crashes that did not come true yet come within the next steps."""
        if not self.plan.blows:
            return
        self.blows = [Blow(blow.replica, 0) for blow in self.blows if not blow.seconds]
        while self.blows:
            await asyncio.sleep(0.5)
        assert self.counts["crashes"] >= LEAST_CRASHES

    def _end_the_storm(self) -> None:
        self.blows.clear()
        self.network.odds.calm()

    async def _rest(self) -> None:
        while not self._rests():
            if self.loop.time() > PATIENCE:
                raise Breach(f"no rest: {self._unrest()}")
            await asyncio.sleep(1.0)
        self.witness.judge()

    def _rests(self) -> bool:
        return not any(self._unrest().values())

    def _unrest(self) -> dict[str, int]:
        return {
            "entries in lanes": sum(len(lane.entries) for lane in self.store.lanes.values()),
            "deliveries": self.broker.pending,
            "journal": sum(map(len, (w for r in self.replicas.values() for w in r.pages.waiting.values()))),
            "away": self.broker.away + self.state_server.away,
        }

    def _in_the_world(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.create_task(self._watched_world(coroutine), context=in_the_world())

    async def _watched_world(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001 - it is handed on
            self.loop.fail(error)


async def _asked(model: Model, change: Change) -> None:
    assert isinstance(model, Registry)
    if change.digest:
        await model.push(change.request, change.project, change.tag, change.digest)
    else:
        await model.untag(change.request, change.project, change.tag)


async def _decision(model: Model, change: Change) -> None:
    assert isinstance(model, Attestor)
    await model.admit(change.request, change.project)


async def _answered(work: Awaitable[T], answer: "asyncio.Future[T]") -> None:
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - it is the caller's
        if not answer.done():
            answer.set_exception(error)
        return
    if not answer.done():
        answer.set_result(result)
