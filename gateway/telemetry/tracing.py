"""W3C trace context, and spans of sampled requests as OTLP/JSON lines, which an OpenTelemetry collector reads.

https://www.w3.org/TR/trace-context/ · https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import os
import random
import re
from typing import Any, Final

import orjson

_PARENT: Final = re.compile(rb"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,256})?\Z")
_STATE: Final = re.compile(rb"[ -~]{1,512}\Z")
_INVALID_VERSION: Final = b"ff"
_NO_TRACE: Final = b"0" * 32
_NO_SPAN: Final = b"0" * 16
_ids: Final = random.Random(os.urandom(16))  # unique, not secret

SERVER: Final = 2
CLIENT: Final = 3
"""Kinds of span: a request that came in, a call that went out."""

_ERROR: Final = 2


class Trace:
    """One request's place in a trace.

    Attributes:
        trace_id: 32 hex digits, the caller's or made here.
        span_id: 16 hex digits of this request's own span.
        parent_id: The caller's span; None where the trace begins here.
        sampled: Whether spans are written, here and by whoever is called.
        state: The caller's `tracestate` as a header line, or nothing.
    """

    __slots__ = ("parent_id", "sampled", "span_id", "state", "trace_id")

    def __init__(self, parent: bytes | None, state: bytes | None, sample_fraction: float) -> None:
        found = _PARENT.match(parent) if parent is not None else None
        self.span_id = new_span_id()
        self.state = b""
        if found is None or found[1] == _INVALID_VERSION or found[2] == _NO_TRACE or found[3] == _NO_SPAN:
            self.trace_id = b"%032x" % _ids.getrandbits(128)
            self.parent_id: bytes | None = None
            self.sampled = sample_fraction > 0 and _ids.random() < sample_fraction
            return
        self.trace_id, self.parent_id = found[2], found[3]
        self.sampled = bool(int(found[4], 16) & 1)
        if state is not None and _STATE.match(state):
            self.state = b"tracestate: %b\r\n" % state

    def header(self, span_id: bytes | None = None) -> bytes:
        """Return the `traceparent` line with a span of this request as the parent; the request's own by default."""
        return b"traceparent: 00-%b-%b-%b\r\n" % (
            self.trace_id,
            span_id or self.span_id,
            b"01" if self.sampled else b"00",
        )

    def upstream(self, span_id: bytes) -> bytes:
        """Return the header lines for a call that has this span."""
        return self.header(span_id) + self.state


def new_span_id() -> bytes:
    """Make a span's id: 16 hex digits, never all zero."""
    return b"%016x" % (_ids.getrandbits(64) or 1)


def span_line(  # noqa: PLR0913 - a span's own fields
    trace: Trace,
    span_id: bytes,
    parent_id: bytes | None,
    *,
    name: str,
    kind: int,
    start: float,
    seconds: float,
    attributes: dict[str, str | int],
    error: str | None,
) -> bytes:
    """Build one span as a line of OTLP/JSON.

    Args:
        trace: What it belongs to.
        span_id: Its id.
        parent_id: The span that it is part of, None for a root.
        name: What it is, of few values.
        kind: SERVER or CLIENT.
        start: Unix seconds.
        seconds: How long it took.
        attributes: Names and values, of text or whole numbers.
        error: Why it failed; None when it did not.
    """
    begin = int(start * 1e9)
    span: dict[str, Any] = {
        "traceId": trace.trace_id.decode(),
        "spanId": span_id.decode(),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": str(begin),
        "endTimeUnixNano": str(begin + int(seconds * 1e9)),
        "attributes": [{"key": key, "value": _value(value)} for key, value in attributes.items()],
        "status": {"code": _ERROR, "message": error} if error else {},
    }
    if parent_id is not None:
        span["parentSpanId"] = parent_id.decode()
    scope = {"scope": {"name": "nexus.gateway"}, "spans": [span]}
    resource = {"attributes": [{"key": "service.name", "value": {"stringValue": "nexus-gateway"}}]}
    line = {"resourceSpans": [{"resource": resource, "scopeSpans": [scope]}]}
    return orjson.dumps(line) + b"\n"


def _value(value: str | int) -> dict[str, str]:
    return {"stringValue": value} if isinstance(value, str) else {"intValue": str(value)}
