"""One address before several replicas: each connection goes to the next that lets it in, byte for byte."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager

PIECE = 256 * 1024


@asynccontextmanager
async def balanced(ports: Sequence[int]) -> AsyncGenerator[int]:
    """The port of the address."""
    turns = itertools.count()
    under_way: set[asyncio.Task[None]] = set()

    async def taken(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        under_way.add(task)
        first = next(turns)
        try:
            for step in range(len(ports)):
                with contextlib.suppress(OSError):
                    further = await asyncio.open_connection("127.0.0.1", ports[(first + step) % len(ports)])
                    await _joined((reader, writer), further)
                    break
        finally:
            under_way.discard(task)
            writer.transport.abort()

    server = await asyncio.start_server(taken, "127.0.0.1", 0)
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        server.close()
        for task in list(under_way):
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


Wire = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def _joined(one: Wire, other: Wire) -> None:
    """Carry both ways until either end hangs up."""
    ways = [asyncio.create_task(_carried(one[0], other[1])), asyncio.create_task(_carried(other[0], one[1]))]
    try:
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for way in ways:
            way.cancel()
        await asyncio.gather(*ways, return_exceptions=True)
        other[1].transport.abort()


async def _carried(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await reader.read(PIECE):
            writer.write(piece)
            await writer.drain()
