"""Processes that end with whoever waits for them."""

from asyncio.subprocess import Process


async def last_words(process: Process) -> bytes:
    """What it writes to standard error until its end. It is killed when nobody waits for that any more."""
    try:
        _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return said
