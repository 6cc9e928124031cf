"""Spans by OpenTelemetry, for where somebody collects them."""

import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Self

from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import NonRecordingSpan, SpanContext, SpanKind, StatusCode, TraceFlags

from shared.telemetry.traces import Context


class Exported:
    """Sends spans in batches."""

    kept = True

    def __init__(self, service: str, exporter: SpanExporter) -> None:
        """`exporter` is where they go."""
        self._provider = TracerProvider(resource=Resource.create({"service.name": f"entrepot-{service}"}))
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("entrepot")

    @classmethod
    def to(cls, service: str, endpoint: str) -> Self:
        """Spans of a service, sent to an OTLP endpoint over HTTP."""
        return cls(service, OTLPSpanExporter(endpoint=endpoint))

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

    def past(self, name: str, parent: str, attributes: Mapping[str, str | int], seconds: float) -> None:
        """A span that is over already."""
        ended = time.time_ns()
        began = ended - int(seconds * 1e9)
        span = self._tracer.start_span(
            name, context=_remote(parent), kind=SpanKind.SERVER, attributes=attributes, start_time=began
        )
        span.end(ended)

    def note_status(self, code: int) -> None:
        """Put the status of an answer on the span that is under way, if there is one."""
        span = trace.get_current_span()
        span.set_attribute("http.response.status_code", code)
        if code >= 500:
            span.set_status(StatusCode.ERROR)

    def close(self) -> None:
        """Send what is still held."""
        self._provider.shutdown()


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
