"""One connection to Valkey for all questions: what is asked in one turn of the loop goes out together, in order.

A pooled connection costs each question a checkout, a write, a read and several tasks; here it costs a future. Whatever
goes wrong here is only told: who asks has the slower way, which waits, asks again and knows every error.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import hiredis

from shared.state.server import ValkeySettings

AGAIN_SECONDS: Final = 0.5
"""How long after a failure a new connection is tried."""

Asked = str | bytes | int | float


Hear = Callable[[Any], None]
"""Is called with the answer, or with the exception that came instead; from the loop, once, and must not raise."""


# Its own types know commands of one word only.
_packed = cast("Callable[[tuple[Asked, ...]], bytes]", cast("Any", hiredis).pack_command)


class Passed(Exception):
    """There is a value under the key that was to have none: the answer is not for this way."""


PASSED: Final = Passed()


class LineDown(Exception):
    """There is no connection, or it broke before the answer came: whether the command was done is unknown."""


class Line:
    """A connection that opens itself beside the questions, and again when it broke."""

    def __init__(self, settings: ValkeySettings) -> None:
        """Nothing is opened before the first question; that one, and those until it is open, are refused."""
        self._settings = settings
        self._wire: _Wire | None = None
        self._opening: asyncio.Task[None] | None = None
        self._closed = False

    async def ask(self, *command: Asked) -> Any:
        """The answer to one command. Raises LineDown, also for an answer that is an error."""
        wire = self._usable()
        if wire is None:
            raise LineDown
        return await wire.ask(_packed(command))

    async def ask_all(self, commands: Sequence[tuple[Asked, ...]]) -> list[Any]:
        """The answers to several commands that leave together. Raises LineDown when one of them has none."""
        wire = self._usable()
        if wire is None:
            raise LineDown
        return await wire.ask_all([_packed(command) for command in commands])

    def look(self, key: str, hear: Hear, unless: str = "") -> bool:
        """Ask for the value of a key without a task of one's own; all keys of one turn are one question.

        Where there is a value under the key `unless`, which is asked for along with it, `hear` is given PASSED.

        The question leaves after this call, never before it: nobody joins one that is under way, as its answer may be
        older than what a writer was told meanwhile. False when there is no connection; then `hear` is not called.
        """
        wire = self._usable()
        if wire is not None:
            wire.look(key, hear, unless)
        return wire is not None

    def look_into(self, key: str, field: str, hear: Hear, unless: str = "") -> bool:
        """The same for one field of a hash."""
        wire = self._usable()
        if wire is not None and unless:
            both = _Both(hear)
            wire.send(_packed(("HGET", key, field)), _Heard(both.found))
            wire.look(unless, both.sign, "")
        elif wire is not None:
            wire.send(_packed(("HGET", key, field)), _Heard(hear))
        return wire is not None

    async def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._wire is not None:
            self._wire.hang_up()
            await self._wire.gone.wait()

    def _usable(self) -> "_Wire | None":
        wire = self._wire
        if wire is None or wire.down:
            self._open()
            return None
        return wire

    def _open(self) -> None:
        if self._opening is None and not self._closed:
            self._opening = asyncio.create_task(self._opened())

    async def _opened(self) -> None:
        try:
            async with asyncio.timeout(2.0):
                self._wire = await self._let_in(await _dial(self._settings))
        except (OSError, LineDown, TimeoutError):
            await asyncio.sleep(AGAIN_SECONDS)
        finally:
            self._opening = None

    async def _let_in(self, wire: "_Wire") -> "_Wire":
        user = (self._settings.username,) if self._settings.username else ()
        try:
            if self._settings.password:
                await wire.ask(_packed(("AUTH", *user, self._settings.password)))
        except BaseException:
            wire.hang_up()
            raise
        return wire


class _Waiting(Protocol):
    """Whoever waits for an answer."""

    def tell(self, answer: Any) -> None:
        """The answer, or the exception that came instead."""
        ...


class _Awaited:
    """A task that waits."""

    __slots__ = ("answer",)

    def __init__(self, answer: "asyncio.Future[Any]") -> None:
        self.answer = answer

    def tell(self, answer: Any) -> None:
        if self.answer.done():
            return
        if isinstance(answer, Exception):
            self.answer.set_exception(answer if isinstance(answer, LineDown) else LineDown(str(answer)))
        else:
            self.answer.set_result(answer)


class _AwaitedAll:
    """A task that waits for several answers."""

    __slots__ = ("answers", "found", "left")

    def __init__(self, answers: "asyncio.Future[list[Any]]", count: int) -> None:
        self.answers = answers
        self.found: list[Any] = []
        self.left = count

    def tell(self, answer: Any) -> None:
        self.found.append(answer)
        if len(self.found) < self.left or self.answers.done():
            return
        failed = next((each for each in self.found if isinstance(each, Exception)), None)
        if failed is None:
            self.answers.set_result(self.found)
        else:
            self.answers.set_exception(failed if isinstance(failed, LineDown) else LineDown(str(failed)))


class _Heard:
    """A function that is called."""

    __slots__ = ("_hear",)

    def __init__(self, hear: Hear) -> None:
        self._hear = hear

    def tell(self, answer: Any) -> None:
        self._hear(answer)


class _Both:
    """Hears two answers, in whichever order they come, and gives on one."""

    __slots__ = ("_found", "_hear", "_left", "_sign")

    def __init__(self, hear: Hear) -> None:
        self._hear = hear
        self._left = 2
        self._found: Any = None
        self._sign: Any = None

    def found(self, answer: Any) -> None:
        """What was asked for."""
        self._found = answer
        self._heard()

    def sign(self, answer: Any) -> None:
        """What there is under the other key."""
        self._sign = answer
        self._heard()

    def _heard(self) -> None:
        self._left -= 1
        if not self._left:
            self._hear(self._found if self._sign is None else PASSED)


@dataclass
class _Together:
    """Keys that are asked for in one question, each once."""

    keys: dict[str, int] = field(default_factory=dict[str, int])
    """Where in the answer the value of each is."""
    hear: list[tuple[Hear, int, int]] = field(default_factory=list[tuple[Hear, int, int]])
    """Who hears which of them, and which is to be none; -1: that is all one."""

    def add(self, key: str, hear: Hear, unless: str) -> None:
        """Ask for one more."""
        keys = self.keys
        at = keys.setdefault(key, len(keys))
        self.hear.append((hear, at, keys.setdefault(unless, len(keys)) if unless else -1))

    def packed(self) -> bytes:
        """The question."""
        return _packed(("MGET", *self.keys))

    def tell(self, answer: Any) -> None:
        """To each the value of its key; to all what went wrong."""
        failed = isinstance(answer, Exception)
        for hear, at, sign in self.hear:
            if failed:
                hear(answer)
            else:
                hear(answer[at] if sign < 0 or answer[sign] is None else PASSED)


class _Wire(asyncio.Protocol):
    """Bytes out, answers in, each to the oldest question."""

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._waiting: deque[_Waiting] = deque()
        self._outgoing: list[bytes] = []
        self._leaving = False
        """Whether what is outgoing leaves at the end of this turn."""
        self._together = _Together()
        self._alone = True
        """Whether the last look was alone in its turn: then the next one probably is too, and waits for no other."""
        self._answers = 0
        self._watch: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        self.down = False

    def ask(self, packed: bytes) -> "asyncio.Future[Any]":
        """Send with everything else that is asked in this turn."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        self.send(packed, _Awaited(answer))
        return answer

    def ask_all(self, packed: Sequence[bytes]) -> "asyncio.Future[list[Any]]":
        """The same for several questions, of which there is at least one."""
        answers: asyncio.Future[list[Any]] = self._loop.create_future()
        waiting = _AwaitedAll(answers, len(packed))
        if self.down:
            answers.set_exception(LineDown())
            return answers
        self._outgoing += packed
        self._waiting.extend([waiting] * len(packed))
        self._leave()
        return answers

    def send(self, packed: bytes, waiting: _Waiting) -> None:
        """The same, for whoever waits in another way."""
        if self.down:
            waiting.tell(LineDown())
            return
        self._outgoing.append(packed)
        self._waiting.append(waiting)
        self._leave()

    def look(self, key: str, hear: Hear, unless: str) -> None:
        """Ask for a key together with all others of this turn; at once where there are no others."""
        if self.down:
            hear(LineDown())
            return
        self._together.add(key, hear, unless)
        if self._alone and not self._waiting and not self._leaving:
            self._flush()
        else:
            self._leave()

    def hang_up(self) -> None:
        """Leave; whoever waits is told."""
        self.down = True
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Called by the loop."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Called by the loop."""
        self._reader.feed(data)
        try:
            while (answer := self._reader.gets()) is not False:
                self._answers += 1
                self._waiting.popleft().tell(answer)
        except (hiredis.ProtocolError, IndexError):
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        del exc
        self.down = True
        if self._watch is not None:
            self._watch.cancel()
        self._gather()
        while self._waiting:
            self._waiting.popleft().tell(LineDown())
        self.gone.set()

    def _leave(self) -> None:
        if not self._leaving:
            self._leaving = True
            self._loop.call_soon(self._flush)

    def _gather(self) -> None:
        """Make one question of the keys that are looked at."""
        together = self._together
        if together.hear:
            self._alone = len(together.hear) == 1
            self._together = _Together()
            self._outgoing.append(together.packed())
            self._waiting.append(together)

    def _flush(self) -> None:
        self._leaving = False
        self._gather()
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is None or self.down or not outgoing:
            return
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience, self._look, self._answers)
        self._transport.write(outgoing[0] if len(outgoing) == 1 else b"".join(outgoing))

    def _look(self, answers: int) -> None:
        """One timer for all questions: a server that says nothing for so long is taken to be away."""
        self._watch = None
        if not self._waiting:
            return
        if answers == self._answers:
            self.hang_up()
            return
        self._watch = self._loop.call_later(self._patience, self._look, self._answers)


def is_plain(url: str) -> bool:
    """Whether a line can be opened to an address: not with TLS, nor where the address says more than the place."""
    place = urlsplit(url)
    simple = not (place.username or place.password or place.query)
    return simple and (place.scheme == "unix" or (place.scheme == "redis" and place.path in {"", "/", "/0"}))


async def _dial(settings: ValkeySettings) -> _Wire:
    place, loop = urlsplit(settings.url), asyncio.get_running_loop()

    def make() -> _Wire:
        return _Wire(settings.deadline / 4)

    if place.scheme == "unix":
        return (await loop.create_unix_connection(make, place.path))[1]
    return (await loop.create_connection(make, place.hostname or "", place.port or 6379))[1]
