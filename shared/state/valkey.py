"""State in Valkey: each step one script, done once however often it is sent, durable before it is answered."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Self, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from shared.clock import Clock
from shared.state import server
from shared.state.face import UNKNOWN, LaneEntry, LaneFull, Lease, Moved, StateUnavailable, Told
from shared.state.keys import Keys
from shared.state.line import Asked, Line, LineDown, is_plain
from shared.state.questions import Question, command, pairs, understood
from shared.state.script import (
    ACQUIRE,
    DRAIN,
    RELEASE,
    REMOVE,
    STEP,
    Argument,
    StepArguments,
    lease_of,
    wake_channel,
)
from shared.state.server import ValkeySettings
from shared.state.step import Done, Step

T = TypeVar("T")

_FIRST_PAUSE, _LONGEST_PAUSE = 0.02, 0.5


class ValkeyState:
    """The state face over Valkey, for one service.

    An answer that was lost leaves open whether the step was done: it is sent again, with the same request, until the
    deadline; then StateUnavailable says that it is unknown.
    """

    def __init__(self, service: str, client: Redis, listener: Redis, clock: Clock, settings: ValkeySettings) -> None:
        """`client` must not retry by itself; `listener` waits for wakes without a timeout."""
        self._keys = Keys(service)
        # The library types its blocking and awaiting clients as one; what comes back is typed here, at our edge.
        self._client: Any = client
        self._listener: Any = listener
        self._line = Line(settings) if is_plain(settings.url) and not settings.replicas else None
        self._clock = clock
        self._settings = settings
        self._told: Callable[[str], None] | None = None
        self._step, self._acquire, self._release, self._remove, self._drain = map(
            client.register_script, (STEP, ACQUIRE, RELEASE, REMOVE, DRAIN)
        )

    @classmethod
    def connect(cls, service: str, settings: ValkeySettings, clock: Clock) -> Self:
        """The state of a service at an address; nothing is sent before the first question."""
        return cls(service, server.connect(settings), server.connect_listener(settings), clock, settings)

    async def refuse_unsafe(self) -> None:
        """Raise UnsafeState when the server may lose what it acknowledged, unless the settings accept that."""
        await self._ask(lambda: server.refuse_unsafe(self._client, accept_loss=self._settings.accept_loss))

    async def close(self) -> None:
        """Disconnect."""
        if self._line is not None:
            await self._line.close()
        await self._client.aclose()
        await self._listener.aclose()
        await self._client.connection_pool.disconnect()
        await self._listener.connection_pool.disconnect()

    async def apply(self, step: Step) -> Done:
        """Do the step whole, or raise and leave everything as it was."""
        call = StepArguments(self._keys, step, self._settings.lane_limit)
        outcome, *rest = await self._script(self._step, call.keys, call.arguments)
        if self._told is not None:
            for stream in {draft.stream: None for draft in step.drafts}:
                self._told(self._keys.lane(step.partition, stream))
        match outcome, [item.decode() for item in rest]:
            case b"done", [generation, answer]:
                return Done(generation=int(generation), answer=answer)
            case b"again", [remembered]:
                generation, _, answer = remembered.partition(" ")
                return Done(generation=int(generation), answer=answer, again=True)
            case b"full", [stream]:
                raise LaneFull(stream)
            case b"moved", _:
                raise Moved
            case _, said:
                raise TypeError(f"the step does not fit what is stored: {' '.join(said)}")

    async def value(self, key: str) -> str | None:
        """The value of a key."""
        return _text(await self._answer("GET", key))

    async def field(self, key: str, field: str) -> str | None:
        """One field of a hash."""
        return _text(await self._answer("HGET", key, field))

    async def fields(self, key: str, fields: Sequence[str]) -> list[str | None]:
        """Several fields of a hash."""
        if not fields:
            return []
        return [_text(found) for found in await self._answer("HMGET", key, *fields)]

    def peek(self, key: str, told: Told, *, field: str = "", unless: str = "") -> bool:
        """Ask on the line, together with everybody who asks in this turn of the loop."""
        if self._line is None:
            return False

        def hear(answer: Any) -> None:
            told(UNKNOWN if isinstance(answer, Exception) else _text(answer))

        return self._line.look_into(key, field, hear, unless) if field else self._line.look(key, hear, unless)

    async def look(self, questions: Sequence[Question]) -> list[Any]:
        """The answers to several questions, in one round trip."""
        found = await self._all(list(map(command, questions)))
        return list(map(understood, questions, found))

    async def record(self, key: str) -> dict[str, str]:
        """All fields of a hash."""
        found = await self._answer("HGETALL", key)
        return {name.decode(): value.decode() for name, value in pairs(found).items()}

    async def members(self, key: str, *, after: str = "", prefix: str = "", limit: int = 1000) -> list[str]:
        """A page of an index, in byte order."""
        low, high = _lexical_range(after.encode(), prefix.encode())
        found = await self._answer("ZRANGEBYLEX", key, low, high, "LIMIT", 0, limit)
        return [member.decode() for member in found]

    async def ranked(self, key: str, *, low: float, high: float, limit: int = 1000) -> list[tuple[str, float]]:
        """Members by score."""
        ends = (repr(low), repr(high))
        found = await self._ask(lambda: self._client.zrangebyscore(key, *ends, start=0, num=limit, withscores=True))
        return [(member.decode(), float(score)) for member, score in found]

    async def has_member(self, key: str, member: str) -> bool:
        """Whether the index holds the member."""
        return await self._answer("ZSCORE", key, member) is not None

    async def size(self, key: str) -> int:
        """How many members the index has."""
        return int(await self._answer("ZCARD", key))

    async def generation(self, partition: str, counter: str) -> int:
        """The last generation given by that counter."""
        return int(await self.field(self._keys.at(partition, "generations"), counter) or "0")

    # The outbox.

    async def busy_lanes(self) -> list[str]:
        """Lanes of this service that hold entries."""
        partitions = self._keys.all_partitions()
        streams = await self._all([("HKEYS", self._keys.at(partition, "lanes")) for partition in partitions])
        lanes = [
            self._keys.lane(partition, stream.decode())
            for partition, found in zip(partitions, streams, strict=True)
            for stream in sorted(found)
        ]
        lengths = await self._all([("XLEN", lane) for lane in lanes])
        return [lane for lane, length in zip(lanes, lengths, strict=True) if length]

    async def woken(self) -> AsyncIterator[str]:
        """Names of lanes that got their first entry; what is said while the connection is away is not heard."""
        while True:
            try:
                async with self._listener.pubsub(ignore_subscribe_messages=True) as messages:
                    await messages.subscribe(wake_channel(self._keys.service))
                    async for message in messages.listen():
                        yield message["data"].decode()
            except server.PASSING:
                await self._clock.sleep(1.0)

    def heed(self, told: Callable[[str], None]) -> None:
        """Have `told` called with each lane that a step of this process put something into."""
        self._told = told

    async def listeners(self) -> int:
        """How many connections hear the wake channel."""
        [(_, count)] = await self._ask(lambda: self._client.pubsub_numsub(wake_channel(self._keys.service)))
        return int(count)

    async def acquire(self, lane: str, token: str, seconds: float) -> bool:
        """Take or renew the lane's lease."""
        arguments = (token, int(seconds * 1000))
        return bool(await self._script(self._acquire, [lease_of(lane)], arguments))

    async def release(self, lease: Lease) -> None:
        """Give the lease back."""
        await self._script(self._release, [lease_of(lease.lane)], (lease.token,))

    async def entries(self, lane: str, limit: int) -> list[LaneEntry]:
        """The oldest entries of a lane; where there are replicas, those have them too."""
        question = ("XRANGE", lane, "-", "+", "COUNT", str(limit))
        if not self._settings.replicas:
            return [_entry(number, fields) for number, fields in await self._answer(*question)]
        await self._all([("PING",)])
        *_, found = await self._all([("SET", f"{lane}:read", ""), question])
        return [_entry(number, fields) for number, fields in found]

    async def remove(self, lease: Lease, last: int) -> bool:
        """Remove what was published, unless the lease has gone to another."""
        keys = [lease_of(lease.lane), lease.lane]
        return bool(await self._script(self._remove, keys, (lease.token, str(last + 1))))

    async def drain(self, lease: Lease, seconds: float, published: int, limit: int) -> list[LaneEntry] | None:
        """One turn of the relay; where there are replicas, thing by thing: each waits for them in its own way."""
        if self._settings.replicas:
            held = not published or await self.remove(lease, published)
            if not held or not await self.acquire(lease.lane, lease.token, seconds):
                return None
            return await self.entries(lease.lane, limit)
        keys = [lease_of(lease.lane), lease.lane]
        arguments = (lease.token, int(seconds * 1000), str(published and published + 1), limit)
        found = await self._script(self._drain, keys, arguments)
        return None if found is None else [_entry(number, fields) for number, fields in found]

    # How questions are asked.

    async def _answer(self, *command: Asked) -> Any:
        """The answer to one command: on the line if it can be, else on a connection of the pool."""
        began = asyncio.get_running_loop().time()
        try:
            if self._line is not None:
                return await self._line.ask(*command)
        except LineDown:
            pass  # as above
        return await self._ask(lambda: self._client.execute_command(*command), began)

    async def _script(self, script: Any, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script: on the line if it can be. One whose answer was lost is sent again, which each script bears."""
        began = asyncio.get_running_loop().time()
        try:
            if self._line is not None:
                return await self._line.ask("EVALSHA", script.sha, len(keys), *keys, *arguments)
        except LineDown:
            pass  # the pool has the patience
        return await self._ask(lambda: self._run(script, keys, arguments), began)

    async def _ask(self, question: Callable[[], Awaitable[T]], began: float | None = None) -> T:
        """Ask until there is an answer or the deadline is over, counted from when it was first asked."""
        pause = _FIRST_PAUSE
        reason: Exception | None = None
        now = asyncio.get_running_loop().time()
        try:
            async with asyncio.timeout_at((now if began is None else began) + self._settings.deadline):
                while True:
                    try:
                        return await question()
                    except (RedisError, OSError) as error:
                        if not server.is_passing(error):
                            raise
                        reason = error
                    await self._clock.sleep(pause)
                    pause = min(2 * pause, _LONGEST_PAUSE)
        except TimeoutError:
            raise StateUnavailable(str(reason or "no answer in time")) from reason

    async def _run(self, script: Any, keys: Sequence[str], arguments: Sequence[Argument]) -> Any:
        """Run a script; where there are replicas, its answer counts when they have it on disk."""
        if not self._settings.replicas:
            return await script(keys=keys, args=arguments)
        async with self._client.pipeline(transaction=False) as pipe:
            await script(keys=keys, args=arguments, client=pipe)
            return (await self._on_replicas(pipe))[0]

    async def _all(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        """The answers to several commands, asked at once."""
        if not commands:
            return []
        began = asyncio.get_running_loop().time()
        try:
            if self._line is not None:
                return await self._line.ask_all(commands)
        except LineDown:
            pass  # as above
        return await self._ask(lambda: self._at_once(commands), began)

    async def _at_once(self, commands: Sequence[tuple[str, ...]]) -> list[Any]:
        async with self._client.pipeline(transaction=False) as pipe:
            for command in commands:
                pipe.execute_command(*command)
            return await self._on_replicas(pipe)

    async def _on_replicas(self, pipe: Any) -> list[Any]:
        """WAITAOF speaks of its own connection's last write, so there must be one, and both go through one pipeline."""
        replicas = self._settings.replicas
        if not replicas:
            return await pipe.execute()
        pipe.execute_command("WAITAOF", 1, replicas, 2000)
        *answers, (_, kept) = await pipe.execute()
        if kept < replicas:
            raise server.ReplicasBehind(f"{kept} of {replicas} replicas have the change")
        return answers


def _text(found: Any) -> str | None:
    return None if found is None else found.decode()


def _lexical_range(after: bytes, prefix: bytes) -> tuple[bytes, bytes]:
    """Byte 255 is in no UTF-8 text, so it ends every prefix."""
    low = b"(" + after if after and after >= prefix else b"[" + prefix if prefix else b"-"
    return low, (b"(" + prefix + b"\xff") if prefix else b"+"


def _entry(number: bytes, found: Any) -> LaneEntry:
    fields = pairs(found)
    return LaneEntry(
        number=int(number.partition(b"-")[0]),
        id=fields[b"id"].decode(),
        subject=fields[b"subject"].decode(),
        content=fields[b"content"],
    )
