"""One connection to Valkey for all questions: what is asked in one turn of the loop goes out together, in order.

A pooled connection costs each question a checkout, a write, a read and several tasks; here it costs a future. Whatever
goes wrong here is only told: who asks has the slower way, which waits, asks again and knows every error.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any, Final, cast
from urllib.parse import urlsplit

import hiredis

from shared.state.server import ValkeySettings

AGAIN_SECONDS: Final = 0.5
"""How long after a failure a new connection is tried."""

Asked = str | bytes | int | float


# Its own types know commands of one word only.
_packed = cast("Callable[[tuple[Asked, ...]], bytes]", cast("Any", hiredis).pack_command)


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
        wire = self._wire
        if wire is None or wire.down:
            self._open()
            raise LineDown
        return await wire.ask(_packed(command))

    async def close(self) -> None:
        """Disconnect for good."""
        self._closed = True
        if self._opening is not None:
            self._opening.cancel()
            await asyncio.gather(self._opening, return_exceptions=True)
        if self._wire is not None:
            self._wire.hang_up()
            await self._wire.gone.wait()

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


class _Wire(asyncio.Protocol):
    """Bytes out, answers in, each to the oldest question."""

    def __init__(self, patience: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._patience = patience
        self._transport: asyncio.Transport | None = None
        self._reader = hiredis.Reader()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._outgoing: list[bytes] = []
        self._answers = 0
        self._watch: asyncio.TimerHandle | None = None
        self.gone = asyncio.Event()
        self.down = False

    def ask(self, packed: bytes) -> "asyncio.Future[Any]":
        """Send with everything else that is asked in this turn."""
        answer: asyncio.Future[Any] = self._loop.create_future()
        if self.down:
            answer.set_exception(LineDown())
            return answer
        if not self._outgoing:
            self._loop.call_soon(self._flush)
        self._outgoing.append(packed)
        self._waiting.append(answer)
        if self._watch is None:
            self._watch = self._loop.call_later(self._patience, self._look, self._answers)
        return answer

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
                self._tell(self._waiting.popleft(), answer)
        except (hiredis.ProtocolError, IndexError):
            self.hang_up()

    def connection_lost(self, exc: Exception | None) -> None:
        """Called by the loop."""
        del exc
        self.down = True
        if self._watch is not None:
            self._watch.cancel()
        while self._waiting:
            self._tell(self._waiting.popleft(), LineDown())
        self.gone.set()

    def _tell(self, waiting: "asyncio.Future[Any]", answer: Any) -> None:
        if waiting.done():
            return
        if isinstance(answer, Exception):
            waiting.set_exception(answer if isinstance(answer, LineDown) else LineDown(str(answer)))
        else:
            waiting.set_result(answer)

    def _flush(self) -> None:
        outgoing, self._outgoing = self._outgoing, []
        if self._transport is not None and not self.down:
            self._transport.write(b"".join(outgoing))

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
