"""The adapter's ASGI application: a call a request, cancelled when the gateway leaves, ended by its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import traceback
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from starlette.types import Receive, Scope, Send

from gateway.adapter.asgi import header, read_body, send_whole
from gateway.adapter.failures import (
    Failure,
    Redactor,
    StreamFailedError,
    failure_of,
    failure_of_ours,
    failure_of_stream,
    is_of_a_call,
    passed_headers,
)
from gateway.adapter.operations import OPERATIONS, Operation, asked_for_usage
from gateway.adapter.providers import Providers
from gateway.adapter.settings import AdapterSettings, secrets_of_environment
from gateway.adapter.shapes import openai_error, whole
from gateway.api.errors import STATUS
from gateway.api.intake import model_of, parse_document
from gateway.errors import ClientGoneError, ErrorCode, GatewayError
from gateway.resilience.deadline import timeout_of
from serving.contracts.gateway_policy import RequestLimits

_JSON: Final = (b"content-type", b"application/json")
_EVENTS: Final = (b"content-type", b"text/event-stream; charset=utf-8")
_CLOSE_SECONDS: Final = 1.0
"""Time for letting go of a provider's connection; what is not closed by then is left to the garbage collector."""

_HELD: Final = ("response", "completion_stream", "litellm_custom_stream_wrapper", "responses_stream", "_wrapper")
"""Attributes by which LiteLLM's streams hold other streams, down to httpx's response."""

_FRAMES: Final = 4

_MAX_JSON_DEPTH: Final = 256
"""The gateway has checked its own, lower limit."""

log = logging.getLogger(__name__)


class Adapter:
    """Answers the gateway.

    Args:
        litellm: The loaded library.
        providers: Which providers may be called.
        settings: Bounds.
    """

    def __init__(self, litellm: Any, providers: Providers, settings: AdapterSettings) -> None:
        self._litellm = litellm
        self._providers = providers
        self._max_seconds = settings.max_seconds
        self._limits = RequestLimits(max_body_bytes=settings.max_body_bytes, max_json_depth=_MAX_JSON_DEPTH)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            return
        path, method = scope["path"], scope["method"]
        operation = OPERATIONS.get(path)
        if operation is not None and method == "POST":
            await _Exchange(self, operation, send).run(scope, receive)
        elif path == "/health/ready" and method == "GET":
            await send_whole(send, 200, (_JSON,), self._readiness())
        else:
            failure = Failure(404, ErrorCode.NOT_FOUND, "there is nothing at this path")
            await send_whole(send, 404, (_JSON,), openai_error(failure))

    def _readiness(self) -> bytes:
        """Ready means loaded: one provider without a credential must not stop the others."""
        names = [provider.name for provider in self._providers]
        return orjson.dumps({"ready": True, "providers": names, "reasons": self._providers.problems()})

    async def read(self, receive: Receive) -> dict[str, Any]:
        """Receive and parse a request's body."""
        return parse_document(await read_body(receive, self._limits.max_body_bytes), self._limits)

    def seconds(self, scope: Scope) -> float:
        """Return how long a call may take.

        Raises:
            InvalidRequestError: The header of the deadline is malformed.
        """
        left = timeout_of(dict(scope["headers"]))
        return self._max_seconds if left is None else min(left, self._max_seconds)

    async def call(self, operation: Operation, document: dict[str, Any], seconds: float) -> Any:
        """Call the provider; returns LiteLLM's answer or stream."""
        provider = self._providers.of(model_of(document))
        arguments = operation.arguments(document) | provider.arguments()
        function = getattr(self._litellm, operation.function)
        return await function(**arguments, timeout=seconds, num_retries=0, max_retries=0)

    def redactor(self) -> Redactor:
        """Return what takes this process's secrets out of a message."""
        return Redactor((*self._providers.secrets(), *secrets_of_environment()))


class _Exchange:
    """One request and its answer."""

    def __init__(self, adapter: Adapter, operation: Operation, send: Send) -> None:
        self._adapter = adapter
        self._operation = operation
        self._send = send
        self._started = False
        self._events = 0
        self._request_id = ""

    async def run(self, scope: Scope, receive: Receive) -> None:
        """Answer, until done, out of time, or alone."""
        self._request_id = (header(scope, b"x-request-id") or b"").decode("latin-1")
        try:
            seconds = self._adapter.seconds(scope)
            document = await self._adapter.read(receive)
        except ClientGoneError:
            return
        except GatewayError as exc:
            await self._fail(failure_of_ours(exc, STATUS[exc.code]))
            return
        async with asyncio.TaskGroup() as group:
            # Cancelled once, not for as long as it runs: LiteLLM has to await something to let go of a connection.
            answering = group.create_task(self._answer(document, seconds))
            watching = group.create_task(_cancel_when_gone(receive, answering))
            answering.add_done_callback(lambda _: watching.cancel())

    async def _answer(self, document: dict[str, Any], seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                answer = await self._adapter.call(self._operation, document, seconds)
                if hasattr(answer, "__aiter__"):
                    await self._stream(answer, asked=asked_for_usage(document))
                else:
                    headers = (_JSON, *_limit_headers(answer))
                    await send_whole(self._send, 200, headers, orjson.dumps(whole(answer)))
        except GatewayError as exc:
            await self._fail(failure_of_ours(exc, STATUS[exc.code]))
        except StreamFailedError as exc:
            await self._fail(failure_of_stream(exc, self._adapter.redactor()))
        except Exception as exc:  # noqa: BLE001 - the process's edge, and LiteLLM's exceptions have no common root
            if not is_of_a_call(exc):
                self._log_fault(exc)
            await self._fail(failure_of(exc, self._adapter.redactor()))

    async def _stream(self, stream: Any, *, asked: bool) -> None:
        try:
            events: AsyncIterator[bytes] = self._operation.events(stream, asked_for_usage=asked)
            async for event in events:
                if not self._started:
                    await self._start(_limit_headers(stream))
                self._events += 1
                await self._send({"type": "http.response.body", "body": event, "more_body": True})
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_CLOSE_SECONDS):
                    await _close(stream)

    async def _start(self, headers: tuple[tuple[bytes, bytes], ...]) -> None:
        self._started = True
        message = {"type": "http.response.start", "status": 200, "headers": [_EVENTS, *headers]}
        await self._send(message)

    def _log_fault(self, exc: Exception) -> None:
        """Log where it happened, and not its message: that may repeat what was asked."""
        frames = traceback.extract_tb(exc.__traceback__)[-_FRAMES:]
        where = [f"{frame.filename}:{frame.lineno}" for frame in frames]
        fields = {"request_id": self._request_id, "kind": type(exc).__name__, "where": where}
        log.error("the adapter failed", extra={"fields": fields})

    async def _fail(self, failure: Failure) -> None:
        fields = {"request_id": self._request_id, "status": failure.status, "code": failure.code}
        log.warning("provider call failed", extra={"fields": fields | {"reason": failure.message}})
        if self._started:
            event = self._operation.error_event(failure, self._events)
            await self._send({"type": "http.response.body", "body": event, "more_body": False})
        else:
            body = self._operation.error(failure)
            await send_whole(self._send, failure.status, (_JSON, *failure.headers), body)


async def _cancel_when_gone(receive: Receive, answering: asyncio.Task[None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    answering.cancel()


def _limit_headers(answer: Any) -> tuple[tuple[bytes, bytes], ...]:
    hidden = getattr(answer, "_hidden_params", None)
    headers = hidden.get("additional_headers") if isinstance(hidden, dict) else None
    return passed_headers(headers) if isinstance(headers, dict) else ()


async def _close(stream: Any) -> None:
    """Close a stream and what it wraps, so that the provider sees its client leave.

    LiteLLM's wrappers differ, and not all of them close what they hold.
    """
    waiting, seen = [stream], set()
    while waiting:
        one = waiting.pop()
        if one is None or id(one) in seen:
            continue
        seen.add(id(one))
        waiting += [getattr(one, name, None) for name in _HELD]
        close = getattr(one, "aclose", None)
        if close is not None:
            await close()
