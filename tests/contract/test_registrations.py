"""What each service registers on the bus against the table of topics: its account may hear no more."""

import importlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib.util import find_spec
from typing import Any

import pytest

from shared.bus import Heard, View
from shared.bus.memory import MemoryBus
from shared.clock import Clock
from shared.events import Event
from shared.events.contracts import SERVICES, TOPICS
from tests.support.parts import memory_parts


class RecordingBus(MemoryBus):
    """Writes down what is registered."""

    def __init__(self, service: str, clock: Clock) -> None:
        super().__init__(service, clock)
        self.works: list[str] = []
        self.views: set[str] = set()

    def work(self, event: type[Any], handler: Any, *, at_once: int | None = None, long: bool = False) -> None:
        self.works.append(event.topic)
        super().work(event, handler, at_once=at_once, long=long)

    def view(self, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]) -> View:
        self.views |= {event.topic for event in events}
        return super().view(events, heard)


@pytest.mark.parametrize("service", SERVICES)
async def test_a_service_registers_what_the_table_says(service: str) -> None:
    if find_spec(f"services.{service}.app") is None:
        pytest.skip(f"{service} has no app yet")
    made = memory_parts(service)
    recorded = RecordingBus(service, made.clock)
    made.parts.directory.follow(recorded)
    importlib.import_module(f"services.{service}.app").build(replace(made.parts, bus=recorded))
    assert sorted(recorded.works) == sorted(topic.name for topic in TOPICS if service in topic.work)
    # A service may know less than it is allowed to: all may hear who exists and what they may do.
    assert recorded.views <= {topic.name for topic in TOPICS if service in topic.views}
