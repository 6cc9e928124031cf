"""A bus whose handlers are timed, traced and named in logs, and whose views are known to whoever asks for readiness."""

from collections.abc import Callable, Sequence
from typing import TypeVar

import structlog

from shared.bus.face import Bus, Handler, Heard, Later, Publisher, Reject, View
from shared.clock import Clock
from shared.events import Event
from shared.telemetry.metrics import Metrics
from shared.telemetry.traces import Traces, traced

E = TypeVar("E", bound=Event)


class Listening:
    """Wraps a bus; the service behind notices nothing."""

    def __init__(self, bus: Bus, clock: Clock, metrics: Metrics, traces: Traces) -> None:
        self.views: list[View] = []
        self._bus = bus
        self._clock = clock
        self._metrics = metrics
        self._traces = traces

    @property
    def publisher(self) -> Publisher:
        """The wrapped bus's own."""
        return self._bus.publisher

    def work(self, event: type[E], handler: Handler[E], *, at_once: int | None = None, long: bool = False) -> None:
        """Take events of a topic, with a span and a measurement around each."""
        watched = self._timed(event.topic, traced(self._traces, self._metrics.service, handler))
        self._bus.work(event, watched, at_once=at_once, long=long)

    def view(self, events: Sequence[type[Event]], heard: Callable[[Heard[Event]], None]) -> View:
        """Hear everything of these topics; views are neither traced nor timed, for they hear too much too fast."""
        view = self._bus.view(events, heard)
        self.views.append(view)
        return view

    async def start(self) -> None:
        """Connect and begin to hear."""
        await self._bus.start()

    async def stop(self) -> None:
        """Stop hearing."""
        await self._bus.stop()

    def _timed(self, topic: str, handler: Handler[E]) -> Handler[E]:
        async def handle(heard: Heard[E]) -> None:
            began = self._clock.monotonic()
            outcome = "failed"
            with structlog.contextvars.bound_contextvars(event=heard.id, topic=topic):
                try:
                    await handler(heard)
                    outcome = "handled"
                except Reject:
                    outcome = "rejected"
                    raise
                except Later:
                    outcome = "later"
                    raise
                finally:
                    self._metrics.event_handled(topic, outcome, self._clock.monotonic() - began)

        return handle
