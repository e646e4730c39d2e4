from __future__ import annotations

import pytest

from gateway.errors import InvalidRequestError
from gateway.resilience.deadline import ENVOY_TIMEOUT, TIMEOUT, deadline_line, timeout_of


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({TIMEOUT: b"2.5"}, 2.5),
        ({TIMEOUT: b"30", ENVOY_TIMEOUT: b"1500"}, 1.5),
        ({TIMEOUT: b"1", ENVOY_TIMEOUT: b"1500"}, 1.0),
        ({TIMEOUT: b"7", ENVOY_TIMEOUT: b"0"}, 7.0),
    ],
)
def test_the_smaller_of_what_the_headers_say_counts(headers: dict[bytes, bytes], seconds: float | None) -> None:
    """Our header in seconds and Envoy's in milliseconds bound the request; Envoy's 0 bounds nothing."""
    assert timeout_of(headers) == seconds


@pytest.mark.parametrize(
    "value", [b"", b"0", b"-1", b"1e3", b"nan", b"inf", b"86401", b"1_0", b"5s", b"1\r\n", b"9" * 40]
)
def test_anything_else_is_refused(value: bytes) -> None:
    """A header that is no plain number above 0 and at most a day is the client's mistake, named by its header."""
    with pytest.raises(InvalidRequestError) as refused:
        timeout_of({TIMEOUT: value})
    assert refused.value.param == "x-request-timeout-seconds"


def test_what_is_left_is_passed_on() -> None:
    """The line for the engine reads back as what is left; when nothing is left it still says a positive time."""
    name, _, value = deadline_line(1.23456).rstrip(b"\r\n").partition(b": ")
    assert timeout_of({name: value}) == 1.235
    assert deadline_line(-1.0) == b"x-request-timeout-seconds: 0.001\r\n"
