"""Whose doing a failed try was: what its endpoint is charged with, and whether another try makes sense."""

from __future__ import annotations

from gateway.errors import (
    GatewayError,
    UpstreamConnectError,
    UpstreamError,
    UpstreamOverloadedError,
    UpstreamTimeoutError,
)
from gateway.resilience.endpoint import Result


def result_of(error: GatewayError, *, first_token: bool, own_deadline: bool) -> Result:
    """Say what an error tells about the endpoint.

    Args:
        error: How the try ended.
        first_token: Whether the answer had begun.
        own_deadline: Whether the time that the client gave was over. An endpoint is not charged with that: else one
            client with deadlines too short for anything would open its breaker for everybody.
    """
    if isinstance(error, UpstreamOverloadedError):
        return Result.OVERLOADED
    if own_deadline and isinstance(error, UpstreamTimeoutError | UpstreamConnectError):
        return Result.UNKNOWN
    if isinstance(error, UpstreamTimeoutError):
        return Result.FAILED if first_token else Result.OVERLOADED
    return Result.FAILED if isinstance(error, UpstreamError) else Result.UNKNOWN


def may_try_again(error: GatewayError) -> bool:
    """Tell whether another endpoint may be asked, as long as the client has got nothing.

    Every failure of an upstream counts: inference has no side effects (RFC 9110, 9.2.2), and an error status that is
    the client's doing (400 and its like) is an answer, not an `UpstreamError`.
    """
    return isinstance(error, UpstreamError)
