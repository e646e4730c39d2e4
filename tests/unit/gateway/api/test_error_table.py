from __future__ import annotations

import json

import pytest

from gateway import errors
from gateway.api.errors import STATUS, render, sse_event
from gateway.errors import ErrorCode, GatewayError


def all_errors() -> list[type[GatewayError]]:
    return [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, GatewayError)]


def test_every_code_has_a_status() -> None:
    """The table maps every error code, and nothing else, to a status."""
    assert set(STATUS) == set(ErrorCode)


@pytest.mark.parametrize("kind", all_errors())
def test_every_error_has_the_shape_of_openais(kind: type[GatewayError]) -> None:
    """Every error renders as one JSON error with message, parameter, code and type, and its Retry-After."""
    answer = render(kind('quote " and \n line', param="model", retry_after_seconds=3))
    body = json.loads(answer.body)
    assert set(body) == {"error"}
    assert body["error"]["message"] == 'quote " and \n line'
    assert (body["error"]["param"], body["error"]["code"]) == ("model", kind.code)
    kinds = {True: "server_error", False: "rate_limit_error" if answer.status == 429 else "invalid_request_error"}
    assert body["error"]["type"] == kinds[answer.status >= 500]
    wanted = {b"content-type": b"application/json", b"retry-after": b"3"}
    assert dict(answer.headers) == wanted | ({b"www-authenticate": b"Bearer"} if answer.status == 401 else {})


def test_an_error_event_is_one_event_of_one_line() -> None:
    """A message with blank lines still makes a single event, whose JSON holds the code."""
    event = sse_event(errors.UpstreamResetError("a\n\nb"))
    assert event.startswith(b"data: {")
    assert event.endswith(b"}\n\n")
    assert event.count(b"\n") == 2
    assert json.loads(event[5:])["error"]["code"] == "upstream_reset"
