"""What can go wrong with a request, as one tree; knows no HTTP.

GatewayError
├── InvalidRequestError      the client's document cannot be used
│   ├── BodyTooLargeError
│   ├── BodyTimeoutError
│   └── IdempotencyConflictError  the same Idempotency-Key came with another request
├── UnauthorizedError        no credential, or one that is wrong, expired or revoked
├── ForbiddenError           the credential does not allow this
├── NotFoundError            there is nothing of this name
├── LimitExceededError       a rate or concurrency limit of the caller is used up
│   └── BudgetExceededError      a daily or monthly budget is used up
├── LimiterUnavailableError  limits cannot be checked, and the policy says deny
├── OverloadedError          too much to do: the queue is full, or waited in for too long
├── ModelNotFoundError       no route for the model
├── NotReadyError            no policy has been loaded yet
├── NoEndpointError          the model's services are all not ready
├── UpstreamError            the chosen service failed
│   ├── UpstreamConnectError     refused, or not connected in time
│   ├── UpstreamTimeoutError     first byte, between bytes, total
│   ├── UpstreamResetError       closed or reset in the middle
│   ├── UpstreamProtocolError    answered something that is no answer
│   ├── UpstreamStatusError      answered with an error status
│   └── StaleConnectionError     a pooled connection was closed before a byte of answer; never leaves `gateway.upstream`
├── ClientGoneError          the client closed its connection
└── InternalError            a fault of the gateway itself

`api/errors.py` maps codes to status and body. Messages never hold prompt or answer text.
"""

from __future__ import annotations

from enum import StrEnum
from typing import ClassVar


class ErrorCode(StrEnum):
    """Closed list of reasons; part of the API (`error.code`) and a metric label."""

    INVALID_REQUEST = "invalid_request"
    BODY_TOO_LARGE = "body_too_large"
    BODY_TIMEOUT = "body_timeout"
    HEADERS_TOO_LARGE = "headers_too_large"
    NOT_FOUND = "not_found"
    METHOD_NOT_ALLOWED = "method_not_allowed"
    IDEMPOTENCY_CONFLICT = "idempotency_conflict"
    UNAUTHORIZED = "invalid_api_key"
    FORBIDDEN = "permission_denied"
    LIMIT_EXCEEDED = "rate_limit_exceeded"
    BUDGET_EXCEEDED = "insufficient_quota"
    LIMITER_UNAVAILABLE = "limiter_unavailable"
    OVERLOADED = "overloaded"
    MODEL_NOT_FOUND = "model_not_found"
    NOT_READY = "not_ready"
    NO_ENDPOINT = "no_endpoint"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_RESET = "upstream_reset"
    UPSTREAM_PROTOCOL = "upstream_protocol"
    UPSTREAM_STATUS = "upstream_status"
    UPSTREAM_OVERLOADED = "upstream_overloaded"
    CLIENT_GONE = "client_gone"
    INTERNAL = "internal_error"


class GatewayError(Exception):
    """Base of the tree.

    Args:
        message: For the client: what was expected, what came, what to do.
        param: The request's field that is at fault, if one is.
        retry_after_seconds: When a repeat can succeed; None when a repeat is no use or the time is unknown.
    """

    code: ClassVar[ErrorCode] = ErrorCode.INTERNAL

    def __init__(self, message: str, *, param: str | None = None, retry_after_seconds: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.param = param
        self.retry_after_seconds = retry_after_seconds


class InvalidRequestError(GatewayError):
    """The client's document cannot be used."""

    code = ErrorCode.INVALID_REQUEST


class BodyTooLargeError(InvalidRequestError):
    """The body is longer than the policy allows."""

    code = ErrorCode.BODY_TOO_LARGE


class BodyTimeoutError(InvalidRequestError):
    """The body did not arrive in time."""

    code = ErrorCode.BODY_TIMEOUT


class IdempotencyConflictError(InvalidRequestError):
    """The same Idempotency-Key came with another request, or its answer was not kept."""

    code = ErrorCode.IDEMPOTENCY_CONFLICT


class UnauthorizedError(GatewayError):
    """No credential, or one that is wrong, expired or revoked; the message never says which of these."""

    code = ErrorCode.UNAUTHORIZED


class ForbiddenError(GatewayError):
    """The credential does not allow this."""

    code = ErrorCode.FORBIDDEN


class NotFoundError(GatewayError):
    """There is nothing of this name."""

    code = ErrorCode.NOT_FOUND


class LimitExceededError(GatewayError):
    """A rate or concurrency limit of the caller is used up. `headers` are the answer's `x-ratelimit-*` lines."""

    code = ErrorCode.LIMIT_EXCEEDED
    headers: bytes = b""


class BudgetExceededError(LimitExceededError):
    """A daily or monthly budget is used up."""

    code = ErrorCode.BUDGET_EXCEEDED


class LimiterUnavailableError(GatewayError):
    """Limits cannot be checked, and the policy says deny."""

    code = ErrorCode.LIMITER_UNAVAILABLE


class OverloadedError(GatewayError):
    """Too much to do: the queue is full, or the request waited in it for too long."""

    code = ErrorCode.OVERLOADED


class ModelNotFoundError(GatewayError):
    """No route for the model."""

    code = ErrorCode.MODEL_NOT_FOUND


class NotReadyError(GatewayError):
    """No policy has been loaded yet."""

    code = ErrorCode.NOT_READY


class NoEndpointError(GatewayError):
    """The model's services are all not ready."""

    code = ErrorCode.NO_ENDPOINT


class UpstreamError(GatewayError):
    """The chosen service failed; the subclasses say how."""

    code = ErrorCode.UPSTREAM_PROTOCOL


class UpstreamConnectError(UpstreamError):
    """Refused, or not connected in time."""

    code = ErrorCode.UPSTREAM_UNREACHABLE


class UpstreamTimeoutError(UpstreamError):
    """The answer's first, next or last byte did not come in time."""

    code = ErrorCode.UPSTREAM_TIMEOUT


class UpstreamResetError(UpstreamError):
    """The connection ended in the middle of an answer."""

    code = ErrorCode.UPSTREAM_RESET


class UpstreamProtocolError(UpstreamError):
    """What came is no answer of an OpenAI-compatible engine."""

    code = ErrorCode.UPSTREAM_PROTOCOL


class UpstreamStatusError(UpstreamError):
    """The engine answered with an error status that is not the client's doing."""

    code = ErrorCode.UPSTREAM_STATUS


class UpstreamOverloadedError(UpstreamError):
    """The engine says that it has too much to do (429 or 503). `asked_seconds` is its own Retry-After."""

    code = ErrorCode.UPSTREAM_OVERLOADED
    asked_seconds: int | None = None


class StaleConnectionError(UpstreamError):
    """A pooled connection was closed before a byte of answer: safe to send again on a fresh one."""

    code = ErrorCode.UPSTREAM_RESET


class ClientGoneError(GatewayError):
    """The client closed its connection."""

    code = ErrorCode.CLIENT_GONE


class InternalError(GatewayError):
    """A fault of the gateway itself; details are in its log."""

    code = ErrorCode.INTERNAL
