"""The faces as a process of the simulation has them: memory versions behind a network that loses and delays."""

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from shared.blobs import Blobs, BucketUnavailable
from shared.bus import BusUnavailable, Message, Publisher
from shared.state import Done, LaneEntry, Lease, Question, State, StateUnavailable, Step, Told
from tests.simulation.loop import SeededLoop, running_loop
from tests.simulation.network import Lost, Network, Request, Server
from tests.simulation.witness import Witness

T = TypeVar("T")
if TYPE_CHECKING:
    from types import CoroutineType

    Answered = CoroutineType[Any, Any, T]
else:
    Answered = Coroutine[Any, Any, T]
"""What calling an `async def` gives. Faces hand on the coroutine of a question, and have none of their own."""

DEADLINE = 5.0


class SimulatedClock:
    """The loop's time; the wall clock of one process may be wrong."""

    def __init__(self, loop: SeededLoop, epoch: float = 1_790_000_000.0) -> None:
        self.epoch = epoch
        self._loop = loop

    def now(self) -> float:
        return self.epoch + self._loop.time()

    def monotonic(self) -> float:
        return self._loop.time()

    def sleep(self, seconds: float) -> Answered[None]:
        return asyncio.sleep(seconds)


class FarState:
    """State behind the network. Like the one in Valkey it sends a request again until the deadline."""

    def __init__(self, inner: State, network: Network, server: Server, on_done: Callable[[Step], None]) -> None:
        """`on_done` is told each step at the moment at which it takes effect."""
        self._inner = inner
        self._network = network
        self._server = server
        self._on_done = on_done

    def apply(self, step: Step) -> Answered[Done]:
        return self._ask(lambda: self._take_effect(step))

    async def _take_effect(self, step: Step) -> Done:
        done = await self._inner.apply(step)
        if not done.again:
            self._on_done(step)
        return done

    def value(self, key: str) -> Answered[str | None]:
        return self._ask(lambda: self._inner.value(key))

    def peek(self, key: str, told: Told, *, field: str = "", unless: str = "") -> bool:
        del key, told, field, unless
        return False

    def field(self, key: str, field: str) -> Answered[str | None]:
        return self._ask(lambda: self._inner.field(key, field))

    def fields(self, key: str, fields: Sequence[str]) -> Answered[list[str | None]]:
        return self._ask(lambda: self._inner.fields(key, fields))

    def look(self, questions: Sequence[Question]) -> Answered[list[Any]]:
        return self._ask(lambda: self._inner.look(questions))

    def record(self, key: str) -> Answered[dict[str, str]]:
        return self._ask(lambda: self._inner.record(key))

    def members(self, key: str, *, after: str = "", prefix: str = "", limit: int = 1000) -> Answered[list[str]]:
        return self._ask(lambda: self._inner.members(key, after=after, prefix=prefix, limit=limit))

    def ranked(self, key: str, *, low: float, high: float, limit: int = 1000) -> Answered[list[tuple[str, float]]]:
        return self._ask(lambda: self._inner.ranked(key, low=low, high=high, limit=limit))

    def has_member(self, key: str, member: str) -> Answered[bool]:
        return self._ask(lambda: self._inner.has_member(key, member))

    def size(self, key: str) -> Answered[int]:
        return self._ask(lambda: self._inner.size(key))

    def generation(self, partition: str, counter: str) -> Answered[int]:
        return self._ask(lambda: self._inner.generation(partition, counter))

    def busy_lanes(self) -> Answered[list[str]]:
        return self._ask(self._inner.busy_lanes)

    async def woken(self) -> AsyncIterator[str]:
        async for lane in self._inner.woken():
            if not self._server.away and not self._network.loses_wake():
                yield lane

    def heed(self, told: Callable[[str], None]) -> None:
        self._inner.heed(told)

    def listeners(self) -> Answered[int]:
        return self._ask(self._inner.listeners)

    def acquire(self, lane: str, token: str, seconds: float) -> Answered[bool]:
        return self._ask(lambda: self._inner.acquire(lane, token, seconds))

    def release(self, lease: Lease) -> Answered[None]:
        return self._ask(lambda: self._inner.release(lease))

    def entries(self, lane: str, limit: int) -> Answered[list[LaneEntry]]:
        return self._ask(lambda: self._inner.entries(lane, limit))

    def remove(self, lease: Lease, last: int) -> Answered[bool]:
        return self._ask(lambda: self._inner.remove(lease, last))

    def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> Answered[list[LaneEntry] | None]:
        return self._ask(lambda: self._inner.drain(lease, seconds, published, limit))

    async def _ask(self, question: Request[T]) -> T:
        loop = running_loop()
        deadline = loop.time() + DEADLINE
        while loop.time() < deadline:
            try:
                return await self._network.send(question, self._server)
            except Lost:
                await asyncio.sleep(0.05)
        raise StateUnavailable("no answer in time")


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

    def __init__(self, inner: Blobs, network: Network, server: Server) -> None:
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

    def content(self, name: str, limit: int = 8 * 1024 * 1024) -> Answered[bytes]:
        return self._ask(lambda: self._inner.content(name, limit))

    def stat(self, name: str) -> Answered[Any]:
        return self._ask(lambda: self._inner.stat(name))

    def delete(self, name: str) -> Answered[None]:
        return self._ask(lambda: self._inner.delete(name))

    def delete_all(self, names: Sequence[str]) -> Answered[None]:
        return self._ask(lambda: self._inner.delete_all(names))

    def commit(self, upload: str, name: str, size: int | None = None) -> Answered[None]:
        return self._ask(lambda: self._inner.commit(upload, name, size))

    def stage(self, upload: str) -> Answered[None]:
        return self._ask(lambda: self._inner.stage(upload))

    async def append(self, upload: str, offset: int, body: AsyncIterable[bytes]) -> int:
        content = await _whole(body)
        return await self._ask(lambda: self._inner.append(upload, offset, _once(content)))

    def staged(self, upload: str) -> Answered[int]:
        return self._ask(lambda: self._inner.staged(upload))

    def abandon(self, upload: str) -> Answered[None]:
        return self._ask(lambda: self._inner.abandon(upload))

    def __getattr__(self, name: str) -> Any:
        """Local things go straight through."""
        return getattr(self._inner, name)

    async def _ask(self, question: Request[T]) -> T:
        try:
            return await self._network.send(question, self._server)
        except Lost:
            raise BucketUnavailable("no answer in time") from None


async def _whole(pieces: AsyncIterable[bytes]) -> bytes:
    return b"".join([piece async for piece in pieces])


async def _listed(found: AsyncIterable[T]) -> list[T]:
    return [each async for each in found]


async def _once(content: bytes) -> AsyncIterator[bytes]:
    yield content
