"""How long a client waits: a header that bounds the whole request, and what is left of it for the engine.

- `x-request-timeout-seconds`: seconds as a decimal number, our own name with its unit in it.
- `x-envoy-expected-rq-timeout-ms`: set by an Envoy (a Gateway API implementation) in front; it covers the whole answer.

The smaller one counts. What OpenAI's and Anthropic's SDKs send (`x-stainless-timeout`, `x-stainless-read-timeout`) does
not bound a request: Python's is the longest gap between two reads, JavaScript's ends with the answer's head.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from gateway.errors import InvalidRequestError

TIMEOUT: Final = b"x-request-timeout-seconds"
ENVOY_TIMEOUT: Final = b"x-envoy-expected-rq-timeout-ms"
DEADLINE_HEADERS: Final = frozenset({TIMEOUT, ENVOY_TIMEOUT})

_MAX_SECONDS: Final = 86_400.0
_NUMBER: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?\Z")


def timeout_of(headers: Mapping[bytes, bytes]) -> float | None:
    """Return the seconds that a client waits, from its request's arrival; None when no header says.

    Raises:
        InvalidRequestError: A header holds something else than a number above 0 and at most a day.
    """
    own, envoy = headers.get(TIMEOUT), headers.get(ENVOY_TIMEOUT)
    if own is None and envoy is None:
        return None
    seconds = _MAX_SECONDS
    if own is not None:
        seconds = _number(own, TIMEOUT, 1.0)
    if envoy is not None and envoy != b"0":  # Envoy's 0 is no limit
        seconds = min(seconds, _number(envoy, ENVOY_TIMEOUT, 1e-3))
    return seconds


def deadline_line(remaining_seconds: float) -> bytes:
    """Return the header line that tells an engine or the provider adapter how long the answer is waited for."""
    return b"%b: %.3f\r\n" % (TIMEOUT, max(0.001, remaining_seconds))


def _number(raw: bytes, header: bytes, unit_seconds: float) -> float:
    seconds = float(raw) * unit_seconds if _NUMBER.match(raw) else 0.0
    if not 0 < seconds <= _MAX_SECONDS:
        name, most = header.decode(), f"{_MAX_SECONDS / unit_seconds:.0f}"
        raise InvalidRequestError(
            f"expected {name} to be a number above 0 and at most {most}; got {raw[:32]!r}: correct or omit it",
            param=name,
        )
    return seconds
