"""The relay: takes what the outbox lanes hold to the bus, in order, and forgets it when the bus has it.

One relay at a time drains a lane, by a lease that it renews. The lease guards removal; publication needs no guard, for
the bus drops twins, but only for a while: so a relay that stood still for longer than its lease looks again before it
publishes.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass

import structlog

from shared.bus import BusUnavailable, Message, Publisher, StreamFull
from shared.clock import Clock, Ids
from shared.state import LaneEntry, Lease, State, StateUnavailable

BATCH = 64
LEASE_SECONDS = 2.0
SWEEP_SECONDS = 5.0
AT_ONCE = 16
"""Lanes drained beside each other: bounds what lies in memory."""

_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0

log: structlog.stdlib.BoundLogger = structlog.get_logger()


class _LeaseLost(Exception):
    """Another relay drains the lane."""


@dataclass
class _Tenure:
    """A lease, and when it was asked for: it runs from then at the latest."""

    lease: Lease
    renewed: float


class Relay:
    """Drains the lanes of one service. Every replica runs one."""

    def __init__(self, state: State, publisher: Publisher, clock: Clock, ids: Ids) -> None:
        """`publisher` has a connection of its own, so that order survives a failure."""
        self._state = state
        self._publisher = publisher
        self._clock = clock
        self._token = ids.new()
        self._tending: dict[str, asyncio.Task[None]] = {}
        self._woken_again: dict[str, None] = {}
        self._waiting_since: dict[str, float] = {}
        self._free = asyncio.Semaphore(AT_ONCE)
        self.published = 0

    def oldest(self) -> float:
        """Seconds since the slowest lane that is ours got rid of something; 0 when all are empty. Wants an alarm."""
        now = self._clock.monotonic()
        return max((now - since for since in self._waiting_since.values()), default=0.0)

    async def run(self) -> None:
        """Drain for ever; ends by being cancelled, and gives its leases back."""
        loops = [asyncio.create_task(self._listen()), asyncio.create_task(self._sweep())]
        try:
            await asyncio.gather(*loops)
        finally:
            await _ended([*loops, *self._tending.values()])

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

    def _tend(self, lane: str) -> None:
        if lane in self._tending:
            self._woken_again[lane] = None
        else:
            self._tending[lane] = asyncio.create_task(self._tend_until_empty(lane))

    async def _tend_until_empty(self, lane: str) -> None:
        """Drain one lane; what hinders it hinders no other lane."""
        pause = _FIRST_PAUSE
        try:
            while True:
                self._woken_again.pop(lane, None)
                published = self.published
                outcome = await self._try_to_drain(lane)
                if outcome is None and lane not in self._woken_again:
                    return
                pause = _FIRST_PAUSE if self.published > published else min(2 * pause, _LONGEST_PAUSE)
                if outcome is not None:
                    await self._clock.sleep(max(pause, outcome))
        finally:
            self._tending.pop(lane, None)
            self._waiting_since.pop(lane, None)

    async def _try_to_drain(self, lane: str) -> float | None:
        """None when the lane is empty, else the least seconds after which to look again."""
        try:
            async with self._free:
                await self._drain(lane)
        except _LeaseLost:
            self._waiting_since.pop(lane, None)
            return LEASE_SECONDS
        except (BusUnavailable, StreamFull, StateUnavailable) as error:
            log.warning("lane waits", lane=lane, reason=f"{type(error).__name__}: {error}")
        except Exception as error:  # an error nobody foresaw must not leave a lane without its relay
            log.exception("lane waits", lane=lane, reason=f"{type(error).__name__}: {error}")
        else:
            return None
        return 0.0

    async def _drain(self, lane: str) -> None:
        """Publish and remove, batch by batch, until nothing is left. After a failure the head is read anew."""
        tenure = _Tenure(Lease(lane, self._token), renewed=float("-inf"))
        try:
            await self._hold(tenure)
            self._waiting_since.setdefault(lane, self._clock.monotonic())
            size = BATCH
            while entries := await self._state.entries(lane, size):
                await self._hold(tenure)
                if not await self._publish(tenure, entries):
                    size = len(entries) // 2
                    continue
                size = min(2 * size, BATCH)
                await self._hold(tenure)
                if not await self._state.remove(tenure.lease, entries[-1].number):
                    raise _LeaseLost
                self.published += len(entries)
                self._waiting_since[lane] = self._clock.monotonic()
        finally:
            await self._give_back(tenure)

    async def _publish(self, tenure: _Tenure, entries: Sequence[LaneEntry]) -> bool:
        """Whether the bus has all entries; it took none where the stream had no room for so many, but may take fewer.

        A slow bus must not cost the lease: else two relays would publish the same for ever, and remove nothing.
        """
        renewing = asyncio.create_task(self._keep_holding(tenure))
        try:
            await self._publisher.publish([Message(entry.id, entry.subject, entry.content) for entry in entries])
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
        if tenure.renewed == float("-inf"):
            return
        with contextlib.suppress(StateUnavailable, TimeoutError):
            async with asyncio.timeout(1.0):
                await self._state.release(tenure.lease)


async def _ended(tasks: Sequence[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
