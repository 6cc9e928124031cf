"""Trace context in and out, with and without a collector."""

import asyncio
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.trace import StatusCode

from shared.bus.face import Heard
from shared.events.builds import BuildStarted
from shared.telemetry.exported import Exported
from shared.telemetry.traces import Context, Traces, Unexported, traced
from tests.support.clock import SeededIds
from tests.support.suite import ROOT

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


class Collector(SpanExporter):
    def __init__(self) -> None:
        self.spans: list[ReadableSpan] = []

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        self.spans += spans
        return SpanExportResult.SUCCESS


def test_a_traceparent_is_read_and_written() -> None:
    assert str(Context.parse(PARENT)) == PARENT
    assert str(Context.parse(PARENT[:-2] + "00")) == PARENT[:-2] + "00"
    assert Context.parse(f"01-{TRACE}-{SPAN}-01-more") == Context(TRACE, SPAN)


@pytest.mark.parametrize(
    "traceparent",
    [
        "",
        "00",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        PARENT.upper(),
        PARENT[1:],
    ],
)
def test_what_is_no_traceparent_is_none(traceparent: str) -> None:
    assert Context.parse(traceparent) is None


@given(st.text(max_size=70))
def test_no_text_breaks_the_reading(text: str) -> None:
    found = Context.parse(text)
    assert found is None or Context.parse(str(found)) == found


def test_without_a_collector_the_trace_goes_on_with_a_span_of_its_own() -> None:
    traces: Traces = Unexported(SeededIds())
    with traces.span("a", PARENT, {}) as place:
        assert (place.trace, place.sampled) == (TRACE, True)
        assert place.span != SPAN
    with traces.span("a", "", {}) as first, traces.span("b", "nonsense", {}) as second:
        assert first.trace != second.trace
        assert Context.parse(str(first)) == first


def test_with_a_collector_spans_are_sent_under_the_callers() -> None:
    collector = Collector()
    traces = Exported("registry", collector)
    with traces.span("outer", PARENT, {"n": 1}) as outer, traces.span("inner", str(outer), {}) as inner:
        assert {outer.trace, inner.trace} == {TRACE}
    with traces.span("another", "", {}) as another:
        assert another.trace != TRACE
    traces.close()
    by_name: dict[str, Any] = {span.name: span for span in collector.spans}
    assert f"{by_name['outer'].parent.span_id:016x}" == SPAN
    assert f"{by_name['inner'].parent.span_id:016x}" == outer.span
    assert by_name["another"].parent is None


def test_an_error_in_a_span_does_not_take_its_text_along() -> None:
    collector = Collector()
    traces = Exported("registry", collector)
    with pytest.raises(ValueError, match="hunter2"), traces.span("a", "", {}):
        raise ValueError("hunter2")
    traces.close()
    (span,) = collector.spans
    assert not span.status.is_ok
    assert "hunter2" not in span.to_json()


async def test_a_handlers_span_continues_the_trace_of_its_event() -> None:
    collector = Collector()
    traces = Exported("scanner", collector)
    heard = Heard(
        event=BuildStarted(project="demo", build="b", worker="w"),
        id="i1",
        generation=1,
        sequence=1,
        time="",
        traceparent=PARENT,
    )

    async def handle(event: Heard[BuildStarted]) -> None:
        assert event is heard

    await traced(traces, "scanner", handle)(heard)
    traces.close()
    (span,) = collector.spans
    assert span.name == "handle build.started"
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == TRACE


def test_the_status_of_an_answer_is_told_by_its_span() -> None:
    collector = Collector()
    traces = Exported("registry", collector)
    for code in (200, 404, 500):
        with traces.span("a", "", {}):
            traces.note_status(code)
    traces.close()
    noted = [(dict(span.attributes or {}), span.status.status_code) for span in collector.spans]
    code, unset, error = "http.response.status_code", StatusCode.UNSET, StatusCode.ERROR
    assert noted == [({code: 200}, unset), ({code: 404}, unset), ({code: 500}, error)]


async def test_spans_go_nowhere_and_load_no_exporter_unless_an_endpoint_is_named() -> None:
    program = (
        "import asyncio, sys\n"
        "from shared.assembly import assembled\n"
        "from shared.settings import Settings, read\n"
        "async def main():\n"
        "    settings = read(Settings, {'ENTREPOT_OTLP_ENDPOINT': sys.argv[1]} if sys.argv[1:] else {})\n"
        "    async with assembled('registry', settings, {}) as real:\n"
        "        print(real.parts.traces.kept, 'opentelemetry.exporter' in sys.modules)\n"
        "asyncio.run(main())\n"
    )
    assert await _said(program) == "False False"
    assert await _said(program, "http://127.0.0.1:9/v1/traces") == "True True"


async def _said(program: str, *arguments: str) -> str:
    ran = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, *arguments, stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    said, _ = await ran.communicate()
    assert ran.returncode == 0
    return said.decode().strip()
