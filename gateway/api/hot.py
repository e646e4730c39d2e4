"""The hot path: one request from arrival to observation, as plain ASGI.

accept → parse once → route → forward → relay → observe. Nothing has gone to the client before an engine has answered in
full, or with the first event of a stream; so until then every failure becomes a proper error with its own status. After
that a stream ends with an error event.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from gateway.api.call import Call, Recorder
from gateway.api.errors import render
from gateway.api.intake import (
    Receive,
    RequestHead,
    Scope,
    Send,
    address_of,
    model_of,
    new_request_id,
    parse_document,
    read_body,
    read_head,
    user_of,
)
from gateway.api.relay import relay_stream, relay_whole, send_whole
from gateway.errors import (
    BodyTimeoutError,
    BodyTooLargeError,
    ClientGoneError,
    GatewayError,
    InternalError,
    ModelNotFoundError,
    NoEndpointError,
    NotReadyError,
    UpstreamError,
)
from gateway.policy_store import PolicyStore
from gateway.routing.snapshot import Choice, ModelRoute, Snapshot, Target
from gateway.telemetry.logging import LogThrottle
from gateway.telemetry.metrics import GatewayMetrics
from gateway.upstream.connection import Connection
from gateway.upstream.pool import UpstreamPool
from serving.contracts.observation import Outcome

log = logging.getLogger(__name__)


class HotPath:
    """Answers the paths that are passed to engines.

    Args:
        store: Where the current snapshot is.
        pool: Connections to engines.
        recorder: Where calls that have ended go.
        metrics: Counters of failures.
        tasks: Owner of the tasks that wait for clients' disconnects.
        max_event_bytes: Largest event of a stream.
    """

    def __init__(
        self,
        store: PolicyStore,
        pool: UpstreamPool,
        recorder: Recorder,
        metrics: GatewayMetrics,
        *,
        tasks: asyncio.TaskGroup,
        max_event_bytes: int,
    ) -> None:
        self._store = store
        self._pool = pool
        self._recorder = recorder
        self._metrics = metrics
        self._tasks = tasks
        self._max_event_bytes = max_event_bytes
        self._throttle = LogThrottle(log)
        self.in_flight = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request; a fault of ours becomes a 500 and a log line, and is counted."""
        call = Call(address_of(scope.get("client")))
        self.in_flight += 1
        try:
            await self._answer(call, scope, receive, send)
        except GatewayError as exc:
            await self._refuse(call, exc, send)
        except asyncio.CancelledError:
            call.status, call.outcome = (call.status or 503), Outcome.REJECTED  # the time for shutting down is over
            raise
        except Exception:
            log.exception("request failed", extra={"fields": {"request_id": call.request_id.decode()}})
            await self._refuse(call, InternalError("the gateway failed; its log has the request id"), send)
        finally:
            self.in_flight -= 1
            self._recorder.record(call)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        head = read_head(scope)
        call.request_id = head.request_id
        snapshot = self._store.snapshot
        if snapshot is None:
            raise NotReadyError("expected a policy; none has been loaded yet: try again later", retry_after_seconds=1)
        body = await read_body(receive, head, snapshot.policy.request_limits)
        document = parse_document(body, snapshot.policy.request_limits)
        call.user = user_of(head, document, scope.get("client"))
        call.route = route = _route(snapshot, model_of(document))
        call.target = target = self._choose(route, call.user)
        request = _request(target, scope["path"], head, body)

        connection = await self._pool.exchange(target.origin, request, snapshot.policy.timeouts, self._watcher(receive))
        try:
            if connection.status == 200 and connection.streaming:
                failure = await relay_stream(call, connection, send, self._max_event_bytes)
                if failure is not None:
                    self._note_failure(call, failure)
            else:
                await relay_whole(call, connection, send)
        finally:
            self._pool.release(connection)

    def _choose(self, route: ModelRoute, user: bytes) -> Target:
        choice: Choice | None = route.choose(user)
        if choice is None:
            raise NoEndpointError(
                f"expected a ready service for the model {route.model!r}; there is none: try again later",
                retry_after_seconds=1,
            )
        if choice.displaced is not None:
            self._metrics.diverted(route.model, choice.displaced.side)
        return choice.target

    def _watcher(self, receive: Receive) -> Callable[[Connection], None]:
        """Return what the pool calls for an exchange that lasts: from then on a disconnect ends it."""

        async def wait(connection: Connection, exchange: int) -> None:
            try:
                while (await receive())["type"] != "http.disconnect":
                    pass
            except Exception:
                log.exception("a client's disconnect cannot be noticed")
                return
            if connection.running and connection.exchanges == exchange:
                connection.fail(ClientGoneError("the client closed its connection"))

        def watch(connection: Connection) -> None:
            self._tasks.create_task(wait(connection, connection.exchanges))

        return watch

    def _note_failure(self, call: Call, error: GatewayError) -> None:
        call.failed(error)
        if isinstance(error, UpstreamError) and call.target is not None:
            self._metrics.upstream_failed(call.target.service, error.code)
            fields = {
                "request_id": call.request_id.decode(),
                "service": call.target.service,
                "code": error.code,
                "reason": error.message,
            }
            self._throttle.warning("engine failed", fields)

    async def _refuse(self, call: Call, error: GatewayError, send: Send) -> None:
        if not call.request_id:
            call.request_id = new_request_id()
        self._note_failure(call, error)
        if call.started or isinstance(error, ClientGoneError):
            return  # nobody is there, or the server closes what cannot be completed
        answer = render(error)
        headers = list(answer.headers)
        if isinstance(error, BodyTooLargeError | BodyTimeoutError):
            headers.append((b"connection", b"close"))  # what is left of the body is not waited for
        await send_whole(call, send, answer.status, headers, answer.body)


def _route(snapshot: Snapshot, model: str) -> ModelRoute:
    route = snapshot.routes.get(model)
    if route is None:
        raise ModelNotFoundError(f"expected a model that is served, see /v1/models; got {model[:100]!r}", param="model")
    return route


def _request(target: Target, path: str, head: RequestHead, body: bytes) -> bytes:
    return b"%bx-request-id: %b\r\n%bcontent-length: %d\r\n\r\n%b" % (
        target.heads[path],
        head.request_id,
        head.trace,
        len(body),
        body,
    )
