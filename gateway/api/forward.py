"""Forwarding: a request's tries over the endpoints that its plan names, until one of them answers."""

from __future__ import annotations

import asyncio
import math
import time

from gateway.api.call import Call, Recorder
from gateway.api.model_name import replace_model
from gateway.api.relay import relay_stream, relay_whole
from gateway.errors import ClientGoneError, NoEndpointError, OverloadedError, UpstreamError, UpstreamOverloadedError
from gateway.exchange import Exchange
from gateway.resilience.blame import may_try_again, result_of
from gateway.resilience.deadline import deadline_line
from gateway.resilience.endpoint import Result
from gateway.resilience.retry import RetryBudget, backoff_seconds
from gateway.routing.attempts import own_side, plan
from gateway.routing.snapshot import Target
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.tracing import new_span_id
from gateway.upstream.connection import Connection
from gateway.upstream.pool import UpstreamPool
from serving.contracts.gateway_policy import GatewayPolicyBody

_GONE = "the client closed its connection"


class Forwarder:
    """Sends requests to endpoints and relays their answers.

    Args:
        pool: Connections to endpoints.
        recorder: Where tries that failed go.
        metrics: Counters.
        max_event_bytes: Largest event of a stream.
    """

    def __init__(
        self, pool: UpstreamPool, recorder: Recorder, metrics: GatewayMetrics, *, max_event_bytes: int
    ) -> None:
        self._pool = pool
        self._recorder = recorder
        self._metrics = metrics
        self._max_event_bytes = max_event_bytes
        self._budget = RetryBudget()

    async def forward(self, call: Call, exchange: Exchange, body: bytes, policy: GatewayPolicyBody) -> None:
        """Answer a request by the first endpoint that can.

        Raises:
            NoEndpointError: None may be asked.
            OverloadedError: Those that may be asked have too much to do.
            UpstreamError: The last one that was asked failed, and nothing has gone to the client.
            ClientGoneError: The client left.
        """
        last: UpstreamError | OverloadedError | None = None
        decision = call.decision
        assert decision is not None
        for target in plan(decision):
            if last is None:
                self._budget.first_try(time.monotonic())
                if len(decision.route.live) < len(decision.route.weighted):
                    self._note_diverted(call, target)
            elif not isinstance(last, OverloadedError) and not await self._may_retry(call, policy):
                break  # a full line is no failed try: the next endpoint may have room
            else:
                self._leave_try(call, last, policy)
                if exchange.disconnected:
                    raise ClientGoneError(_GONE)
            call.target = target
            call.tries += 1
            try:
                await self._try(call, exchange, target, body, policy)
            except (UpstreamError, OverloadedError) as exc:
                if call.started or not (isinstance(exc, OverloadedError) or may_try_again(exc)):
                    raise
                last = exc
                continue
            return
        if last is None:
            raise NoEndpointError(
                f"expected a ready service for the model {decision.route.model!r}; there is none: try again later",
                retry_after_seconds=1,
            )
        raise last

    async def _may_retry(self, call: Call, policy: GatewayPolicyBody) -> bool:
        """Wait for the backoff and return True, or return False at once when there may be no other try."""
        now = time.monotonic()
        if call.tries >= policy.retry.max_attempts:
            return False
        wait = backoff_seconds(policy.retry, call.tries, remaining_seconds=call.deadline - now)
        if wait is None or not self._budget.take(policy.retry, now):
            return False
        self._metrics.retried(call.model)
        await asyncio.sleep(wait)
        return True

    def _leave_try(self, call: Call, error: UpstreamError | OverloadedError, policy: GatewayPolicyBody) -> None:
        """Charge the try that failed, while it still is the call's, and forget its answer; all tries share one time."""
        self._recorder.failed_try(call, error)
        call.meter, call.streamed = None, False
        call.deadline = min(call.deadline, call.asked + policy.timeouts.total_seconds)

    def _note_diverted(self, call: Call, target: Target) -> None:
        assert call.decision is not None
        own = own_side(call.decision)
        if own.side is not target.side:
            self._metrics.diverted(call.model, own.side)

    async def _try(
        self, call: Call, exchange: Exchange, target: Target, body: bytes, policy: GatewayPolicyBody
    ) -> None:
        state, tokens = target.state, call.expected_tokens
        entered = state.try_enter(tokens) or await self._enter(call, exchange, target, policy)
        result = Result.UNKNOWN
        call.try_began, call.span_id = entered, new_span_id() if call.trace.sampled else call.trace.span_id
        try:
            request = _request(call, target, exchange.path, body, policy)
            result = await self._exchange(call, exchange, target, request, policy)
        except UpstreamError as exc:
            own_deadline = time.monotonic() >= call.deadline
            result = result_of(exc, first_token=call.started, own_deadline=own_deadline)
            if isinstance(exc, UpstreamOverloadedError) and exc.asked_seconds is not None:
                state.hold(min(exc.asked_seconds, policy.breaker.max_open_seconds))
            raise
        finally:
            state.leave(entered, tokens, result, whole=not call.streamed)

    async def _enter(self, call: Call, exchange: Exchange, target: Target, policy: GatewayPolicyBody) -> float:
        """Wait in the endpoint's line, within one time for all endpoints; a client that leaves leaves the line."""
        task = asyncio.current_task()
        assert task is not None

        def leave() -> None:
            task.cancel()

        exchange.on_gone = leave
        try:
            until = min(call.deadline, call.asked + policy.overload.max_wait_seconds)
            return await target.state.enter(call.principal.priority, call.expected_tokens, until)
        except asyncio.CancelledError:
            if exchange.disconnected and task.uncancel() == 0:
                raise ClientGoneError(_GONE) from None
            raise
        finally:
            exchange.on_gone = None

    async def _exchange(
        self, call: Call, exchange: Exchange, target: Target, request: bytes, policy: GatewayPolicyBody
    ) -> Result:
        """Send the request and relay the answer; returns what it says of the endpoint."""

        def begun(connection: Connection) -> None:
            exchange.on_gone = lambda: connection.fail(ClientGoneError(_GONE))
            if exchange.disconnected:  # it left while a connection was made
                connection.fail(ClientGoneError(_GONE))

        if exchange.disconnected:
            raise ClientGoneError(_GONE)
        connection = await self._pool.exchange(target.origin, request, policy.timeouts, begun, deadline=call.deadline)
        try:
            if not (connection.status == 200 and connection.streaming):
                await relay_whole(call, connection, exchange)
                return Result.ANSWERED
            target.state.first_token(call.try_began, len(request))
            failure = await relay_stream(call, connection, exchange, self._max_event_bytes)
            if failure is None:
                return Result.ANSWERED
            self._recorder.failed(call, failure)
            return Result.FAILED
        finally:
            exchange.on_gone = None
            self._pool.release(connection)


def _request(call: Call, target: Target, path: str, body: bytes, policy: GatewayPolicyBody) -> bytes:
    """Build the request for an endpoint: the client's body, with the name by which the endpoint knows the model."""
    if target.model != call.asked_model:
        body = replace_model(body, target.model_name)
    until = b""
    if target.external or call.deadline != math.inf:
        until = deadline_line(min(call.deadline, call.try_began + policy.timeouts.total_seconds) - time.monotonic())
    return b"%b%b%bcontent-length: %d\r\n\r\n%b" % (
        target.heads[path],
        call.headers_upstream(),
        until,
        len(body),
        body,
    )
