"""The relay: takes what the outbox lanes hold to the bus, in order, and forgets it when the bus has it.

One relay at a time drains a lane, by a lease that it renews. The lease guards removal; publication needs no guard, for
the bus drops twins, but only for a while: so a relay that stood still for longer than its lease looks again before it
publishes.

A lane's first entry leaves at once; while more come, they leave together, and where they keep coming, ten times a
second. One question to the state renews the lease, removes what the bus has and reads what is next, so what the bus has
lies in the lane for a moment, until the next entry comes or a short while is over. A lease is not given back after each
turn: it is kept until it runs out, so that a busy lane stays with one relay.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from shared.bus import BusUnavailable, Message, Publisher, StreamFull
from shared.clock import Clock, Ids
from shared.endings import called_off
from shared.events.earlier import today
from shared.state import LaneEntry, Lease, State, StateUnavailable

BATCH = 64
LEASE_SECONDS = 2.0
SWEEP_SECONDS = 5.0
PACE_SECONDS = 0.025
"""The least time from a turn of a lane that found entries to its next."""
LASTING_PACE_SECONDS = 0.1
"""The same where entries keep coming: a turn costs the same for one as for many, most of it the state store's."""
BURST = 4
"""So many turns may find entries before the lasting pace is kept."""
LINGER_SECONDS = 0.05
"""How long what the bus has may lie in a lane: while something does, no wake tells of other replicas' entries."""
AT_ONCE = 16
"""Lanes drained beside each other: bounds what lies in memory."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _LeaseLost(Exception):
    """Another relay drains the lane."""


@dataclass
class _Tenure:
    """A lease, when it was asked for, from which on it runs, and what the bus has but the lane still holds."""

    lease: Lease
    renewed: float = float("-inf")
    published: int = 0
    size: int = BATCH
    """How many entries are taken next: fewer where a stream had little room."""
    found: float = float("-inf")
    """When a turn found entries."""
    due: float = float("-inf")
    """When as many turns as found entries would be over, each a lasting pace after the one before, or a few of them."""

    def next_turn(self) -> float:
        """When the next turn may be."""
        return max(self.found + PACE_SECONDS, self.due - BURST * LASTING_PACE_SECONDS)

    def note(self, now: float) -> None:
        """A turn found entries."""
        behind = min(max(self.due - now, 0.0), BURST * LASTING_PACE_SECONDS)
        self.found, self.due = now, now + behind + LASTING_PACE_SECONDS


class Relay:
    """Drains the lanes of one service. Every replica runs one."""

    def __init__(self, state: State, publisher: Publisher, clock: Clock, ids: Ids) -> None:
        """`publisher` has a connection of its own, so that order survives a failure."""
        self._state = state
        self._publisher = publisher
        self._clock = clock
        self._token = ids.new()
        self._tenures: dict[str, _Tenure] = {}
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._woken_again: dict[str, None] = {}
        self._resting: dict[str, asyncio.Future[None]] = {}
        self._waiting_since: dict[str, float] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self.published = 0

    def oldest(self) -> float:
        """Seconds since the slowest lane that is ours got rid of something; 0 when all are empty. Wants an alarm."""
        now = self._clock.monotonic()
        return max((now - since for since in self._waiting_since.values()), default=0.0)

    async def run(self) -> None:
        """Drain for ever; ends by being cancelled, and gives its leases back."""
        self._state.heed(self._hear)
        loops = [asyncio.create_task(self._listen()), asyncio.create_task(self._sweep())]
        try:
            await asyncio.gather(*loops)
        finally:
            await called_off([*loops, *self._tending.values()])
            await asyncio.gather(*map(self._give_back, self._tenures.values()))

    async def _listen(self) -> None:
        async for lane in self._state.woken():
            self._tend(lane)

    async def _sweep(self) -> None:
        """Find what no wake told of: after a start, after a crash of another, after a lost connection."""
        while True:
            try:
                for lane in await self._state.busy_lanes():
                    self._tend(lane)
            except StateUnavailable as error:
                log.warning("lanes not swept", reason=str(error))
            await self._clock.sleep(SWEEP_SECONDS)

    def _hear(self, lane: str) -> None:
        """A step of this process put something into the lane; where the lane was empty, the state tells everybody."""
        if lane in self._tending:
            self._tend(lane)

    def _tend(self, lane: str) -> None:
        if lane not in self._tending:
            self._tending[lane] = asyncio.create_task(self._tend_until_empty(lane))
            return
        self._woken_again[lane] = None
        resting = self._resting.get(lane)
        if resting is not None and not resting.done():
            resting.set_result(None)

    async def _tend_until_empty(self, lane: str) -> None:
        """Drain one lane; what hinders it hinders no other lane."""
        tenure = self._tenures.setdefault(lane, _Tenure(Lease(lane, self._token)))
        pause = _FIRST_PAUSE
        try:
            while True:
                await self._until(tenure.next_turn())
                self._woken_again.pop(lane, None)
                hindered = await self._try_a_turn(tenure)
                if hindered is None and not tenure.published and lane not in self._woken_again:
                    return
                pause = _FIRST_PAUSE if tenure.published else min(2 * pause, _LONGEST_PAUSE)
                if hindered is not None:
                    await self._clock.sleep(max(pause, hindered))
                elif lane not in self._woken_again:
                    await self._rest(lane)
        finally:
            self._tending.pop(lane, None)
            self._waiting_since.pop(lane, None)

    async def _until(self, moment: float) -> None:
        if (seconds := moment - self._clock.monotonic()) > 0:
            await self._clock.sleep(seconds)

    async def _rest(self, lane: str) -> None:
        """Until something is put into the lane, but not for long."""
        resting = self._resting[lane] = asyncio.get_running_loop().create_future()
        timer = asyncio.create_task(self._clock.sleep(LINGER_SECONDS))
        timer.add_done_callback(lambda _: resting.done() or resting.set_result(None))
        try:
            await resting
        finally:
            timer.cancel()
            self._resting.pop(lane, None)

    async def _try_a_turn(self, tenure: _Tenure) -> float | None:
        """None when nothing is in the way, else the least seconds after which to look again."""
        lane = tenure.lease.lane
        try:
            async with self._free:
                while await self._turn(tenure):
                    pass
        except _LeaseLost:
            tenure.renewed, tenure.published = float("-inf"), 0
            self._waiting_since.pop(lane, None)
            return LEASE_SECONDS
        except (BusUnavailable, StreamFull, StateUnavailable) as error:
            log.warning("lane waits", lane=lane, reason=f"{type(error).__name__}: {error}")
        except Exception as error:  # an error nobody foresaw must not leave a lane without its relay
            log.exception("lane waits", lane=lane, reason=f"{type(error).__name__}: {error}")
        else:
            return None
        return 0.0

    async def _turn(self, tenure: _Tenure) -> bool:
        """Take what lies in the lane to the bus; whether more may lie there. After a failure the head is read anew."""
        lane = tenure.lease.lane
        self._waiting_since.setdefault(lane, self._clock.monotonic())
        entries = await self._next(tenure)
        if not entries:
            return False
        if not await self._publish(tenure, entries):
            tenure.size = len(entries) // 2
            return True
        full = len(entries) == tenure.size
        tenure.size, tenure.published = min(2 * tenure.size, BATCH), entries[-1].number
        self.published += len(entries)
        tenure.note(tenure.renewed)
        self._waiting_since[lane] = self._clock.monotonic()
        return full

    async def _next(self, tenure: _Tenure) -> Sequence[LaneEntry]:
        """The oldest entries, read while the lease is surely ours; raises _LeaseLost when it is another's."""
        while True:
            asked = self._clock.monotonic()
            entries = await self._state.drain(tenure.lease, LEASE_SECONDS, tenure.published, tenure.size)
            if entries is None:
                raise _LeaseLost
            tenure.renewed, tenure.published = asked, 0
            if self._age(tenure) < LEASE_SECONDS:  # an answer that took longer than the lease is worth nothing
                return entries

    async def _publish(self, tenure: _Tenure, entries: Sequence[LaneEntry]) -> bool:
        """Whether the bus has all entries; it took none where the stream had no room for so many, but may take fewer.

        A slow bus must not cost the lease: else two relays would publish the same for ever, and remove nothing.
        """
        renewing = asyncio.create_task(self._keep_holding(tenure))
        try:
            # Said today, whatever version of the service put it into the lane.
            said = [Message(entry.id, *today(entry.subject, entry.content)) for entry in entries]
            await self._publisher.publish(said)
        except StreamFull:
            if len(entries) == 1:
                raise
            return False
        finally:
            renewing.cancel()
        return True

    async def _keep_holding(self, tenure: _Tenure) -> None:
        with contextlib.suppress(_LeaseLost, StateUnavailable):
            while True:
                await self._clock.sleep(LEASE_SECONDS / 3)
                await self._hold(tenure)

    async def _hold(self, tenure: _Tenure) -> None:
        """Return when the lease is surely ours; raises _LeaseLost when it is another's."""
        if self._age(tenure) < LEASE_SECONDS / 3:
            return
        tenure.renewed = float("-inf")
        while self._age(tenure) >= LEASE_SECONDS:  # an answer that took longer than the lease is worth nothing
            asked = self._clock.monotonic()
            if not await self._state.acquire(tenure.lease.lane, tenure.lease.token, LEASE_SECONDS):
                raise _LeaseLost
            tenure.renewed = asked

    def _age(self, tenure: _Tenure) -> float:
        return self._clock.monotonic() - tenure.renewed

    async def _give_back(self, tenure: _Tenure) -> None:
        """At the end; what the bus has is removed first, or the next relay would say it again."""
        if self._age(tenure) >= LEASE_SECONDS:
            return
        with contextlib.suppress(StateUnavailable, TimeoutError):
            async with asyncio.timeout(1.0):
                if tenure.published:
                    await self._state.remove(tenure.lease, tenure.published)
                await self._state.release(tenure.lease)
