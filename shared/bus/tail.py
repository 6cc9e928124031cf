"""Reading along: what is said on a stream, from some point on, without leaving a trace on the bus.

It asks for one message after the other, as the user `operator`, and makes no consumer that somebody would have to
remove; that is for people who watch, not for services.
"""

import base64
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from nats.aio.client import Client
from nats.errors import Error

from shared.bus.connection import ASK_SECONDS, Address, BusMetrics, connect
from shared.bus.face import BusUnavailable

_NO_MESSAGE = 10037
_PAUSE = 0.2


@dataclass(frozen=True)
class Said:
    """One message of a stream."""

    number: int
    subject: str
    time: str
    content: bytes


class Tail:
    """Follows streams of one bus."""

    def __init__(self, address: Address, sleep: Callable[[float], Awaitable[None]]) -> None:
        """`sleep` is how it waits between two questions."""
        self._address = address
        self._sleep = sleep
        self._connection: Client | None = None

    async def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            await self._connection.close()

    async def end(self, stream: str) -> int:
        """The number of the last message. Raises BusUnavailable."""
        return int((await self._ask(f"STREAM.INFO.{stream}", {}))["state"]["last_seq"])

    async def follow(self, stream: str, subjects: str, after: int, *, endless: bool = True) -> AsyncIterator[Said]:
        """Messages whose subject matches, behind number `after`; for ever, or up to the present end."""
        number = after
        while True:
            found = await self._next(stream, subjects, number + 1)
            if found is not None:
                number = found.number
                yield found
            elif endless:
                await self._sleep(_PAUSE)
            else:
                return

    async def _next(self, stream: str, subjects: str, number: int) -> Said | None:
        answer = await self._ask(f"STREAM.MSG.GET.{stream}", {"seq": number, "next_by_subj": subjects}, _NO_MESSAGE)
        if "message" not in answer:
            return None
        found = answer["message"]
        content = base64.b64decode(found.get("data", ""))
        return Said(int(found["seq"]), str(found["subject"]), str(found["time"]), content)

    async def _ask(self, call: str, body: dict[str, Any], expected: int = 0) -> dict[str, Any]:
        try:
            if self._connection is None:
                name, error = "tail", BusMetrics("operator").error
                self._connection = await connect(self._address, name=name, error=error, endless=False)
            asked = json.dumps(body).encode() if body else b""
            answer = await self._connection.request(f"$JS.API.{call}", asked, timeout=ASK_SECONDS)
        except (OSError, Error) as error:
            raise BusUnavailable(f"the bus at {self._address.servers[0]} does not answer ({error})") from error
        told: dict[str, Any] = json.loads(answer.data)
        if told.get("error") and told["error"].get("err_code") != expected:
            raise BusUnavailable(str(told["error"].get("description")))
        return told
