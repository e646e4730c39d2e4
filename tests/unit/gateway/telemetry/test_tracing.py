from __future__ import annotations

import json

import pytest

from gateway.telemetry.tracing import CLIENT, SERVER, Trace, new_span_id, span_line

ID, SPAN = b"0af7651916cd43dd8448eb211c80319c", b"b7ad6b7169203331"
PARENT = b"00-%b-%b-01" % (ID, SPAN)


def test_a_callers_trace_goes_on_with_a_span_of_our_own() -> None:
    """Trace id and the decision to sample stay, our span is the engine's parent and the caller's span is ours."""
    trace = Trace(PARENT, b"a=1,b=2", 0.0)
    assert (trace.trace_id, trace.parent_id, trace.sampled) == (ID, SPAN, True)
    assert trace.span_id != SPAN
    assert trace.upstream(b"1" * 16) == b"traceparent: 00-%b-%b-01\r\ntracestate: a=1,b=2\r\n" % (ID, b"1" * 16)


@pytest.mark.parametrize(
    "parent",
    [None, b"", PARENT.upper(), PARENT + b"\r\nx: y", b"00-" + b"0" * 600, b"ff" + PARENT[2:],
     b"00-%b-%b-01" % (b"0" * 32, SPAN), b"00-%b-%b-01" % (ID, b"0" * 16)],
)  # fmt: skip
def test_anything_else_begins_a_trace_here(parent: bytes | None) -> None:
    """A traceparent that is absent or not well formed is not used, and no tracestate goes on without one."""
    trace = Trace(parent, b"a=1", 0.0)
    assert trace.trace_id != ID
    assert (len(trace.trace_id), trace.parent_id, trace.sampled) == (32, None, False)
    assert b"tracestate" not in trace.upstream(trace.span_id)


def test_a_tracestate_cannot_add_a_header() -> None:
    """Only printable characters of a tracestate pass."""
    assert b"x: y" not in Trace(PARENT, b"a\r\nx: y", 0.0).upstream(SPAN)


def test_roots_are_sampled_by_the_share_asked_for() -> None:
    """With a share of 1 every new trace is sampled, and what is sampled says so to the engine."""
    trace = Trace(None, None, 1.0)
    assert trace.sampled
    assert trace.header().endswith(b"-01\r\n")


def test_a_span_is_a_line_that_a_collector_reads() -> None:
    """Ids, times in nanoseconds as text, typed attributes and the error's status are as OTLP/JSON has them."""
    trace = Trace(PARENT, None, 0.0)
    line = span_line(
        trace, trace.span_id, trace.parent_id, name="POST /v1/x", kind=SERVER, start=1.5, seconds=0.25,
        attributes={"a": "b", "n": 1}, error="timeout",
    )  # fmt: skip
    assert line.endswith(b"}\n")
    (span,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert (span["traceId"], span["parentSpanId"], span["kind"]) == (ID.decode(), SPAN.decode(), 2)
    assert (span["startTimeUnixNano"], span["endTimeUnixNano"]) == ("1500000000", "1750000000")
    assert span["attributes"] == [
        {"key": "a", "value": {"stringValue": "b"}},
        {"key": "n", "value": {"intValue": "1"}},
    ]
    assert span["status"] == {"code": 2, "message": "timeout"}


def test_a_root_that_went_well_has_neither_parent_nor_error() -> None:
    """A span without parent and error has no such fields."""
    trace = Trace(None, None, 1.0)
    line = span_line(
        trace, new_span_id(), None, name="x", kind=CLIENT, start=0.0, seconds=0.0, attributes={}, error=None
    )
    (span,) = json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"]
    assert "parentSpanId" not in span
    assert span["status"] == {}
