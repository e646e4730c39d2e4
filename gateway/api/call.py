"""Call: what is learned of one request on its way, and the observation that it becomes."""

from __future__ import annotations

import time
from typing import Any, Final

import orjson

from gateway.api.errors import STATUS
from gateway.errors import (
    BodyTimeoutError,
    ClientGoneError,
    GatewayError,
    UpstreamError,
    UpstreamTimeoutError,
)
from gateway.routing.snapshot import ModelRoute, Target
from gateway.telemetry.metrics import NO_MODEL, NO_SIDE, GatewayMetrics
from gateway.telemetry.spool import Spool
from gateway.telemetry.user_hash import UserHasher
from gateway.upstream.sse import StreamMeter
from serving.contracts.observation import Outcome

_CLIENT_GONE: Final = "client_gone"
_STATUS_CLASS: Final = ("0xx", "1xx", "2xx", "3xx", "4xx", "5xx")


class Call:
    """One request's record; times are monotonic seconds but for `received`."""

    __slots__ = (
        "begun", "finish_reason", "meter", "outcome", "received", "release_id", "request_id", "route", "started",
        "status", "streamed", "target", "usage", "user",
    )  # fmt: skip

    def __init__(self, user: bytes) -> None:
        self.received = time.time()
        self.begun = time.monotonic()
        self.request_id = b""
        self.user = user
        self.route: ModelRoute | None = None
        self.target: Target | None = None
        self.status = 0
        self.outcome = Outcome.OK
        self.started = False
        self.streamed = False
        self.meter: StreamMeter | None = None
        self.usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None

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
        if not isinstance(document, dict):
            return
        if isinstance(document.get("usage"), dict):
            self.usage = document["usage"]
        choices = document.get("choices")
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            reason = choices[0].get("finish_reason")
            self.finish_reason = reason if isinstance(reason, str) else None


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
    """Turns calls that have ended into metrics and observations."""

    def __init__(self, metrics: GatewayMetrics, spool: Spool, hasher: UserHasher) -> None:
        self._metrics = metrics
        self._spool = spool
        self._hasher = hasher

    def record(self, call: Call) -> None:
        """Count the call and queue its observation; never waits."""
        seconds = time.monotonic() - call.begun
        route, target, meter = call.route, call.target, call.meter
        if meter is not None:
            meter.settle()
        first = meter.first_content if meter is not None else None
        ttft = max(0.0, first - call.begun) if first is not None else None
        gone = call.outcome is Outcome.CLIENT_DISCONNECT
        self._metrics.answered(
            route.model if route is not None else NO_MODEL,
            target.side if target is not None else NO_SIDE,
            _CLIENT_GONE if gone else _STATUS_CLASS[call.status // 100],
            seconds,
            ttft,
        )
        self._spool.put(orjson.dumps(self._observation(call, seconds, ttft), option=orjson.OPT_APPEND_NEWLINE))

    def _observation(self, call: Call, seconds: float, ttft: float | None) -> dict[str, Any]:
        route, target, meter = call.route, call.target, call.meter
        usage = call.usage or {}
        output_tokens = _count(usage.get("completion_tokens"))
        finish_reason, gap = call.finish_reason, None
        if meter is not None:
            finish_reason = meter.finish_reason
            usage = meter.usage or {}
            output_tokens = _count(usage.get("completion_tokens"))
            if output_tokens is None and meter.content_chunks:
                output_tokens = meter.content_chunks
            if meter.first_content is not None and meter.content_chunks > 1:
                gap = (meter.last_content - meter.first_content) / (meter.content_chunks - 1)
        details = usage.get("prompt_tokens_details")
        return {
            "ts": call.received,
            "request_id": call.request_id.decode(),
            "model": route.model if route is not None else NO_MODEL,
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
            "prompt_tokens": _count(usage.get("prompt_tokens")),
            "cached_tokens": _count(details.get("cached_tokens")) if isinstance(details, dict) else None,
            "output_tokens": output_tokens,
            "finish_reason": finish_reason[:64] if finish_reason is not None else None,
        }


def _count(value: object) -> int | None:
    return value if type(value) is int and value >= 0 else None
