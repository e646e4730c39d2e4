"""WireFormat: all that the hot path has to know of one wire format. Bodies pass through it unchanged."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gateway.api.errors import STATUS, HttpError, error_body, render, sse_event
from gateway.errors import GatewayError
from gateway.upstream.sse import StreamMeter
from gateway.upstream.usage import Usage

_MAX_CHOICES: Final = 1024
"""Above OpenAI's and vLLM's own limits (128 and 16,384 with one prompt); a bound, so that estimates stay finite."""


WholeAnswer = tuple[Usage | None, str | None]
"""What an answer that is not a stream says of itself: usage, and finish reason in the words of chat completions."""


class WireFormat(ABC):
    """One wire format; stateless, shared by all requests. Errors are OpenAI's unless a subclass says otherwise."""

    meter: ClassVar[type[StreamMeter]]

    def render(self, error: GatewayError) -> HttpError:
        """Turn a domain error into what is sent before an answer has begun."""
        return render(error)

    def error_body(self, code: str, message: str, *, status: int, param: str | None = None) -> bytes:
        """Build an error's JSON."""
        return error_body(code, message, status=status, param=param)

    def error_event(self, error: GatewayError, meter: StreamMeter) -> bytes:
        """Build the event that ends a stream which failed in the middle; no mark of the end ever follows it.

        Args:
            error: What happened.
            meter: What has passed so far.
        """
        del meter
        return sse_event(error)

    def refusal(self, body: bytes, status: int) -> bytes:
        """Return an engine's refusal of the request in the format's own shape."""
        del status
        return body

    @abstractmethod
    def max_tokens(self, document: Mapping[str, Any]) -> int | None:
        """Return the most output tokens that a request asks for, over all its choices; None when it does not say.

        Malformed fields count as absent: the engine says what is wrong with them.
        """

    @abstractmethod
    def whole(self, document: Mapping[str, Any]) -> WholeAnswer:
        """Read what an answer that is not a stream says of itself."""


def positive(value: object) -> int | None:
    """Return a whole number above 0, or None."""
    return value if type(value) is int and value > 0 else None


def choices_of(value: object) -> int:
    """Return how many answers a request's `n` asks for."""
    count = positive(value)
    return 1 if count is None else min(count, _MAX_CHOICES)


def status_of(error: GatewayError) -> int:
    """Return the status of a domain error."""
    return STATUS[error.code]
