"""Traces: W3C trace context in and out, and spans that are exported only where somebody collects them."""

import re
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from shared.bus.face import Handler, Heard
from shared.clock import Ids
from shared.events import Event

_FORM = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(?:-.*)?")

E = TypeVar("E", bound=Event)


@dataclass(frozen=True)
class Context:
    """A place in a trace: a trace and one span of it."""

    trace: str
    span: str
    sampled: bool = True

    @classmethod
    def parse(cls, traceparent: str) -> "Context | None":
        """What a `traceparent` says; None where there is none, or not one."""
        found = _FORM.fullmatch(traceparent)
        if found is None or found[1] == "0" * 32 or found[2] == "0" * 16:
            return None
        return cls(found[1], found[2], sampled=bool(int(found[3], 16) & 1))

    def __str__(self) -> str:
        return f"00-{self.trace}-{self.span}-{1 if self.sampled else 0:02x}"


class Traces(Protocol):
    """Makes spans."""

    @property
    def kept(self) -> bool:
        """Whether anybody keeps them."""
        ...

    def past(self, name: str, parent: str, attributes: Mapping[str, str | int], seconds: float) -> None:
        """A span of something that took so long and has just ended."""
        ...

    def span(self, name: str, parent: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[Context]:
        """A span around what is done inside, child of `parent` (a traceparent, or empty)."""
        ...

    def note_status(self, code: int) -> None:
        """Put the status of an answer on the span that is under way, if there is one."""
        ...

    def close(self) -> None:
        """Send what is still held."""
        ...


class Unexported:
    """Passes trace context on and keeps nothing: the way without a collector, at the cost of two ids."""

    kept = False

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    def past(self, name: str, parent: str, attributes: Mapping[str, str | int], seconds: float) -> None:
        """Nobody keeps it."""

    def span(self, name: str, parent: str, attributes: Mapping[str, str | int]) -> "Unkept":
        """A place in the trace, kept by nobody."""
        del name, attributes
        fresh = self._ids.new()
        known = Context.parse(parent) if parent else None
        if known is None:
            return Unkept(Context(fresh, fresh[-16:]))
        return Unkept(Context(known.trace, fresh[-16:], sampled=known.sampled))

    def note_status(self, code: int) -> None:
        """There is nothing to put it on."""

    def close(self) -> None:
        """There is nothing to send."""


class Unkept:
    """A span that nobody keeps."""

    __slots__ = ("_place",)

    def __init__(self, place: Context) -> None:
        self._place = place

    def __enter__(self) -> Context:
        return self._place

    def __exit__(self, *_: object) -> None:
        return None


def traced(traces: Traces, service: str, handler: Handler[E]) -> Handler[E]:
    """A bus handler with a span around it that continues the trace of the event."""

    async def handle(heard: Heard[E]) -> None:
        topic = heard.event.topic
        attributes = {"messaging.destination.name": topic, "messaging.message.id": heard.id, "service": service}
        with traces.span(f"handle {topic}", heard.traceparent, attributes):
            await handler(heard)

    return handle
