"""Reading along: what is said on a stream, from some point on, without leaving a trace on the bus.

It asks for one message after the other, as the user `operator`, and makes no consumer that somebody would have to
remove; that is for people who watch, not for services.
"""

import base64
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass

from shared.bus.connection import Address
from shared.bus.operator import Operator, sound

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
        self._operator = Operator(address)
        self._sleep = sleep

    async def close(self) -> None:
        """Disconnect."""
        await self._operator.close()

    async def end(self, stream: str) -> int:
        """The number of the last message. Raises BusUnavailable."""
        return int(sound(await self._operator.ask(f"STREAM.INFO.{stream}", {}))["state"]["last_seq"])

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
        found = await self._operator.message(stream, {"seq": number, "next_by_subj": subjects})
        if found is None:
            return None
        content = base64.b64decode(found.get("data", ""))
        return Said(int(found["seq"]), str(found["subject"]), str(found["time"]), content)
