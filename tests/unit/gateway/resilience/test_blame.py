from __future__ import annotations

import pytest

from gateway import errors
from gateway.resilience.blame import may_try_again, result_of
from gateway.resilience.endpoint import Result


@pytest.mark.parametrize(
    ("error", "first_token", "own_deadline", "result"),
    [
        (errors.UpstreamConnectError("x"), False, False, Result.FAILED),
        (errors.UpstreamConnectError("x"), False, True, Result.UNKNOWN),
        (errors.UpstreamResetError("x"), True, True, Result.FAILED),
        (errors.UpstreamTimeoutError("x"), False, False, Result.OVERLOADED),
        (errors.UpstreamTimeoutError("x"), True, False, Result.FAILED),
        (errors.UpstreamTimeoutError("x"), False, True, Result.UNKNOWN),
        (errors.UpstreamOverloadedError("x"), False, False, Result.OVERLOADED),
        (errors.ClientGoneError("x"), True, False, Result.UNKNOWN),
        (errors.InternalError("x"), False, False, Result.UNKNOWN),
    ],
)
def test_an_endpoint_is_charged_with_what_it_did(
    error: errors.GatewayError, first_token: bool, own_deadline: bool, result: Result
) -> None:
    """Failures of the upstream count against it; clients that leave, and deadlines of their own, do not."""
    assert result_of(error, first_token=first_token, own_deadline=own_deadline) is result


def test_only_failures_of_an_upstream_are_tried_again() -> None:
    """Another endpoint is asked after an upstream's failure, and not when the client left or we failed."""
    assert may_try_again(errors.UpstreamStatusError("x"))
    assert not may_try_again(errors.ClientGoneError("x"))
    assert not may_try_again(errors.InternalError("x"))
