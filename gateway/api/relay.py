"""From an engine's answer to the client: whole answers, streams event by event, and how each can fail."""

from __future__ import annotations

import time
from typing import Final

from gateway.api.call import Call
from gateway.errors import (
    ClientGoneError,
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamProtocolError,
    UpstreamResetError,
    UpstreamStatusError,
)
from gateway.exchange import Exchange
from gateway.upstream.connection import Connection
from gateway.upstream.sse import EventFramer, StreamMeter
from serving.contracts.observation import Outcome

_JSON: Final = b"application/json"
_JSON_HEADER: Final = b"content-type: application/json\r\n"
_STREAM_HEADERS: Final = (
    b"content-type: %b\r\n"
    b"cache-control: no-cache\r\n"
    b"x-accel-buffering: no\r\n"  # nginx and its kind must not hold events back
    b"%b"
)
_REFUSALS: Final = frozenset({400, 404, 405, 413, 415, 422})
"""Statuses by which an engine says that the request is at fault, such as an embedding asked of a chat model; any other
error status is the engine's own fault."""

_MAX_RETRY_AFTER_SECONDS: Final = 3600


async def relay_whole(call: Call, connection: Connection, exchange: Exchange) -> None:
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
        if is_json:
            body = call.format.refusal(body, status)
        else:
            reason = "the engine refused the request and gave no reason"
            body = call.format.error_body("invalid_request", reason, status=status)
    else:
        raise _status_error(status, connection.headers)
    send_whole(call, exchange, status, _JSON_HEADER, body)


def _status_error(status: int, headers: list[tuple[bytes, bytes]]) -> UpstreamError:
    if status in {429, 503, 529}:
        given = next((value for name, value in headers if name == b"retry-after" and value.isdigit()), None)
        asked = min(int(given[:6]), _MAX_RETRY_AFTER_SECONDS) if given is not None else None
        error = UpstreamOverloadedError(
            f"the engine has too much to do (status {status}): try again later", retry_after_seconds=asked or 1
        )
        error.asked_seconds = asked
        return error
    return UpstreamStatusError(f"expected the engine to answer; it failed with status {status}")


async def relay_stream(
    call: Call, connection: Connection, exchange: Exchange, max_event_bytes: int
) -> UpstreamError | None:
    """Pass on a stream, whole events only, as they come.

    Returns:
        How the stream failed after its first event; the client has been told by an error event, or by the engine's own.

    Raises:
        UpstreamError: It failed before its first event; nothing has been sent.
    """
    framer = EventFramer(max_event_bytes)
    call.meter = meter = call.format.meter()
    call.streamed = True
    try:
        while data := await connection.read():
            events = framer.feed(data)
            if not events:
                continue
            meter.count(events, time.monotonic())
            if call.started:
                await exchange.send(events)
            else:
                _start_stream(call, connection.content_type, exchange, events)
        rest = _end_of(framer, meter, connection)
    except UpstreamError as exc:
        if not call.started:
            raise
        exchange.copy = None  # half an answer is neither kept for repeats nor compared
        exchange.end(call.format.error_event(exc, meter))
        return exc
    except ClientGoneError:
        meter.settle()
        if not (meter.done or meter.failed):
            raise
        return _failure(meter)  # SDKs close at the mark of the end, before the end of the framing: they have it all
    if not call.started:
        _start_stream(call, connection.content_type, exchange, b"")
    return _end_stream(meter, exchange, rest)


def _end_of(framer: EventFramer, meter: StreamMeter, connection: Connection) -> bytes:
    """Return what came behind the last whole event.

    Raises:
        UpstreamResetError: The stream was cut off.
    """
    rest = framer.rest()
    meter.count(rest, time.monotonic())
    meter.settle()
    if not (meter.done or meter.failed or connection.framed):
        raise UpstreamResetError("expected the stream's mark of its end; the engine closed the connection")
    return rest


def _end_stream(meter: StreamMeter, exchange: Exchange, rest: bytes) -> UpstreamError | None:
    failure = _failure(meter)
    if failure is not None:
        exchange.copy = None
    exchange.end(rest)
    return failure


def _failure(meter: StreamMeter) -> UpstreamError | None:
    return UpstreamStatusError("the engine reported an error in its stream") if meter.failed else None


def send_whole(call: Call, exchange: Exchange, status: int, headers: bytes, body: bytes) -> None:
    """Send an answer of known length; `headers` are lines besides those of exchange and call."""
    call.status = status
    call.started = True
    exchange.answer(status, headers + call.headers, body)


def _start_stream(call: Call, content_type: bytes, exchange: Exchange, events: bytes) -> None:
    call.status = 200
    call.started = True
    exchange.start(200, _STREAM_HEADERS % (content_type, call.headers), events)
