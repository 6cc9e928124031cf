# ruff: noqa: S311, ASYNC110 - a seeded generator is the point, and time is virtual
"""One seed's world: servers in memory, replicas that crash and come back, and the storm around them.

Which services these are, what a client asks of them and what must hold in the end is the troupe's: models or the real
ones.
"""

import asyncio
import math
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from shared.blobs import BucketUnavailable
from shared.blobs.memory import MemoryBlobs, MemoryBucket
from shared.bus import BusUnavailable, Publisher
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.journal.memory import MemoryJournal, Pages
from shared.relay import Relay
from shared.state import LaneFull, Moved, State, StateUnavailable
from shared.state.memory import MemoryState, MemoryStore
from tests.simulation.faces import FarBlobs, FarPublisher, FarState, SimulatedClock
from tests.simulation.faults import SOUND, Fault
from tests.simulation.loop import Breach, Process, SeededLoop, in_the_world
from tests.simulation.network import Lost, Network, Server
from tests.simulation.plan import LEAST_CRASHES, Blow, Plan
from tests.simulation.witness import Witness
from tests.support.clock import SeededIds

T = TypeVar("T")

RETRYABLE = (Lost, Moved, LaneFull, StateUnavailable, BucketUnavailable, BusUnavailable)
PATIENCE = 4000.0
"""Virtual seconds until everything must have come to rest."""


@dataclass(frozen=True)
class Faces:
    """What one run of one replica has of the world."""

    clock: SimulatedClock
    state: State
    bus: MemoryBus
    publisher: Publisher
    blobs: FarBlobs
    journal: MemoryJournal


class Troupe(Protocol):
    """Who plays in the world, and by what it is judged."""

    replicas: Sequence[str]
    most_steps: int
    """After which there is no hope of rest."""

    def boot(
        self, world: "World", replica: "Replica", faces: Faces
    ) -> Sequence[Callable[[], Coroutine[Any, Any, None]]]:
        """Build a service and set `replica.part`; returns its loops."""
        ...

    async def play(self, world: "World") -> None:
        """All that the client does, to the last answer."""
        ...

    def rests(self, world: "World") -> bool:
        """Whether nothing is left to do, beside what the world itself knows of."""
        ...

    async def judge(self, world: "World") -> None:
        """Raise Breach where something does not hold in the end."""
        ...


class Replica:
    """One replica through its deaths."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.service = name.rpartition("-")[0]
        self.process: Process | None = None
        self._steps_before = 0
        """Of processes that are dead."""
        self.part: Any = None
        """What answers calls."""
        self.died: asyncio.Future[None] | None = None
        self.pages = Pages()
        self.calls: dict[int, asyncio.Future[Any]] = {}

    @property
    def steps(self) -> int:
        """How many its processes took."""
        return self._steps_before + (self.process.steps if self.process else 0)

    def begin(self) -> Process:
        """Come to life, again."""
        self._steps_before = self.steps
        self.process = Process(self.name)
        return self.process

    def expect(self, blows: Sequence[Blow]) -> None:
        """Have the loop tell when the next of them is due."""
        if self.process is not None:
            due = min((blow.step for blow in blows if blow.replica == self.name), default=math.inf)
            self.process.alarm = due - self._steps_before


class World:
    """Everything that one run consists of."""

    def __init__(self, seed: int, plan: Plan, troupe: Troupe, fault: Fault = SOUND) -> None:
        self.plan, self.troupe, self.fault = plan, troupe, fault
        self.loop = SeededLoop(random.Random(f"{seed} schedule"), troupe.most_steps)
        self.draw = random.Random(f"{seed} world")
        self.network = Network(self.draw, plan.odds)
        self.clock = SimulatedClock(self.loop)
        self.ids = SeededIds(f"{seed} ids")
        self.store, self.bucket = MemoryStore(), MemoryBucket()
        self.broker = MemoryBroker(self.clock, weather=self.network, limits={"AUDIT": plan.stream_limit})
        self.state_server, self.bucket_server = Server(), Server()
        self.witness = Witness(self.bucket, self.broker)
        self.replicas = {name: Replica(name) for name in troupe.replicas}
        self.blows = list(plan.blows)
        self.counts: Counter[str] = Counter()
        self.loop.on_step = self._on_step
        self._calls = 0

    def run(self) -> None:
        """Run to rest; raises Breach, or whatever a service died of by itself."""
        self.loop.run(self._live())

    async def _live(self) -> None:
        for replica in self.replicas.values():
            self._in_the_world(self._keep_up(replica))
        for absence in self.plan.absences:
            self._in_the_world(self._be_away(absence.server, absence.at, absence.seconds))
        await self.troupe.play(self)
        await self._see_all_crashes()
        self._end_the_storm()
        await self._rest()

    # Calls.

    async def insist(self, service: str, request: Callable[[Any], Awaitable[T]]) -> T:
        """Ask one replica or another, until there is an answer."""
        while True:
            try:
                return await self.ask(service, request)
            except RETRYABLE as error:
                self.counts[type(error).__name__] += 1
                await self.hesitate()

    async def ask(self, service: str, request: Callable[[Any], Awaitable[T]]) -> T:
        """Ask any replica of a service once."""
        replicas = [replica for replica in self.replicas.values() if replica.service == service]
        return await self.network.send(lambda: self._call(self.draw.choice(replicas), request))

    async def hesitate(self) -> None:
        """Before the next try."""
        await asyncio.sleep(self.draw.uniform(0.05, 0.4))

    async def _call(self, replica: Replica, request: Callable[[Any], Awaitable[T]]) -> T:
        """Let a replica answer; when it dies meanwhile, the connection is reset."""
        if replica.part is None or replica.process is None:
            raise Lost
        number = self._calls = self._calls + 1
        answer: asyncio.Future[T] = self.loop.create_future()
        replica.calls[number] = answer
        replica.process.spawn(_answered(request(replica.part), answer))
        try:
            return await answer
        finally:
            replica.calls.pop(number, None)

    # The replicas.

    async def _keep_up(self, replica: Replica) -> None:
        while True:
            replica.died = self.loop.create_future()
            process = replica.begin()
            replica.expect(self.blows)
            process.spawn(self._watched(self._boot(replica)))
            await replica.died
            for answer in replica.calls.values():
                if not answer.done():
                    answer.set_exception(Lost())
            await asyncio.sleep(self.draw.uniform(0.05, 2.0))

    async def _boot(self, replica: Replica) -> None:
        faces = self._faces(replica)
        loops = self.troupe.boot(self, replica, faces)
        self.fault.bus(faces.bus)
        relay = Relay(faces.state, faces.publisher, self.clock, self.ids)
        await faces.bus.start()
        await asyncio.gather(relay.run(), faces.journal.run(), *(loop() for loop in loops))

    def _faces(self, replica: Replica) -> Faces:
        clock = SimulatedClock(self.loop, self.clock.epoch + self.plan.wall_jumps.get(replica.name, 0.0))
        memory = MemoryState(replica.service, self.clock.monotonic, self.store, self.plan.lane_limit)
        bus = MemoryBus(replica.service, clock, self.broker)
        journaled = FarPublisher(bus.publisher, self.network, self.witness.journaled, self.witness)
        publisher = self.fault.publisher(
            FarPublisher(bus.publisher, self.network, self.witness.publishing, self.witness)
        )
        bus.publisher = publisher  # type: ignore[assignment]
        inner = self.fault.server(memory)
        state = FarState(inner, self.network, self.state_server, self.witness.done(replica.service))
        journal = MemoryJournal(f"{replica.service}/{replica.name}", journaled, clock, replica.pages)
        blobs = FarBlobs(MemoryBlobs(clock.now, self.bucket), self.network, self.bucket_server)
        return Faces(clock, self.fault.state(state, publisher), bus, publisher, blobs, journal)

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
        blow = next((each for each in self.blows if each.replica == replica.name and replica.steps >= each.step), None)
        if blow is not None:
            self.blows.remove(blow)
            self._strike(replica, process, blow)
        replica.expect(self.blows)

    def _strike(self, replica: Replica, process: Process, blow: Blow) -> None:
        if blow.seconds:
            process.paused_until = self.loop.time() + blow.seconds
            self.counts["pauses"] += 1
            return
        process.dead = True
        replica.part = None
        self.counts["crashes"] += 1
        assert replica.died is not None
        replica.died.set_result(None)

    def _plan_blows(self, blows: Sequence[Blow]) -> None:
        self.blows = list(blows)
        for replica in self.replicas.values():
            replica.expect(self.blows)

    # The storm and its end.

    async def _be_away(self, server: str, at: float, seconds: float) -> None:
        await asyncio.sleep(at)
        target: Any = {"bus": self.broker, "state": self.state_server, "bucket": self.bucket_server}[server]
        target.away = True
        self.counts[f"{server} away"] += 1
        await asyncio.sleep(seconds)
        target.away = False

    async def _see_all_crashes(self) -> None:
        """Crashes that did not come true yet come within the next steps."""
        if not self.plan.blows:
            return
        self._plan_blows([Blow(blow.replica, 0) for blow in self.blows if not blow.seconds])
        while self.blows:
            await asyncio.sleep(0.5)
        assert self.counts["crashes"] >= LEAST_CRASHES

    def _end_the_storm(self) -> None:
        self._plan_blows([])
        self.network.odds.calm()

    async def _rest(self) -> None:
        while not self._rests():
            if self.loop.time() > PATIENCE:
                raise Breach(f"no rest: {self._unrest()}")
            await asyncio.sleep(1.0)
        self.witness.judge()
        await self.troupe.judge(self)

    def _rests(self) -> bool:
        return not any(self._unrest().values()) and self.troupe.rests(self)

    def _unrest(self) -> dict[str, int]:
        return {
            "entries in lanes": sum(len(lane.entries) for lane in self.store.lanes.values()),
            "deliveries": self.broker.pending,
            "journal": sum(map(len, (w for r in self.replicas.values() for w in r.pages.waiting.values()))),
            "away": self.broker.away + self.state_server.away + self.bucket_server.away,
        }

    def _in_the_world(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self.loop.create_task(self._watched_world(coroutine), context=in_the_world())

    async def _watched_world(self, coroutine: Coroutine[Any, Any, None]) -> None:
        try:
            await coroutine
        except Exception as error:  # noqa: BLE001 - it is handed on
            self.loop.fail(error)


async def _answered(work: Awaitable[T], answer: "asyncio.Future[T]") -> None:
    try:
        result = await work
    except Exception as error:  # noqa: BLE001 - it is the caller's
        if not answer.done():
            answer.set_exception(error)
        return
    if not answer.done():
        answer.set_result(result)
