"""What was said, read back: the messages of some topics in the order of their stream, from some time on to its end."""

import base64
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Protocol

from nats.aio.client import Client
from nats.errors import Error

from shared.bus.connection import Address, BusMetrics, connect
from shared.bus.face import BusUnavailable
from shared.bus.following import Page, StreamUnreadable, read_page
from shared.bus.memory import MemoryBroker
from shared.bus.operator import Operator, sound
from shared.bus.streams import STREAMS, Keeps
from shared.clock import rfc3339


@dataclass(frozen=True)
class Said:
    """One message."""

    number: int
    subject: str
    content: bytes


class History(Protocol):
    """Reads streams without leaving a trace on the bus."""

    def said(self, stream: str, topics: Sequence[str], since: float = 0.0) -> AsyncIterator[Said]:
        """What was stored from that time on and matches `TOPIC.>`, up to the present end. Raises BusUnavailable."""
        ...


class JetStreamHistory:
    """The history of a real bus, as its user `operator` may read it."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._operator = Operator(address)
        self._connection: Client | None = None

    async def close(self) -> None:
        """Disconnect."""
        await self._operator.close()
        if self._connection is not None:
            await self._connection.close()

    async def said(self, stream: str, topics: Sequence[str], since: float = 0.0) -> AsyncIterator[Said]:
        """Page by page where the stream can be read so; a queue of work message by message."""
        read = self._queued if STREAMS[stream].keeps is Keeps.WORK else self._kept
        async for said in read(stream, topics, since):
            yield said

    async def _kept(self, stream: str, topics: Sequence[str], since: float) -> AsyncIterator[Said]:
        try:
            last = int(sound(await self._operator.ask(f"STREAM.INFO.{stream}", {}))["state"]["last_seq"])
            position = await self._before(stream, since, last)
            while position < last:
                pages = [await self._page(stream, f"{topic}.>", position + 1) for topic in topics]
                reach = min([last, *(page.messages[-1][0] for page in pages if not page.whole)])
                for message in sorted(message for page in pages for message in page.messages):
                    if message[0] <= reach:
                        yield Said(*message)
                position = reach
        except (OSError, Error, StreamUnreadable) as error:
            raise BusUnavailable(f"the stream {stream} cannot be read ({error})") from error

    async def _queued(self, stream: str, topics: Sequence[str], since: float) -> AsyncIterator[Said]:
        """What waits there is little, and all of it is as new as its oldest."""
        del since
        for topic in topics:
            number = 0
            while found := await self._operator.message(stream, {"seq": number + 1, "next_by_subj": f"{topic}.>"}):
                number = int(found["seq"])
                yield Said(number, str(found["subject"]), _content(found))

    async def _before(self, stream: str, since: float, last: int) -> int:
        """The number behind which everything lies that was stored since then."""
        if since <= 0:
            return 0
        page = await self._page(stream, ">", rfc3339(since))
        return page.messages[0][0] - 1 if page.messages else last

    async def _page(self, stream: str, subjects: str, first: int | str) -> Page:
        if self._connection is None or self._connection.is_closed:
            metrics = BusMetrics("history")
            self._connection = await connect(self._address, name="history", error=metrics.error, endless=False)
        return await read_page(self._connection, stream, subjects, first)


@dataclass(frozen=True)
class MemoryHistory:
    """The history of a bus in memory."""

    broker: MemoryBroker

    async def said(self, stream: str, topics: Sequence[str], since: float = 0.0) -> AsyncIterator[Said]:
        """In the order in which they were stored, all of it: a bus in memory is young."""
        del since
        for stored in self.broker.messages(stream):
            if stored.subject.startswith(tuple(f"{topic}." for topic in topics)):
                yield Said(stored.number, stored.subject, stored.content)


def _content(found: dict[str, str]) -> bytes:
    return base64.b64decode(found.get("data", ""))
