"""The hot path: one request from arrival to observation.

accept → authenticate → read and parse once → route → reserve limits → forward → relay → settle → observe. Nothing has
gone to the client before an engine has answered in full, or with the first event of a stream; so until then every
failure becomes a proper error with its own status, or another try. After that a stream ends with an error event.
"""

from __future__ import annotations

import asyncio
import logging
import math
import time
from dataclasses import dataclass
from typing import Final

from gateway.api.call import Call, Recorder
from gateway.api.forward import Forwarder
from gateway.api.intake import (
    IDEMPOTENCY_KEY,
    TRACE_PARENT,
    TRACE_STATE,
    address_of,
    model_of,
    new_request_id,
    parse_document,
    read_head,
    request_id_of,
    user_of,
)
from gateway.api.relay import send_whole
from gateway.auth.authenticator import Authenticator
from gateway.auth.credential import API_KEY, AUTHORIZATION
from gateway.beside.idempotency import Entry, Idempotency, fingerprint_of, key_of
from gateway.beside.shadow import Shadows
from gateway.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    ClientGoneError,
    GatewayError,
    InternalError,
    LimitExceededError,
    NotReadyError,
)
from gateway.exchange import AnswerCopy, Exchange
from gateway.limits.limiter import Limiter
from gateway.policy_store import PolicyStore
from gateway.resilience.deadline import timeout_of
from gateway.routing.request import RouteRequest
from gateway.routing.snapshot import Snapshot
from gateway.telemetry.logging import LogThrottle
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.tracing import Trace
from serving.contracts.observation import Outcome

_NO_HEADERS: Final[frozenset[bytes]] = frozenset()

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Stages:
    """What requests pass through, in this order."""

    store: PolicyStore
    authenticator: Authenticator
    idempotency: Idempotency
    limiter: Limiter
    forwarder: Forwarder
    shadows: Shadows
    recorder: Recorder


class HotPath:
    """Answers the paths that are passed to engines.

    Args:
        stages: What requests pass through.
        metrics: Where refusals are counted.
    """

    def __init__(self, stages: Stages, metrics: GatewayMetrics) -> None:
        self._stages = stages
        self._store = stages.store
        self._metrics = metrics
        self.in_flight = 0
        self._throttle = LogThrottle(log)

    async def __call__(self, exchange: Exchange) -> None:
        """Answer one request; a fault of ours becomes a 500 and a log line, and is counted."""
        call = Call(address_of(exchange.client), exchange.path)
        self.in_flight += 1
        try:
            await self._answer(call, exchange)
        except GatewayError as exc:
            self._refuse(call, exc, exchange)
        except asyncio.CancelledError:
            call.status, call.outcome = (call.status or 503), Outcome.REJECTED  # the time for shutting down is over
            raise
        except Exception:  # noqa: BLE001 - logged with its traceback, but for what an outage would repeat
            self._throttle.exception("request failed", {"request_id": call.request_id.decode()})
            self._refuse(call, InternalError("the gateway failed; its log has the request id"), exchange)
        finally:
            self.in_flight -= 1
            self._stages.recorder.record(call)

    async def _answer(self, call: Call, exchange: Exchange) -> None:
        snapshot = self._store.snapshot
        head = read_head(exchange.headers, snapshot.router.headers if snapshot is not None else _NO_HEADERS)
        call.identified(
            request_id_of(head),
            Trace(
                head.get(TRACE_PARENT),
                head.get(TRACE_STATE),
                snapshot.policy.tracing.sample_fraction if snapshot is not None else 0.0,
            ),
        )
        if snapshot is None:
            raise NotReadyError("expected a policy; none has been loaded yet: try again later", retry_after_seconds=1)
        policy, authenticator = snapshot.policy, self._stages.authenticator
        credentials = head.get(AUTHORIZATION), head.get(API_KEY)
        principal = authenticator.identify(policy, *credentials)
        if principal is None:
            principal = await authenticator.identify_slowly(policy, *credentials)
        call.principal = principal
        seconds = timeout_of(head)
        call.deadline = call.begun + seconds if seconds is not None else math.inf

        body = await exchange.read_body(policy.request_limits)
        call.asked = time.monotonic()
        document = parse_document(body, policy.request_limits)
        call.max_tokens = call.format.max_tokens(document)
        call.user = principal.user or user_of(head, document, exchange.client)
        call.asked_model = model_of(document)
        request = RouteRequest(call.asked_model, principal, call.user, head, document, len(body))
        given = head.get(IDEMPOTENCY_KEY)
        if given is None:
            await self._serve(call, exchange, snapshot, request, body)
        else:
            await self._serve_once(given, call, exchange, snapshot, request, body)

    async def _serve(
        self, call: Call, exchange: Exchange, snapshot: Snapshot, request: RouteRequest, body: bytes
    ) -> None:
        """Route, reserve, forward and settle."""
        call.decision = decision = snapshot.router.decide(request)
        call.route = route = decision.route
        policy, limiter = snapshot.policy, self._stages.limiter
        limiter.use(policy.limits)
        shadow = self._stages.shadows.wanted(route, request)
        if shadow is not None and exchange.copy is None:
            exchange.copy = AnswerCopy(shadow.max_answer_bytes)
        call.reservation = reservation = await limiter.reserve(
            limiter.plan(call.principal, call.user, route), len(body), call.max_tokens
        )
        call.headers += reservation.headers
        try:
            await self._stages.forwarder.forward(call, exchange, body, policy)
        finally:
            self._settle(call)
        if shadow is not None and exchange.copy is not None:
            shadow.offer(snapshot, call, exchange.path, body, exchange.copy)

    def _settle(self, call: Call) -> None:
        """Bill what was used: all of an answer, what a stream brought until it broke, nothing for none."""
        assert call.reservation is not None
        call.metered()
        usage = call.usage
        prompt = usage.prompt_tokens if usage is not None else None
        output = usage.output_tokens if usage is not None else None
        if call.outcome is Outcome.ENGINE_REFUSED:
            prompt = output = 0
        elif call.streamed and call.meter is not None and not call.meter.done:
            output = output or 0
        self._stages.limiter.settle(call.reservation, prompt, output, failed=not call.started)

    async def _serve_once(
        self,
        given: bytes,
        call: Call,
        exchange: Exchange,
        snapshot: Snapshot,
        request: RouteRequest,
        body: bytes,
    ) -> None:
        """Serve a request with an idempotency key, or repeat the answer that the key has."""
        policy = snapshot.policy
        key = key_of(f"{call.principal.tenant}\0{call.principal.key_id or call.user!r}", given)
        fingerprint = fingerprint_of(exchange.path, body)
        kept = await self._stages.idempotency.claim(
            key, fingerprint, policy.timeouts.total_seconds, lambda: exchange.disconnected
        )
        self._metrics.idempotent("first" if kept is None else "replayed")
        if kept is not None:
            self._repeat(call, exchange, kept)
            return
        exchange.copy = AnswerCopy(policy.idempotency.max_answer_bytes)
        copy = exchange.copy
        try:
            await self._serve(call, exchange, snapshot, request, body)
        finally:
            await self._stages.idempotency.finish(key, fingerprint, copy, policy.idempotency.keep_seconds)

    def _repeat(self, call: Call, exchange: Exchange, kept: Entry) -> None:
        call.headers += b"idempotency-replayed: true\r\n"
        send_whole(call, exchange, kept.status, b"content-type: %b\r\n" % kept.content_type, kept.body)

    def _refuse(self, call: Call, error: GatewayError, exchange: Exchange) -> None:
        if not call.request_id:
            call.identified(new_request_id(), Trace(None, None, 0.0))
        self._stages.recorder.failed(call, error)
        if call.started or isinstance(error, ClientGoneError):
            return  # nobody is there, or the server closes what cannot be completed
        self._metrics.refused(error.code)
        answer = call.format.render(error)
        if isinstance(error, BodyTooLargeError | BodyTimeoutError):
            exchange.keep_alive = False  # what is left of the body is not waited for
        if isinstance(error, LimitExceededError):
            call.headers += error.headers
        lines = b"".join([b"%b: %b\r\n" % pair for pair in answer.headers])
        send_whole(call, exchange, answer.status, lines, answer.body)
