"""The dead letters: what no handler could take, why, and how to have it handled once more.

A redriven letter is published on its old subject with its old event id, so that handlers recognise what they have done
already; its message id is a new one, or the bus would drop it as a twin. All that hear the topic hear it again.
"""

import base64
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Protocol

from shared.bus.broker import MemoryBroker, Stored
from shared.bus.connection import Address
from shared.bus.face import Message
from shared.bus.operator import Operator, sound
from shared.bus.streams import STREAMS, Keeps
from shared.clock import rfc3339
from shared.events.contracts import topic_of

_NO_ANSWER = "no handler ever answered"
_GAVE_UP = "$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES."
_TERMINATED = "$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED."


class LetterUnknown(LookupError):
    """There is no dead letter of that number, or what it is about is kept no longer."""


@dataclass(frozen=True)
class DeadLetter:
    """One message that nobody could take."""

    number: int
    """By which it is shown and redriven."""
    service: str
    """Who could not take it; the durable's name where the server gave up."""
    subject: str
    """Where it was said."""
    reason: str
    delivery: int
    """How often it was tried."""
    time: str
    stream: str
    position: int
    """Where it stood in its stream."""
    content: bytes


class DeadLetters(Protocol):
    """What whoever looks after a suite does with dead letters."""

    def all(self, *, service: str = "", after: int = 0) -> AsyncIterator[DeadLetter]:
        """Letters in the order in which they died, behind number `after`."""
        ...

    async def show(self, number: int) -> DeadLetter:
        """One letter. Raises LetterUnknown."""
        ...

    async def redrive(self, number: int) -> None:
        """Say it once more and take it from the dead. Raises LetterUnknown or BusUnavailable."""
        ...


class MemoryDeadLetters:
    """The dead letters of a bus in memory."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def all(self, *, service: str = "", after: int = 0) -> AsyncIterator[DeadLetter]:
        """Letters in the order in which they died."""
        for stored in list(self._broker.stream("DEAD").after(after)):
            letter = _of_memory(stored)
            if service in {"", letter.service}:
                yield letter

    async def show(self, number: int) -> DeadLetter:
        """One letter."""
        stored = self._broker.stream("DEAD").messages.get(number)
        if stored is None:
            raise LetterUnknown(number)
        return _of_memory(stored)

    async def redrive(self, number: int) -> None:
        """Say it once more."""
        letter = await self.show(number)
        self._broker.publish([Message(_new_id(letter), letter.subject, letter.content)])
        del self._broker.stream("DEAD").messages[number]


class JetStreamDeadLetters:
    """The dead letters of the real bus, as its user `operator`."""

    def __init__(self, address: Address) -> None:
        self._operator = Operator(address)

    async def close(self) -> None:
        """Disconnect."""
        await self._operator.close()

    async def all(self, *, service: str = "", after: int = 0) -> AsyncIterator[DeadLetter]:
        """Letters in the order in which they died."""
        number = after
        while (found := await self._operator.message("DEAD", {"seq": number + 1, "next_by_subj": ">"})) is not None:
            number = found["seq"]
            letter = await self._letter(found)
            if letter is not None and service in {"", letter.service}:
                yield letter

    async def show(self, number: int) -> DeadLetter:
        """One letter."""
        found = await self._operator.message("DEAD", {"seq": number})
        letter = None if found is None else await self._letter(found)
        if letter is None:
            raise LetterUnknown(number)
        return letter

    async def redrive(self, number: int) -> None:
        """Say it once more and take it from the dead, in this order: a crash between the two leaves a twin's id."""
        letter = await self.show(number)
        await self._refuse_what_was_never_said(letter)
        sound(await self._operator.request(letter.subject, letter.content, {"Nats-Msg-Id": _new_id(letter)}))
        await self._operator.ask("STREAM.MSG.DELETE.DEAD", {"seq": number, "no_erase": True})
        if letter.reason == _NO_ANSWER and letter.stream == "JOBS":
            # A job that the server gave up stays in its queue, where nobody gets it any more.
            await self._operator.ask("STREAM.MSG.DELETE.JOBS", {"seq": letter.position, "no_erase": True})

    async def _refuse_what_was_never_said(self, letter: DeadLetter) -> None:
        """A letter is written by who could not take the message, and said again in the name of who said it.

        So it must be what its stream holds, where more hear it than who wrote it. Raises LetterUnknown.
        """
        topic = topic_of(letter.subject)
        if topic is None:
            raise LetterUnknown(f"{letter.number} is of no topic")
        stream = topic.event.stream
        if STREAMS[stream].keeps is Keeps.WORK:
            return
        original = await self._operator.message(stream, {"seq": letter.position})
        said = original and (original["subject"], base64.b64decode(original.get("data", "")))
        if said != (letter.subject, letter.content):
            raise LetterUnknown(f"{letter.number} is not what {stream} holds at {letter.position}, or holds no longer")

    async def _letter(self, found: dict[str, Any]) -> DeadLetter | None:
        subject: str = found["subject"]
        if subject.startswith(_TERMINATED):
            # The server's echo of a letter that lies here already, with its reason.
            return None
        if subject.startswith(_GAVE_UP):
            return await self._given_up(found)
        headers = _headers(found)
        return DeadLetter(
            number=found["seq"],
            service=headers.get("Entrepot-Service", subject.split(".")[1]),
            subject=".".join(subject.split(".")[2:]),
            reason=headers.get("Entrepot-Reason", ""),
            delivery=int(headers.get("Entrepot-Delivery", "0")),
            time=found["time"],
            stream=headers.get("Entrepot-Stream", ""),
            position=int(headers.get("Entrepot-Number", "0")),
            content=base64.b64decode(found.get("data", "")),
        )

    async def _given_up(self, found: dict[str, Any]) -> DeadLetter | None:
        """The server's own notice names the message; its content lies in the stream still."""
        notice = json.loads(base64.b64decode(found.get("data", "")))
        original = await self._operator.message(notice["stream"], {"seq": notice["stream_seq"]})
        if original is None:
            return None
        return DeadLetter(
            number=found["seq"],
            service=notice["consumer"],
            subject=original["subject"],
            reason=_NO_ANSWER,
            delivery=notice["deliveries"],
            time=found["time"],
            stream=notice["stream"],
            position=notice["stream_seq"],
            content=base64.b64decode(original.get("data", "")),
        )


def _of_memory(stored: Stored) -> DeadLetter:
    letter = stored.letter
    if letter is None:
        raise LetterUnknown(stored.number)
    return DeadLetter(
        number=stored.number,
        service=letter.service,
        subject=letter.subject,
        reason=letter.reason,
        delivery=letter.delivery,
        time=rfc3339(stored.at),
        stream=letter.stream,
        position=letter.number,
        content=stored.content,
    )


def _new_id(letter: DeadLetter) -> str:
    # The same for the same letter: redriving it twice says it once.
    return f"redriven.{letter.number}.{letter.stream}.{letter.position}"


def _headers(found: dict[str, Any]) -> dict[str, str]:
    lines = base64.b64decode(found.get("hdrs", "")).decode("utf-8", "replace").split("\r\n")
    pairs = (line.partition(":") for line in lines if ":" in line)
    return {name.strip(): value.strip() for name, _, value in pairs}
