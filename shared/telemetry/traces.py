"""Traces: W3C trace context in and out, and spans that are exported only where somebody collects them."""

import re
from collections.abc import Generator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol, TypeVar

from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

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

    def span(self, name: str, parent: str, attributes: Mapping[str, str | int]) -> AbstractContextManager[Context]:
        """A span around what is done inside, child of `parent` (a traceparent, or empty)."""
        ...

    def close(self) -> None:
        """Send what is still held."""
        ...


class Unexported:
    """Passes trace context on and keeps nothing: the way without a collector, at the cost of two ids."""

    def __init__(self, ids: Ids) -> None:
        self._ids = ids

    @contextmanager
    def span(self, name: str, parent: str, attributes: Mapping[str, str | int]) -> Generator[Context]:
        """A place in the trace, kept by nobody."""
        del name, attributes
        known = Context.parse(parent)
        fresh = self._ids.new()
        yield Context(known.trace, fresh[-16:], sampled=known.sampled) if known else Context(fresh, fresh[-16:])

    def close(self) -> None:
        """There is nothing to send."""


class Exported:
    """Spans by OpenTelemetry, sent in batches."""

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        """`exporter` is where they go."""
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"entrepot-{service}"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("entrepot")

    @contextmanager
    def span(self, name: str, parent: str, attributes: Mapping[str, str | int]) -> Generator[Context]:
        """A span that is sent when it ends."""
        with self._tracer.start_as_current_span(
            name,
            context=_remote(parent),
            kind=SpanKind.SERVER,
            attributes=attributes,
            record_exception=False,
            set_status_on_exception=False,
        ) as span:
            try:
                yield _place(span.get_span_context())
            except BaseException as error:
                span.set_status(StatusCode.ERROR, type(error).__name__)  # without its text, which may hold anything
                raise

    def close(self) -> None:
        """Send what is still held."""
        self._provider.shutdown()


def traces_for(service: str, endpoint: str, ids: Ids) -> Traces:
    """Spans to an OTLP endpoint, or to nowhere when none is configured."""
    return Exported(service, OTLPSpanExporter(endpoint=endpoint)) if endpoint else Unexported(ids)


def traced(traces: Traces, service: str, handler: Handler[E]) -> Handler[E]:
    """A bus handler with a span around it that continues the trace of the event."""

    async def handle(heard: Heard[E]) -> None:
        topic = heard.event.topic
        attributes = {"messaging.destination.name": topic, "messaging.message.id": heard.id, "service": service}
        with traces.span(f"handle {topic}", heard.traceparent, attributes):
            await handler(heard)

    return handle


def note_status(code: int) -> None:
    """Put the status of an answer on the present span, if there is one."""
    span = trace.get_current_span()
    span.set_attribute("http.response.status_code", code)
    if code >= 500:
        span.set_status(StatusCode.ERROR)


def _place(context: SpanContext) -> Context:
    sampled = bool(context.trace_flags & TraceFlags.SAMPLED)
    return Context(f"{context.trace_id:032x}", f"{context.span_id:016x}", sampled=sampled)


def _remote(parent: str) -> OtelContext:
    known = Context.parse(parent)
    if known is None:
        return trace.set_span_in_context(trace.INVALID_SPAN)
    flags = TraceFlags(TraceFlags.SAMPLED if known.sampled else TraceFlags.DEFAULT)
    context = SpanContext(int(known.trace, 16), int(known.span, 16), is_remote=True, trace_flags=flags)
    return trace.set_span_in_context(NonRecordingSpan(context))
