"""Ends tasks, such too as do not hear it the first time."""

import asyncio
from collections.abc import Sequence
from typing import Any

AGAIN_SECONDS = 2.0
"""After which a task that goes on is told once more: more than it may need for its last acts, which that breaks off."""


async def called_off(tasks: Sequence[asyncio.Task[Any]], again: float = AGAIN_SECONDS) -> None:
    """Cancel all of these, once more every `again` seconds, until they have ended, whatever their end was.

    A cancellation can be lost: `asyncio.wait_for` before Python 3.12 drops one that comes in the same moment as what
    it waits for, and libraries wait so for every answer. Who tells a task once and waits may wait for ever.
    """
    while left := [task for task in tasks if not task.done()]:
        for task in left:
            task.cancel()
        await asyncio.wait(left, timeout=again)
    await asyncio.gather(*tasks, return_exceptions=True)
