"""What is led out of a build's network ends with the network."""

import asyncio

from services.builder.sandbox.network import Door, Network, Passage


async def test_a_connection_that_is_led_out_ends_with_the_network() -> None:
    """A client that keeps its connection, as those of registries do, does not keep the network."""
    arrived = asyncio.Event()

    async def keep(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.read(5))
        arrived.set()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(keep, "127.0.0.1", 0) as outside:
        network = Network(-1, outward=False)
        door = Door("127.0.0.1", outside.sockets[0].getsockname()[1])
        inside = await asyncio.start_server(Passage(door, asyncio.Semaphore(1), network.passages), "127.0.0.1", 0)
        network.servers.append(inside)
        reader, writer = await asyncio.open_connection(*inside.sockets[0].getsockname())
        writer.write(b"hello")
        async with asyncio.timeout(20):
            assert await reader.readexactly(5) == b"hello"
            assert len(network.passages) == 1
            await network.close()
            assert await reader.read() == b""
            writer.close()
    assert network.passages == set()
