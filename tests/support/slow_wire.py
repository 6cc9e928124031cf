"""A wire that is slow: bytes pass between a client and a server in order, those that come back later by chance."""

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager


@asynccontextmanager
async def slow_wire(port: int, slowest: float, seed: int = 1) -> AsyncGenerator[int]:
    """A port that leads to `port`; whatever the server says arrives up to `slowest` seconds later."""
    chance = random.Random(seed)  # noqa: S311 - the same waits each time
    tasks: set[asyncio.Task[None]] = set()

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            writer.close()
            return
        there = asyncio.create_task(_carry(reader, far_writer))
        back = asyncio.create_task(_carry(far_reader, writer, lambda: chance.uniform(0, slowest)))
        tasks.update((there, back))
        await asyncio.wait((there, back), return_when=asyncio.FIRST_COMPLETED)
        for each in (writer, far_writer):
            each.close()

    server = await asyncio.start_server(meet, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late: object = None) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            if callable(late):
                await asyncio.sleep(late())
            writer.write(data)
            await writer.drain()
