"""The bus as its user `operator` reaches it: one connection, opened with the first question."""

import json
from typing import Any

from nats.aio.client import Client
from nats.errors import Error

from shared.bus.connection import ASK_SECONDS, Address, BusMetrics, connect
from shared.bus.face import BusUnavailable

NO_MESSAGE = 10037
"""JetStream's code for: there is no such message."""


class Operator:
    """Asks, and is answered or told that the bus does not answer."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._metrics = BusMetrics("operator")
        self._connection: Client | None = None

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()

    async def ask(self, call: str, body: dict[str, Any]) -> dict[str, Any]:
        """JetStream's answer to one call of its API; it may hold an `error`. Raises BusUnavailable."""
        return await self.request(f"$JS.API.{call}", json.dumps(body).encode() if body else b"")

    async def message(self, stream: str, which: dict[str, Any]) -> dict[str, Any] | None:
        """One stored message; None where there is none. Raises BusUnavailable."""
        answer = await self.ask(f"STREAM.MSG.GET.{stream}", which)
        if answer.get("error", {}).get("err_code") == NO_MESSAGE:
            return None
        return sound(answer)["message"]

    async def request(self, subject: str, content: bytes, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """The answer to what is published on a subject. Raises BusUnavailable."""
        try:
            connection = await self._connected()
            answer = await connection.request(subject, content, timeout=ASK_SECONDS, headers=headers)
        except (OSError, Error) as error:
            raise BusUnavailable(f"the bus at {self._address.servers[0]} does not answer ({error})") from error
        return json.loads(answer.data)

    async def _connected(self) -> Client:
        if self._connection is None or self._connection.is_closed:
            self._connection = await connect(self._address, name="operator", error=self._metrics.error, endless=False)
        return self._connection


def sound(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer that holds no error. Raises BusUnavailable."""
    if answer.get("error"):
        raise BusUnavailable(str(answer["error"].get("description")))
    return answer
