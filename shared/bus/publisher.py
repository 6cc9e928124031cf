"""Publishing so that order survives: atomic batches on a connection that never sends by itself what was left over."""

import asyncio
import itertools
import json
from collections.abc import Sequence
from typing import Any

from nats.aio.client import Client
from nats.errors import Error

from shared.bus.connection import Address, BusMetrics, connect
from shared.bus.face import BusUnavailable, Message, StreamFull

BATCH = 64
DEADLINE_SECONDS = 10.0
_TWIN_INSIDE = 10201
_NO_BATCHES = 10174
_BATCH_INCOMPLETE = 10176
_FULL = 10077

Answer = dict[str, Any]


class JetStreamPublisher:
    """Publishes on a connection of its own.

    It does not reconnect: a client that does sends what it had buffered, behind what the caller meanwhile published
    again. After any failure the connection is thrown away, and the caller begins with its first message once more.
    """

    def __init__(self, service: str, address: Address, metrics: BusMetrics) -> None:
        self._service = service
        self._address = address
        self._metrics = metrics
        self._connection: Client | None = None
        self._connecting = asyncio.Lock()
        self._batches = itertools.count(1)

    async def publish(self, messages: Sequence[Message]) -> None:
        """Store all messages of one stream, in order. Raises BusUnavailable or StreamFull."""
        for start in range(0, len(messages), BATCH):
            connection = await self._connected()
            try:
                async with asyncio.timeout(DEADLINE_SECONDS):
                    await self._publish_some(connection, messages[start : start + BATCH])
            except (Error, OSError, TimeoutError, BusUnavailable) as error:
                await self._forget(connection)
                raise BusUnavailable(f"{type(error).__name__}: {error}") from error

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._forget(self._connection)

    async def _connected(self) -> Client:
        async with self._connecting:
            if self._connection is None or self._connection.is_closed:
                self._connection = await self._opened()
            return self._connection

    async def _opened(self) -> Client:
        try:
            async with asyncio.timeout(DEADLINE_SECONDS):
                return await connect(
                    self._address, name=f"{self._service} publisher", error=self._metrics.error, endless=False
                )
        except (Error, OSError, TimeoutError) as error:
            raise BusUnavailable(f"{type(error).__name__}: {error}") from error

    async def _forget(self, connection: Client) -> None:
        if self._connection is connection:
            self._connection = None
        if not connection.is_closed:
            await connection.close()

    async def _publish_some(self, connection: Client, messages: Sequence[Message]) -> None:
        if len(messages) == 1 or not await self._publish_whole(connection, messages):
            for message in messages:
                _complain(await _ask(connection, message, {}))

    async def _publish_whole(self, connection: Client, messages: Sequence[Message]) -> bool:
        """As one atomic batch; False where that cannot be: a twin among them, or a stream that takes no batches."""
        batch = f"{connection.client_id}-{self._service}-{next(self._batches)}"
        headers = [{"Nats-Batch-Id": batch, "Nats-Batch-Sequence": str(n)} for n in range(1, len(messages) + 1)]
        headers[-1]["Nats-Batch-Commit"] = "1"
        # Only the last waits for an answer: what was wrong with an earlier one makes the batch incomplete.
        for message, more in zip(messages[:-1], headers[:-1], strict=True):
            await connection.publish(message.subject, message.content, headers=_headers(message, more))
        return _stored_whole(await _ask(connection, messages[-1], headers[-1]))


def _stored_whole(answer: Answer) -> bool:
    """True when the batch is stored, False when its messages are to go one by one; raises for what stops both."""
    if _code(answer) in {_TWIN_INSIDE, _NO_BATCHES, _BATCH_INCOMPLETE}:
        return False
    _complain(answer)
    return True


async def _ask(connection: Client, message: Message, more: dict[str, str]) -> Answer:
    answer = await connection.request(
        message.subject, message.content, timeout=DEADLINE_SECONDS, headers=_headers(message, more)
    )
    return json.loads(answer.data) if answer.data else {}


def _headers(message: Message, more: dict[str, str]) -> dict[str, str]:
    return {"Nats-Msg-Id": message.id, **more}


def _code(answer: Answer) -> int:
    return int(answer.get("error", {}).get("err_code", 0))


def _complain(answer: Answer) -> None:
    error = answer.get("error")
    if not error:
        return
    told = str(error.get("description", ""))
    if _code(answer) == _FULL or "maximum" in told:
        raise StreamFull(told)
    raise BusUnavailable(told)
