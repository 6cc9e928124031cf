"""The bus as a service hears it: timed, traced, with its views known."""

import asyncio
from typing import Any

import structlog

from shared.bus.face import Heard, Later, Reject
from shared.bus.memory import MemoryBroker, MemoryBus
from shared.events import Event
from shared.events.builds import BuildStarted
from shared.events.states import ProjectState
from shared.telemetry.listening import Listening
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Unexported
from tests.support.clock import FakeClock, SeededIds
from tests.support.events import said


def _listening(clock: FakeClock, broker: MemoryBroker) -> tuple[Listening, Metrics]:
    metrics = Metrics("scanner")
    return Listening(MemoryBus("scanner", clock, broker), clock, metrics, Unexported(SeededIds())), metrics


async def test_handlers_are_counted_by_how_they_end_and_named_in_logs() -> None:
    clock = FakeClock()
    bus, metrics = _listening(clock, MemoryBroker(clock))
    named: list[dict[str, Any]] = []
    fates: dict[str, Exception | None] = {
        "a": None,
        "b": Reject("never"),
        "c": Later("soon", 60),
        "d": RuntimeError("x"),
    }
    everything = asyncio.Event()

    async def handle(heard: Heard[BuildStarted]) -> None:
        named.append(structlog.contextvars.get_contextvars())
        if len(named) == len(fates):
            everything.set()
        fate = fates[heard.event.build]
        if fate is not None:
            raise fate

    bus.work(BuildStarted, handle)
    await bus.start()
    for build in fates:
        await bus.publisher.publish([said(BuildStarted(project="demo", build=build, worker="w"), cause=build)])
    async with asyncio.timeout(5):
        await everything.wait()
    await bus.stop()
    text = metrics.text().decode()
    for outcome in ("handled", "rejected", "later", "failed"):
        assert (
            f'entrepot_event_seconds_count{{outcome="{outcome}",service="scanner",topic="build.started"}} 1.0' in text
        )
    assert {context["topic"] for context in named} == {"build.started"}


async def test_views_are_known_to_whoever_asks_for_readiness() -> None:
    clock = FakeClock()
    bus, _ = _listening(clock, MemoryBroker(clock))
    heard: list[Event] = []
    something = asyncio.Event()

    def hear(fact: Heard[Event]) -> None:
        heard.append(fact.event)
        something.set()

    bus.view([ProjectState], hear)
    assert [view.caught_up for view in bus.views] == [False]
    await bus.publisher.publish([said(ProjectState(project="demo"))])
    await bus.start()
    async with asyncio.timeout(5):
        await something.wait()
    assert [view.caught_up for view in bus.views] == [True]
    await bus.stop()
    assert len(heard) == 1
