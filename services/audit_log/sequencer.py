"""The sequencer: entries that arrive together go into one segment together, and each waits until it is durable."""

import asyncio
from collections import deque

from services.audit_log.entries import Pending
from services.audit_log.log import AuditLog
from shared.clock import Clock

MOST = 512
"""Entries of one segment."""


class Sequencer:
    """Groups what many handlers bring: one write to the bucket for all of them."""

    def __init__(self, log: AuditLog, clock: Clock, linger: float) -> None:
        """`linger` is how long, in seconds, the first entry waits for company."""
        self._log = log
        self._clock = clock
        self._linger = linger
        self._waiting: deque[tuple[Pending, asyncio.Future[None]]] = deque()
        self._flushing: asyncio.Task[None] | None = None

    async def add(self, entry: Pending) -> None:
        """Put an entry into the log; returns when it is durable, raises what kept it from being so."""
        done = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, done))
        if self._flushing is None:
            self._flushing = asyncio.create_task(self._flush())
        await done

    async def stop(self) -> None:
        """Wait for what is under way."""
        if self._flushing is not None:
            await self._flushing

    async def _flush(self) -> None:
        try:
            while self._waiting:
                if len(self._waiting) < MOST:
                    await self._clock.sleep(self._linger)
                await self._write([self._waiting.popleft() for _ in range(min(MOST, len(self._waiting)))])
        finally:
            self._flushing = None

    async def _write(self, batch: list[tuple[Pending, asyncio.Future[None]]]) -> None:
        try:
            await self._log.append([entry for entry, _ in batch])
        except Exception as error:  # noqa: BLE001 - each waiting handler raises it, and its event comes again
            _settle(batch, error)
        else:
            _settle(batch, None)


def _settle(batch: list[tuple[Pending, asyncio.Future[None]]], error: Exception | None) -> None:
    for _, done in batch:
        if done.done():
            continue
        if error is None:
            done.set_result(None)
        else:
            done.set_exception(error)
