"""A view of the real bus: reads a stream by position, so that nothing can be missed unnoticed.

No consumer is kept on the server. Live messages only say that there is something new; what it is, is then read from
the stream behind the last position. So there is nothing to be reset after an interruption, and every answer that
holds nothing new confirms that nothing is missing.
"""

import asyncio
import contextlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.errors import Error

from shared.bus import snapshot
from shared.bus.connection import ASK_SECONDS, listen
from shared.bus.face import Heard
from shared.bus.fates import Arrival, show
from shared.bus.streams import STREAMS, Keeps
from shared.clock import Clock
from shared.events import Event
from shared.events.contracts import topic_of
from shared.events.earlier import today

log: structlog.stdlib.BoundLogger = structlog.get_logger()

PAGE = 256
IDLE_SECONDS = 2.0
"""How often a quiet stream is asked whether anything is missing."""
EARLY_SECONDS = 0.02
"""A batch shows when it is sent, which is a moment before it is stored."""
SNAPSHOT_SECONDS = 60.0


class StreamUnreadable(Exception):
    """The stream did not answer, or answered with an error."""


@dataclass(frozen=True)
class Page:
    """Some messages of one topic behind a position."""

    messages: Sequence[tuple[int, str, bytes]]
    whole: bool
    """Whether the topic held no more."""


class JetStreamView:
    """What one replica hears of some topics of one stream, all of it and in order."""

    def __init__(
        self,
        stream: str,
        events: Sequence[type[Event]],
        heard: Callable[[Heard[Event]], None],
        clock: Clock,
        file: Path | None = None,
    ) -> None:
        """`file` is where the facts of a state stream are kept for the next start."""
        self._stream = stream
        self._events = {event.topic: event for event in events}
        self._heard = heard
        self._clock = clock
        self._file = file if STREAMS[stream].keeps is Keeps.LAST else None
        self.refused: Callable[[str], None] = _uncounted
        """Told the topic of each message that cannot be taken."""
        self._facts: dict[str, bytes] = {}
        self._created: str = ""
        self._position = 0
        self._confirmed: float | None = None
        self._known_since: float | None = None
        self._bus_is_away = False
        self._saved = (0, 0.0)
        self._news = asyncio.Event()

    @property
    def caught_up(self) -> bool:
        """Whether all said before the start was heard; while the bus is away, whether a snapshot was found."""
        return self._confirmed is not None or (self._bus_is_away and self._known_since is not None)

    @property
    def cut_off(self) -> bool:
        """Whether the stream could not be asked when it was last tried."""
        return self._bus_is_away

    def age(self) -> float:
        """Seconds since the stream last held nothing new."""
        if self._confirmed is not None:
            return self._clock.monotonic() - self._confirmed
        # A snapshot of an earlier process: only wall time can tell, and it may have jumped.
        return float("inf") if self._known_since is None else max(self._clock.now() - self._known_since, 0.0)

    def load(self) -> None:
        """Begin with what an earlier process knew, if it left a snapshot."""
        found = snapshot.read(self._file) if self._file is not None else None
        if found is None or found.stream != self._stream:
            return
        for subject, content in found.facts.items():
            self._take(*today(subject, content))
        self._position, self._created, self._known_since = found.position, found.created, found.confirmed

    async def follow(self, connection: Client) -> None:
        """Hear for ever, on a connection that reconnects by itself."""
        for topic in self._events:
            await listen(connection, f"{topic}.>", self._notice)
        while True:
            noticed, before = self._news.is_set(), self._position
            self._news.clear()
            if not await self._confirm(connection):
                await self._clock.sleep(1.0)
                continue
            await self._save()
            too_early = noticed and self._position == before
            if await self._until_news(EARLY_SECONDS if too_early else IDLE_SECONDS):
                await self._clock.sleep(EARLY_SECONDS / 4)

    def away(self) -> None:
        """The bus could not be reached: what a snapshot told is all there is for now."""
        self._bus_is_away = True

    async def close(self) -> None:
        """Leave a snapshot for the next start."""
        if self._confirmed is not None:
            await self._save(now=True)

    async def _notice(self, _message: Msg) -> None:
        self._news.set()

    async def _until_news(self, seconds: float) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._news.wait()
        return self._news.is_set()

    async def _confirm(self, connection: Client) -> bool:
        try:
            await self._catch_up(connection)
        except (Error, OSError, TimeoutError, StreamUnreadable) as error:
            self._bus_is_away = True
            log.warning("view not confirmed", stream=self._stream, reason=f"{type(error).__name__}: {error}")
            return False
        return True

    async def _catch_up(self, connection: Client) -> None:
        asked = self._clock.monotonic()
        info = await _asked(connection, f"$JS.API.STREAM.INFO.{self._stream}")
        created: str = info["created"]
        last: int = info["state"]["last_seq"]
        if created != self._created or last < self._position:
            # The stream was made anew, or restored from an older copy: what is known counts by another count.
            self._created = created
            self._position = 0
        while self._position < last:
            await self._advance(connection, last)
        self._confirmed, self._bus_is_away = asked, False

    async def _advance(self, connection: Client, last: int) -> None:
        """Take the next messages of all topics, in order, as far as every topic's page reaches."""
        pages = [await read_page(connection, self._stream, f"{topic}.>", self._position + 1) for topic in self._events]
        reach = min([last, *(page.messages[-1][0] for page in pages if not page.whole)])
        for number, subject, content in sorted(message for page in pages for message in page.messages):
            if number <= reach:
                self._take(subject, content)
        self._position = reach

    def _take(self, subject: str, content: bytes) -> None:
        if self._file is not None:
            self._facts.pop(subject, None)
            self._facts[subject] = content
        if not show(self._heard, Arrival(subject, content), self._events):
            topic = topic_of(subject)
            self.refused(topic.name if topic else "")

    async def _save(self, *, now: bool = False) -> None:
        position, at = self._saved
        if self._file is None or not (now or position == 0 or self._clock.monotonic() - at >= SNAPSHOT_SECONDS):
            return
        self._saved = (self._position, self._clock.monotonic())
        wall = self._clock.now()
        if position == self._position and self._file.exists():
            snapshot.confirm(self._file, wall)
            return
        kept = snapshot.Snapshot(self._stream, self._created, self._position, dict(self._facts), wall)
        file = self._file
        try:
            await asyncio.to_thread(lambda: snapshot.write(file, kept))
        except OSError as error:
            log.warning("snapshot not written", file=str(file), reason=str(error))


async def read_page(connection: Client, stream: str, subjects: str, first: int | str) -> Page:
    """Messages of a stream whose subjects match, from number `first` on, or from a time (RFC 3339) on.

    Raises StreamUnreadable, and what the connection raises.
    """
    begin = {"seq": first} if isinstance(first, int) else {"start_time": first}
    wanted = {"batch": PAGE, "next_by_subj": subjects, **begin}
    inbox = connection.new_inbox()
    subscription = await listen(connection, inbox)
    try:
        await connection.publish(f"$JS.API.DIRECT.GET.{stream}", json.dumps(wanted).encode(), reply=inbox)
        messages: list[tuple[int, str, bytes]] = []
        while True:
            answer = await subscription.next_msg(ASK_SECONDS)
            headers = dict(answer.headers or {})
            # Asked first: a producer may give a message any header, but only the server's own answer has no number.
            if "Nats-Sequence" not in headers:
                return Page(messages, _is_whole(headers))
            messages.append((int(headers["Nats-Sequence"]), headers["Nats-Subject"], answer.data))
    finally:
        await subscription.unsubscribe()


class JoinedView:
    """Views of several streams that were asked for as one."""

    def __init__(self, parts: Sequence[JetStreamView]) -> None:
        self._parts = parts

    @property
    def caught_up(self) -> bool:
        """Whether all parts are."""
        return all(part.caught_up for part in self._parts)

    @property
    def cut_off(self) -> bool:
        """Whether one of the parts is."""
        return any(part.cut_off for part in self._parts)

    def age(self) -> float:
        """The oldest part's."""
        return max((part.age() for part in self._parts), default=0.0)


def _uncounted(_topic: str) -> None:
    """Until somebody counts."""


def _is_whole(headers: Mapping[str, str]) -> bool:
    """Whether the answer's end says that no more follows; raises StreamUnreadable where it says something else."""
    match headers.get("Status", ""):
        case "204":
            return headers.get("Nats-Num-Pending", "0") == "0"
        case "404":
            return True
        case status:
            raise StreamUnreadable(f"{status} {headers.get('Description', '')}")


async def _asked(connection: Client, subject: str) -> dict[str, Any]:
    answer = json.loads((await connection.request(subject, b"", timeout=ASK_SECONDS)).data)
    if "error" in answer:
        raise StreamUnreadable(str(answer["error"].get("description")))
    return answer
