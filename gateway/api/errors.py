"""The one table from error codes to HTTP: status, OpenAI error type, body, headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import orjson

from gateway.errors import ErrorCode, GatewayError

STATUS: Final[Mapping[ErrorCode, int]] = {
    ErrorCode.INVALID_REQUEST: 400,
    ErrorCode.BODY_TOO_LARGE: 413,
    ErrorCode.BODY_TIMEOUT: 408,
    ErrorCode.HEADERS_TOO_LARGE: 431,
    ErrorCode.NOT_FOUND: 404,
    ErrorCode.METHOD_NOT_ALLOWED: 405,
    ErrorCode.IDEMPOTENCY_CONFLICT: 422,
    ErrorCode.UNAUTHORIZED: 401,
    ErrorCode.FORBIDDEN: 403,
    ErrorCode.LIMIT_EXCEEDED: 429,
    ErrorCode.BUDGET_EXCEEDED: 429,
    ErrorCode.LIMITER_UNAVAILABLE: 503,
    ErrorCode.OVERLOADED: 529,  # the gateway's own shedding; 429 is the caller's limit, 503 an engine that is not there
    ErrorCode.MODEL_NOT_FOUND: 404,
    ErrorCode.NOT_READY: 503,
    ErrorCode.NO_ENDPOINT: 503,
    ErrorCode.UPSTREAM_UNREACHABLE: 503,
    ErrorCode.UPSTREAM_TIMEOUT: 504,
    ErrorCode.UPSTREAM_RESET: 502,
    ErrorCode.UPSTREAM_PROTOCOL: 502,
    ErrorCode.UPSTREAM_STATUS: 502,
    ErrorCode.UPSTREAM_OVERLOADED: 503,
    ErrorCode.CLIENT_GONE: 499,  # nginx's number; nobody is left to read it, logs and metrics are
    ErrorCode.INTERNAL: 500,
}


@dataclass(frozen=True, slots=True)
class HttpError:
    """An error ready to be sent: status, headers without content-length, JSON body."""

    status: int
    headers: tuple[tuple[bytes, bytes], ...]
    body: bytes


def error_type(status: int) -> str:
    """Return OpenAI's `error.type` of a status; the official SDKs map statuses, people read this."""
    if status >= 500:
        return "server_error"
    return "rate_limit_error" if status == 429 else "invalid_request_error"


def error_body(code: str, message: str, *, status: int, param: str | None = None) -> bytes:
    """Build OpenAI's error object as JSON."""
    return orjson.dumps({"error": {"message": message, "type": error_type(status), "param": param, "code": code}})


def render(error: GatewayError) -> HttpError:
    """Turn a domain error into what is sent."""
    status = STATUS[error.code]
    headers: list[tuple[bytes, bytes]] = [(b"content-type", b"application/json")]
    if status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    if error.retry_after_seconds is not None:
        headers.append((b"retry-after", b"%d" % error.retry_after_seconds))
    return HttpError(status, tuple(headers), error_body(error.code, error.message, status=status, param=error.param))


def sse_event(error: GatewayError) -> bytes:
    """Build the event that ends a stream which failed in the middle; `[DONE]` never follows it."""
    body = error_body(error.code, error.message, status=STATUS[error.code], param=error.param)
    return b"data: " + body + b"\n\n"
