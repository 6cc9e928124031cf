"""The faces as a process of the simulation has them: memory versions behind a network that loses and delays."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, TypeVar

from shared.blobs import Blobs, BucketUnavailable
from shared.bus import BusUnavailable, Message, Publisher
from shared.state import Done, LaneEntry, Lease, Question, State, StateUnavailable, Step, Told
from tests.simulation.loop import running_loop
from tests.simulation.network import Lost, Network
from tests.simulation.witness import Witness

T = TypeVar("T")

DEADLINE = 5.0


class SimulatedClock:
    """The loop's time; the wall clock of one process may be wrong."""

    def __init__(self, epoch: float = 1_790_000_000.0) -> None:
        self.epoch = epoch

    def now(self) -> float:
        return self.epoch + running_loop().time()

    def monotonic(self) -> float:
        return running_loop().time()

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


class Away:
    """Whether a server can be reached."""

    def __init__(self) -> None:
        self.away = False


class FarState:
    """State behind the network. Like the one in Valkey it sends a request again until the deadline."""

    def __init__(self, inner: State, network: Network, server: Away, on_done: Callable[[Step], None]) -> None:
        """`on_done` is told each step at the moment at which it takes effect."""
        self._inner = inner
        self._network = network
        self._server = server
        self._on_done = on_done

    async def apply(self, step: Step) -> Done:
        return await self._ask(lambda: self._take_effect(step))

    async def _take_effect(self, step: Step) -> Done:
        done = await self._inner.apply(step)
        if not done.again:
            self._on_done(step)
        return done

    async def value(self, key: str) -> str | None:
        return await self._ask(lambda: self._inner.value(key))

    def peek(self, key: str, told: Told, *, field: str = "", unless: str = "") -> bool:
        del key, told, field, unless
        return False

    async def field(self, key: str, field: str) -> str | None:
        return await self._ask(lambda: self._inner.field(key, field))

    async def fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        return await self._ask(lambda: self._inner.fields(key, fields))

    async def look(self, questions: Sequence[Question]) -> list[Any]:
        return await self._ask(lambda: self._inner.look(questions))

    async def record(self, key: str) -> dict[str, str]:
        return await self._ask(lambda: self._inner.record(key))

    async def members(self, key: str, *, after: str = "", prefix: str = "", limit: int = 1000) -> list[str]:
        return await self._ask(lambda: self._inner.members(key, after=after, prefix=prefix, limit=limit))

    async def ranked(self, key: str, *, low: float, high: float, limit: int = 1000) -> list[tuple[str, float]]:
        return await self._ask(lambda: self._inner.ranked(key, low=low, high=high, limit=limit))

    async def has_member(self, key: str, member: str) -> bool:
        return await self._ask(lambda: self._inner.has_member(key, member))

    async def size(self, key: str) -> int:
        return await self._ask(lambda: self._inner.size(key))

    async def generation(self, partition: str, counter: str) -> int:
        return await self._ask(lambda: self._inner.generation(partition, counter))

    async def busy_lanes(self) -> list[str]:
        return await self._ask(self._inner.busy_lanes)

    async def woken(self) -> AsyncIterator[str]:
        async for lane in self._inner.woken():
            if not self._server.away and not self._network.loses_wake():
                yield lane

    def heed(self, told: Callable[[str], None]) -> None:
        self._inner.heed(told)

    async def listeners(self) -> int:
        return await self._ask(self._inner.listeners)

    async def acquire(self, lane: str, token: str, seconds: float) -> bool:
        return await self._ask(lambda: self._inner.acquire(lane, token, seconds))

    async def release(self, lease: Lease) -> None:
        await self._ask(lambda: self._inner.release(lease))

    async def entries(self, lane: str, limit: int) -> list[LaneEntry]:
        return await self._ask(lambda: self._inner.entries(lane, limit))

    async def remove(self, lease: Lease, last: int) -> bool:
        return await self._ask(lambda: self._inner.remove(lease, last))

    async def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> list[LaneEntry] | None:
        return await self._ask(lambda: self._inner.drain(lease, seconds, published, limit))

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        deadline = running_loop().time() + DEADLINE
        while running_loop().time() < deadline:
            try:
                return await self._network.send(lambda: self._answer(question))
            except Lost:
                await asyncio.sleep(0.05)
        raise StateUnavailable("no answer in time")

    async def _answer(self, question: Callable[[], Awaitable[T]]) -> T:
        if self._server.away:
            await asyncio.sleep(0.3)
            raise Lost
        return await question()


class FarPublisher:
    """Publication behind the network; what became of a lost one is unknown."""

    def __init__(
        self, inner: Publisher, network: Network, publishing: Callable[[Sequence[Message]], None], witness: Witness
    ) -> None:
        """`publishing` is told what is about to be stored, and `witness` what was."""
        self._inner = inner
        self._network = network
        self._publishing = publishing
        self._witness = witness

    async def publish(self, messages: Sequence[Message]) -> None:
        try:
            await self._network.send(lambda: self._store(messages))
        except Lost:
            raise BusUnavailable("no answer in time") from None

    async def _store(self, messages: Sequence[Message]) -> None:
        self._publishing(messages)
        await self._inner.publish(messages)
        self._witness.published(messages)


class FarBlobs:
    """A bucket behind the network."""

    presigns = False
    least_chunk = 0

    def __init__(self, inner: Blobs, network: Network, server: Away) -> None:
        self._inner = inner
        self._network = network
        self._server = server

    async def put(self, name: str, body: AsyncIterable[bytes] | bytes, *, if_absent: bool = False) -> int:
        content = body if isinstance(body, bytes) else await _whole(body)
        return await self._ask(lambda: self._inner.put(name, content, if_absent=if_absent))

    async def read(self, name: str, start: int = 0, end: int | None = None) -> AsyncIterator[bytes]:
        yield await self._ask(lambda: self._whole(name, start, end))

    async def _whole(self, name: str, start: int, end: int | None) -> bytes:
        return await _whole(self._inner.read(name, start, end))

    async def staged_bytes(self, upload: str) -> AsyncIterator[bytes]:
        yield await self._ask(lambda: _whole(self._inner.staged_bytes(upload)))

    async def names(self, prefix: str, after: str = "") -> AsyncIterator[Any]:
        for stat in await self._ask(lambda: _listed(self._inner.names(prefix, after))):
            yield stat

    async def uploads(self) -> AsyncIterator[Any]:
        for stat in await self._ask(lambda: _listed(self._inner.uploads())):
            yield stat

    async def content(self, name: str, limit: int = 8 * 1024 * 1024) -> bytes:
        return await self._ask(lambda: self._inner.content(name, limit))

    async def stat(self, name: str) -> Any:
        return await self._ask(lambda: self._inner.stat(name))

    async def delete(self, name: str) -> None:
        await self._ask(lambda: self._inner.delete(name))

    async def delete_all(self, names: Sequence[str]) -> None:
        await self._ask(lambda: self._inner.delete_all(names))

    async def commit(self, upload: str, name: str, size: int | None = None) -> None:
        await self._ask(lambda: self._inner.commit(upload, name, size))

    async def stage(self, upload: str) -> None:
        await self._ask(lambda: self._inner.stage(upload))

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        content = await _whole(body)
        return await self._ask(lambda: self._inner.append(upload, offset, _once(content)))

    async def staged(self, upload: str) -> int:
        return await self._ask(lambda: self._inner.staged(upload))

    async def abandon(self, upload: str) -> None:
        await self._ask(lambda: self._inner.abandon(upload))

    def __getattr__(self, name: str) -> Any:
        """Local things go straight through."""
        return getattr(self._inner, name)

    async def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        try:
            return await self._network.send(lambda: self._answer(question))
        except Lost:
            raise BucketUnavailable("no answer in time") from None

    async def _answer(self, question: Callable[[], Awaitable[T]]) -> T:
        if self._server.away:
            await asyncio.sleep(0.3)
            raise Lost
        return await question()


async def _whole(pieces: AsyncIterable[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _listed(found: AsyncIterable[T]) -> list[T]:
    return [each async for each in found]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
