"""What went wrong at a provider, read from LiteLLM's exceptions: status, the provider's own words, its headers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from gateway.errors import ErrorCode, GatewayError

PASSED_HEADERS: Final = ("x-ratelimit-", "anthropic-ratelimit-", "retry-after")
"""Beginnings of names of headers that reach the gateway."""

_LIBRARIES: Final = frozenset({"litellm", "openai", "httpx", "httpcore", "aiohttp", "botocore", "pydantic_core"})
_CREDENTIAL: Final = frozenset({401, 403})
_CODES: Final = {
    400: "invalid_request",
    401: "invalid_api_key",
    403: "permission_denied",
    404: "model_not_found",
    408: "provider_timeout",
    429: "rate_limit_exceeded",
    504: "provider_timeout",
    529: "overloaded",
}
_STATUS_OF_TYPE: Final = {
    "invalid_request_error": 400,
    "rate_limit_error": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}
_MAX_MESSAGE: Final = 2_000


@dataclass(frozen=True, slots=True)
class Failure:
    """How a call failed, as it is told to the gateway."""

    status: int
    code: str
    message: str
    param: str | None = None
    headers: tuple[tuple[bytes, bytes], ...] = ()


class StreamFailedError(Exception):
    """A stream that LiteLLM translates to messages failed: it says so in an event, in words of its own.

    Args:
        kind: Anthropic's type of the error.
        words: LiteLLM's.
    """

    def __init__(self, kind: object, words: str) -> None:
        super().__init__(words)
        self.status = _STATUS_OF_TYPE.get(str(kind), 502)
        self.words = words


class Redactor:
    """Takes secrets out of messages.

    Args:
        secrets: Values that must not be repeated, the longest first.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        self._secrets = tuple(sorted(secrets, key=len, reverse=True))

    def __call__(self, text: str) -> str:
        """Return the text with each secret replaced."""
        for secret in self._secrets:
            text = text.replace(secret, "***")
        return text


def failure_of(error: BaseException, redact: Redactor) -> Failure:
    """Read an exception.

    The status is the provider's own where it answered (LiteLLM turns 529 into 500), 504 for a time limit, 502 for a
    provider that cannot be reached or broke off, 400 for what LiteLLM refuses before it calls.
    """
    if not is_of_a_call(error):
        return Failure(500, ErrorCode.INTERNAL, "the adapter failed; its log has the request id")
    if isinstance(error, TimeoutError):
        return Failure(504, "provider_timeout", "expected the provider to answer in time; it did not: try again later")
    chain = tuple(_chain(error))
    status = _status(chain)
    if status in _CREDENTIAL:
        # The provider's message repeats parts of the key, and what is wrong with it is no matter of the client's.
        message = f"the provider refused the gateway's credential (status {status}): correct the provider's key"
        return Failure(status, _CODES[status], message, headers=_headers(chain))
    document = _document(chain)
    code, param = document.get("code"), document.get("param")
    message = redact(str(document.get("message") or _words(error, status)))[:_MAX_MESSAGE]
    return Failure(
        status,
        code if isinstance(code, str) and code else _CODES.get(status, "provider_error"),
        message,
        param if isinstance(param, str) else None,
        _headers(chain),
    )


def failure_of_stream(error: StreamFailedError, redact: Redactor) -> Failure:
    """Read LiteLLM's event: the provider's own words are in it, if it said any."""
    found = _error_object(error.words)
    message = redact(str(found.get("message") or _words(error, error.status)))[:_MAX_MESSAGE]
    return Failure(error.status, _CODES.get(error.status, "provider_error"), message)


def is_of_a_call(error: BaseException) -> bool:
    """Tell whether an exception is a call's; any other is a fault of the adapter's own code."""
    return isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _LIBRARIES


def failure_of_ours(error: GatewayError, status: int) -> Failure:
    """Turn a refusal of the adapter's own into a failure."""
    return Failure(status, error.code, error.message, error.param)


def passed_headers(headers: Mapping[str, object]) -> tuple[tuple[bytes, bytes], ...]:
    """Return rate-limit headers and Retry-After of a provider's answer; LiteLLM's prefix of names is taken off."""
    found: dict[str, str] = {}
    for name, value in headers.items():
        plain = name.lower().removeprefix("llm_provider-")
        text = str(value)
        if plain.startswith(PASSED_HEADERS) and text.isascii() and text.isprintable():
            found[plain] = text
    return tuple((name.encode(), value.encode()) for name, value in sorted(found.items()))


def _chain(error: BaseException) -> Iterator[Any]:
    """Yield the exception and what caused it, each once, the outermost first."""
    seen: set[int] = set()
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop(0)
        if one is None or id(one) in seen or len(seen) > 16:
            continue
        seen.add(id(one))
        yield one
        original = getattr(one, "original_exception", None)
        waiting += [original if isinstance(original, BaseException) else None, one.__cause__, one.__context__]


def _status(chain: Sequence[Any]) -> int:
    names = {type(error).__name__ for error in chain}
    if "Timeout" in names or "APITimeoutError" in names:
        return 504
    answered = [
        status
        for error in chain
        if isinstance(status := getattr(error, "status_code", None), int)
        and 400 <= status < 600
        and not type(error).__module__.startswith("litellm.exceptions")
    ]
    if answered:
        return answered[-1]  # the innermost: what the provider said
    refused = [
        error.status_code
        for error in chain
        if type(error).__module__.startswith("litellm.exceptions") and error.status_code in {400, 422}
    ]
    return 400 if refused else 502


def _document(chain: Sequence[Any]) -> dict[str, Any]:
    """Return the provider's error object, from the innermost exception that has it."""
    for error in reversed(chain):
        for candidate in (getattr(error, "body", None), getattr(error, "message", None), str(error)):
            found = _error_object(candidate)
            if found:
                return found
    return {}


def _error_object(value: object) -> dict[str, Any]:
    if isinstance(value, bytes):
        value = value.decode(errors="replace")
    if isinstance(value, str):
        begin = value.find("{")
        end = value.rfind("}")
        try:
            value = orjson.loads(value[begin : end + 1]) if 0 <= begin < end else None
        except orjson.JSONDecodeError:
            return {}
    if not isinstance(value, dict):
        return {}
    inner = value.get("error")
    if isinstance(inner, dict):
        value = inner
    return value if isinstance(value.get("message"), str) else {}


def _words(error: BaseException, status: int) -> str:
    if status == 502:
        return "expected an answer of the provider; it could not be reached or broke off: try again later"
    if status == 504:
        return "expected the provider to answer in time; it did not: try again later"
    return str(getattr(error, "message", error)).rpartition("litellm.")[2]


def _headers(chain: Sequence[Any]) -> tuple[tuple[bytes, bytes], ...]:
    for error in chain:
        headers = getattr(error, "litellm_response_headers", None) or getattr(error, "headers", None)
        if isinstance(headers, Mapping) and (passed := passed_headers(headers)):
            return passed
    return ()
