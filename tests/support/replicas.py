"""Two replicas of the registry on one Valkey, one of them behind a slow wire."""

from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace

from services.registry.app import build
from shared.clock import SystemClock, SystemIds
from shared.state import State
from shared.state.server import ValkeySettings
from shared.state.valkey import ValkeyState
from tests.performance.load import Connection
from tests.support.images import MANIFEST
from tests.support.parts import MemoryParts, bearer, client_of, memory_parts
from tests.support.registry import ADA, ENVIRONMENT, RegistryClient, granted
from tests.support.servers import Server
from tests.support.slow_wire import slow_wire

SLOWEST = 0.008
Seen = Callable[[ValkeyState], State]
"""How a replica sees the state, where that is not as it is."""


@dataclass(frozen=True)
class Replica:
    """One process, as far as a test needs one."""

    port: int
    client: RegistryClient

    def connection(self) -> Connection:
        return Connection(self.port, {**bearer(ADA), "Accept": MANIFEST})


@asynccontextmanager
async def replica(
    port: int, first: MemoryParts | None = None, seen: Seen | None = None
) -> AsyncGenerator[tuple[Replica, MemoryParts]]:
    """A replica whose state is behind a port; a second one shares the rest with the first."""
    made = granted(memory_parts("registry", environment=ENVIRONMENT, shared=first))
    state = ValkeyState.connect("registry", ValkeySettings(url=f"redis://127.0.0.1:{port}"), SystemClock())
    parts = replace(made.parts, state=seen(state) if seen else state, clock=SystemClock(), ids=SystemIds())
    async with client_of(build(parts), parts) as client:
        assert client.server.port is not None
        yield Replica(client.server.port, RegistryClient(client, made)), made
    await state.close()


@asynccontextmanager
async def pair(valkey: Server, seen: Seen | None = None) -> AsyncGenerator[tuple[Replica, Replica]]:
    """Two replicas, the second behind a slow wire."""
    async with AsyncExitStack() as stack:
        first, made = await stack.enter_async_context(replica(valkey.port))
        slow = await stack.enter_async_context(slow_wire(valkey.port, SLOWEST))
        second, _ = await stack.enter_async_context(replica(slow, made, seen))
        yield first, second
