"""Threads for calls that block: one hop there and one back, with as little around it as that takes.

A small push makes two such hops, and the library's pool takes several locks, conditions and futures for each of them.
"""

import asyncio
import threading
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, TypeVar

T = TypeVar("T")


class Threads:
    """At most so many threads, each begun when there is more to do than the others can; used from one event loop."""

    def __init__(self, most: int, name: str) -> None:
        """`name` is how the system calls them."""
        self._most = most
        self._name = name
        self._waiting: SimpleQueue[_Job | None] = SimpleQueue()
        self._begun = 0
        self._under_way = 0

    @property
    def free(self) -> int:
        """How many calls would begin at once."""
        return max(0, self._most - self._under_way)

    async def run(self, work: Callable[[], T], undo: Callable[[T], object] | None = None) -> T:
        """Run `work` on a thread and return what it returned.

        Who is cancelled waits all the same, for the work may use what is given back next; then `undo` gets what the
        work returned.
        """
        job = _Job(work, asyncio.get_running_loop())
        self._begin(job)
        try:
            await job.waiter
        except asyncio.CancelledError:
            await job.ended()
            if job.error is None and undo is not None:
                undo(job.result)
            raise
        finally:
            self._under_way -= 1
        if job.error is not None:
            try:
                raise job.error
            finally:
                del job  # or the error would hold on to itself by way of this frame
        return job.result

    def close(self) -> None:
        """End the threads, once what they do is done; nobody waits for that."""
        for _ in range(self._begun):
            self._waiting.put(None)
        self._begun = 0

    def _begin(self, job: "_Job") -> None:
        self._under_way += 1
        self._waiting.put(job)
        if self._begun < min(self._under_way, self._most):
            self._begun += 1
            threading.Thread(target=self._work, name=f"{self._name}-{self._begun}", daemon=True).start()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None:
            job.do()
            del job  # holds bytes


class _Job:
    """A call on its way to a thread and back."""

    __slots__ = ("_loop", "_over", "_work", "error", "result", "waiter")

    def __init__(self, work: Callable[[], Any], loop: asyncio.AbstractEventLoop) -> None:
        self._work = work
        self._loop = loop
        self._over = False
        self.waiter: asyncio.Future[None] = loop.create_future()
        self.result: Any = None
        self.error: BaseException | None = None

    def do(self) -> None:
        """Called on the thread."""
        try:
            self.result = self._work()
        except BaseException as error:  # noqa: BLE001 - it is raised where somebody waits
            self.error = error
        with suppress(RuntimeError):  # the loop was closed: nobody waits
            self._loop.call_soon_threadsafe(self._settle)

    async def ended(self) -> None:
        """Wait until it is over, however often that is cancelled."""
        while not self._over:
            self.waiter = self._loop.create_future()
            with suppress(asyncio.CancelledError):
                await self.waiter

    def _settle(self) -> None:
        self._over = True
        if not self.waiter.done():
            self.waiter.set_result(None)
