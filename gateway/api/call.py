"""Call: what is learned of one request on its way, and the observation that it becomes."""

from __future__ import annotations

import logging
import math
import time
from typing import Any, Final

import orjson

from gateway.api.errors import STATUS
from gateway.api.formats import FORMATS
from gateway.auth.principal import ANONYMOUS
from gateway.errors import (
    BodyTimeoutError,
    ClientGoneError,
    GatewayError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.limits.reservation import Reservation
from gateway.routing.rules import Decision
from gateway.routing.snapshot import ModelRoute, Target
from gateway.telemetry.logging import LogThrottle
from gateway.telemetry.metrics import NO_MODEL, NO_SIDE, GatewayMetrics
from gateway.telemetry.spool import Spool
from gateway.telemetry.tracing import CLIENT, SERVER, Trace, span_line
from gateway.telemetry.user_hash import UserHasher
from gateway.upstream.sse import StreamMeter
from gateway.upstream.usage import Usage
from serving.contracts.observation import Outcome

log = logging.getLogger(__name__)

_CLIENT_GONE: Final = "client_gone"
_NO_USAGE: Final = Usage()
_STATUS_CLASS: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")


class Call:
    """One request's record; times are monotonic seconds but for `received`.

    `begun` is when its head had arrived, `asked` when its body had: what an engine is waited for begins there.
    `target`, `meter`, `usage` and what is learned of an answer are the last try's.
    """

    __slots__ = (
        "_ids", "asked", "asked_model", "begun", "deadline", "decision", "finish_reason", "format", "headers",
        "max_tokens", "meter", "outcome", "path", "principal", "received", "request_id", "reservation", "route",
        "span_id", "started", "status", "streamed", "target", "trace", "tries", "try_began", "usage", "user",
    )  # fmt: skip

    trace: Trace
    span_id: bytes

    def __init__(self, user: bytes, path: str) -> None:
        self.received = time.time()
        self.begun = self.asked = self.try_began = time.monotonic()
        self.deadline = math.inf
        self.path = path
        self.format = FORMATS[path]
        self.request_id = b""
        self.headers = b""
        self.user = user
        self.principal = ANONYMOUS
        self.asked_model = ""
        self.max_tokens: int | None = None
        self.decision: Decision | None = None
        self.route: ModelRoute | None = None
        self.reservation: Reservation | None = None
        self.target: Target | None = None
        self.tries = 0
        self.status = 0
        self.outcome = Outcome.OK
        self.started = False
        self.streamed = False
        self.meter: StreamMeter | None = None
        self.usage: Usage | None = None
        self.finish_reason: str | None = None

    @property
    def model(self) -> str:
        """The model that answers, as a metric label."""
        return self.route.model if self.route is not None else NO_MODEL

    @property
    def expected_tokens(self) -> int:
        """What the request is expected to take of an endpoint."""
        reservation = self.reservation
        return reservation.prompt_tokens + reservation.output_tokens if reservation is not None else 0

    def identified(self, request_id: bytes, trace: Trace) -> None:
        """Note by what the request is found again; both go with every answer."""
        self.request_id, self.trace, self.span_id = request_id, trace, trace.span_id
        self.headers = self._ids = b"x-request-id: %b\r\n%b" % (request_id, trace.header())

    def headers_upstream(self) -> bytes:
        """Return the header lines by which the engine's part of the request is found again."""
        trace = self.trace
        if self.span_id is trace.span_id and not trace.state:
            return self._ids  # not sampled: the engine's parent is what the client is told, too
        return b"x-request-id: %b\r\n%b" % (self.request_id, trace.upstream(self.span_id))

    def failed(self, error: GatewayError) -> None:
        """Note how the request failed; a status that the client has already got stays."""
        self.outcome = outcome_of(error)
        if not self.started or isinstance(error, ClientGoneError):
            self.status = STATUS[error.code]

    def answered(self, body: bytes) -> None:
        """Take tokens and finish reason from an answer that is not a stream."""
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return
        if isinstance(document, dict):
            self.usage, self.finish_reason = self.format.whole(document)

    def metered(self) -> None:
        """Take tokens and finish reason from a stream, as far as it has come; changes nothing for other answers.

        Pieces of content stand in for output tokens that the engine does not report, or has not reported yet.
        """
        meter = self.meter
        if meter is None:
            return
        meter.settle()
        self.finish_reason = meter.finish_reason
        usage = meter.usage or Usage()
        if meter.content_chunks and (usage.output_tokens is None or not meter.done):
            usage = usage._replace(output_tokens=max(usage.output_tokens or 0, meter.content_chunks))
        self.usage = usage


def outcome_of(error: GatewayError) -> Outcome:
    """Say whose doing an error was."""
    if isinstance(error, ClientGoneError | BodyTimeoutError):
        return Outcome.CLIENT_DISCONNECT
    if isinstance(error, UpstreamTimeoutError):
        return Outcome.UPSTREAM_TIMEOUT
    if isinstance(error, UpstreamError):
        return Outcome.UPSTREAM_ERROR
    return Outcome.REJECTED


class Recorder:
    """Turns calls that have ended into metrics, observations, and spans of those that are sampled."""

    def __init__(self, metrics: GatewayMetrics, spool: Spool, spans: Spool, hasher: UserHasher) -> None:
        self._metrics = metrics
        self._spool = spool
        self._spans = spans
        self._hasher = hasher
        self._throttle = LogThrottle(log)

    def record(self, call: Call) -> None:
        """Count the call and queue its observation; never waits."""
        seconds = time.monotonic() - call.begun
        target, meter = call.target, call.meter
        first = meter.first_content if meter is not None else None
        ttft = max(0.0, first - call.asked) if first is not None else None
        gone = call.outcome is Outcome.CLIENT_DISCONNECT
        self._metrics.answered(
            call.model,
            target.side if target is not None else NO_SIDE,
            _CLIENT_GONE if gone else _STATUS_CLASS[call.status // 100],
            seconds,
            ttft,
        )
        self._spool.put(
            orjson.dumps(self._observation(call, seconds, ttft)) + b"\n"
        )  # a copy: orjson's has 4 kB of room
        if call.request_id and call.trace.sampled:
            self._record_spans(call, seconds)

    def failed(self, call: Call, error: GatewayError) -> None:
        """Note how the call failed, and count and log it when that was an engine's doing."""
        call.failed(error)
        if isinstance(error, UpstreamError) and call.target is not None:
            self._note_engine(call, call.target, error)

    def failed_try(self, call: Call, error: GatewayError) -> None:
        """Note a try that failed before another one is made: an observation of its own, so that its side is charged.

        Its request id ends with the number of the try, so a label never belongs to it.
        """
        target = call.target
        if target is None or not isinstance(error, UpstreamError):
            return
        self._note_engine(call, target, error)
        now = time.monotonic()
        line = self._observation(call, now - call.try_began, None) | {
            "request_id": f"{call.request_id.decode()}~{call.tries}",
            "outcome": outcome_of(error),
            "status": STATUS[error.code],
        }
        self._spool.put(orjson.dumps(line) + b"\n")
        if call.trace.sampled:
            self._span_of_try(call, target, now, str(error.code))

    def _note_engine(self, call: Call, target: Target, error: UpstreamError) -> None:
        self._metrics.upstream_failed(target.service, error.code)
        fields = {
            "request_id": call.request_id.decode(),
            "trace_id": call.trace.trace_id.decode(),
            "service": target.service,
            "code": error.code,
            "reason": error.message,
        }
        self._throttle.warning("engine failed", fields)

    def _record_spans(self, call: Call, seconds: float) -> None:
        error = None if call.outcome is Outcome.OK else str(call.outcome)
        if call.target is not None:
            self._span_of_try(call, call.target, call.begun + seconds, error)
        attributes: dict[str, str | int] = {
            "http.response.status_code": call.status,
            "gen_ai.request.model": call.model,
            "nexus.tenant": call.principal.tenant,
            "nexus.request_id": call.request_id.decode(),
        }
        self._spans.put(
            span_line(
                call.trace,
                call.trace.span_id,
                call.trace.parent_id,
                name=f"POST {call.path}",
                kind=SERVER,
                start=call.received,
                seconds=seconds,
                attributes=attributes,
                error=error,
            )
        )

    def _span_of_try(self, call: Call, target: Target, ended: float, error: str | None) -> None:
        self._spans.put(
            span_line(
                call.trace,
                call.span_id,
                call.trace.span_id,
                name="forward",
                kind=CLIENT,
                start=call.received + call.try_began - call.begun,
                seconds=ended - call.try_began,
                attributes={"server.address": str(target.origin), "nexus.service": target.service},
                error=error,
            )
        )

    def _observation(self, call: Call, seconds: float, ttft: float | None) -> dict[str, Any]:
        route, target, meter, decision = call.route, call.target, call.meter, call.decision
        usage = call.usage or _NO_USAGE
        finish_reason, gap = call.finish_reason, None
        if meter is not None and meter.first_content is not None and meter.content_chunks > 1:
            gap = (meter.last_content - meter.first_content) / (meter.content_chunks - 1)
        return {
            "ts": call.received,
            "request_id": call.request_id.decode(),
            "trace_id": call.trace.trace_id.decode() if call.request_id else None,
            "tenant": call.principal.tenant,
            "key_id": call.principal.key_id,
            "model": call.model,
            "rule": decision.rule if decision is not None else None,
            "arm": decision.arm if decision is not None else None,
            "release_id": route.release_id if route is not None else None,
            "side": target.side if target is not None else None,
            "service": target.service if target is not None else None,
            "user_hash": self._hasher(call.user),
            "streamed": call.streamed,
            "outcome": call.outcome,
            "status": call.status,
            "total_ms": seconds * 1e3,
            "ttft_ms": ttft * 1e3 if ttft is not None else None,
            "itl_ms": gap * 1e3 if gap is not None else None,
            "prompt_tokens": usage.prompt_tokens,
            "cached_tokens": usage.cached_tokens,
            "output_tokens": usage.output_tokens,
            "finish_reason": finish_reason[:64] if finish_reason is not None else None,
        }
