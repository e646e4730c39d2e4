"""From an engine's answer to the client: whole answers, streams event by event, and how each can fail."""

from __future__ import annotations

import time
from typing import Final

from gateway.api.call import Call
from gateway.api.errors import error_body, sse_event
from gateway.api.intake import Send
from gateway.errors import (
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamResetError,
    UpstreamStatusError,
)
from gateway.upstream.connection import Connection
from gateway.upstream.sse import EventFramer, StreamMeter
from serving.contracts.observation import Outcome

_JSON: Final = b"application/json"
_REFUSALS: Final = frozenset({400, 413, 415, 422})
"""Statuses by which an engine says that the request is at fault; any other error status is the engine's own fault."""

_MAX_RETRY_AFTER_SECONDS: Final = 3600


async def relay_whole(call: Call, connection: Connection, send: Send) -> None:
    """Pass on an answer that is not a stream; it has arrived in full.

    Raises:
        UpstreamError: It is no answer for a client; nothing has been sent.
    """
    body = await connection.read()
    status = connection.status
    is_json = connection.content_type[: len(_JSON)].lower() == _JSON
    if status == 200:
        if not is_json:
            raise UpstreamProtocolError("expected the engine to answer with JSON or an event stream; it did not")
        call.answered(body)
    elif status in _REFUSALS:
        call.outcome = Outcome.ENGINE_REFUSED
        if not is_json:
            body = error_body("invalid_request", "the engine refused the request and gave no reason", status=status)
    else:
        raise _status_error(status, connection.headers)
    await send_whole(call, send, status, [(b"content-type", _JSON)], body)


def _status_error(status: int, headers: list[tuple[bytes, bytes]]) -> UpstreamError:
    if status in {429, 503}:
        given = next((value for name, value in headers if name == b"retry-after" and value.isdigit()), b"1")
        return UpstreamOverloadedError(
            f"the engine has too much to do (status {status}): try again later",
            retry_after_seconds=min(int(given[:6]), _MAX_RETRY_AFTER_SECONDS),
        )
    return UpstreamStatusError(f"expected the engine to answer; it failed with status {status}")


async def relay_stream(call: Call, connection: Connection, send: Send, max_event_bytes: int) -> UpstreamError | None:
    """Pass on a stream, whole events only, as they come.

    Returns:
        How the stream failed after its first event; the client has been told by an error event, or by the engine's own.

    Raises:
        UpstreamError: It failed before its first event; nothing has been sent.
    """
    framer = EventFramer(max_event_bytes)
    call.meter = meter = StreamMeter()
    call.streamed = True
    try:
        while data := await connection.read():
            events = framer.feed(data)
            if not events:
                continue
            meter.count(events, time.monotonic())
            if not call.started:
                await _start_stream(call, connection.content_type, send)
            await send({"type": "http.response.body", "body": events, "more_body": True})
        rest = framer.rest()
        meter.count(rest, time.monotonic())
        meter.settle()
        if not (meter.done or connection.framed):
            raise UpstreamResetError("expected the stream to end with [DONE]; the engine closed the connection")
    except UpstreamError as exc:
        if not call.started:
            raise
        await send({"type": "http.response.body", "body": sse_event(exc), "more_body": False})
        return exc
    if not call.started:
        await _start_stream(call, connection.content_type, send)
    await send({"type": "http.response.body", "body": rest, "more_body": False})
    return UpstreamStatusError("the engine reported an error in its stream") if meter.failed else None


async def send_whole(call: Call, send: Send, status: int, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
    """Send an answer of known length; `headers` are those besides length and request id."""
    call.status = status
    call.started = True
    headers.append((b"content-length", b"%d" % len(body)))
    headers.append((b"x-request-id", call.request_id))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": False})


async def _start_stream(call: Call, content_type: bytes, send: Send) -> None:
    call.status = 200
    call.started = True
    headers = [
        (b"content-type", content_type),
        (b"cache-control", b"no-cache"),
        (b"x-accel-buffering", b"no"),  # nginx and its kind must not hold events back
        (b"x-request-id", call.request_id),
    ]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
