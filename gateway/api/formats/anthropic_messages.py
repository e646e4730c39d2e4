"""Anthropic's messages: own error shape, events that end with `message_stop`, input tokens without cached ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson

from gateway.api.errors import HttpError, render
from gateway.api.formats.base import WholeAnswer, WireFormat, positive, status_of
from gateway.errors import GatewayError
from gateway.upstream.sse import StreamMeter
from gateway.upstream.usage import Usage, count_of

_TYPES: Final[Mapping[int, str]] = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
_REASONS: Final = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "tool_use": "tool_calls",
    "refusal": "content_filter",
}
_KNOWN_TYPES: Final = frozenset({"invalid_request_error", "api_error", *_TYPES.values()})
_NO_REASON: Final = "the engine refused the request and gave no reason"
_CONTENT: Final = ("text", "thinking", "partial_json")


def error_type(status: int) -> str:
    """Return Anthropic's `error.type` of a status."""
    known = _TYPES.get(status)
    if known is not None:
        return known
    return "api_error" if status >= 500 else "invalid_request_error"


def message_error(status: int, message: str) -> bytes:
    """Build Anthropic's error object as JSON."""
    return orjson.dumps({"type": "error", "error": {"type": error_type(status), "message": message}})


def messages_usage(value: object, before: Usage | None = None) -> Usage | None:
    """Read a `usage` object of a message; in a stream the later one completes the one before.

    The prompt is what was read from the cache, what was written to it, and the rest, which alone is `input_tokens`.
    """
    if not isinstance(value, dict):
        return before
    rest = count_of(value.get("input_tokens"))
    cached = count_of(value.get("cache_read_input_tokens"))
    output = count_of(value.get("output_tokens"))
    known = before or Usage()
    if rest is None:
        return Usage(known.prompt_tokens, known.cached_tokens, known.output_tokens if output is None else output)
    prompt = rest + (cached or 0) + (count_of(value.get("cache_creation_input_tokens")) or 0)
    return Usage(prompt or known.prompt_tokens, known.cached_tokens if cached is None else cached, output)


def finish_reason(value: object) -> str | None:
    """Translate a `stop_reason` to the words of chat completions; an unknown one stays."""
    return _REASONS.get(value, value) if isinstance(value, str) else None


class MessagesMeter(StreamMeter):
    """Meters `message_*` and `content_block_*` events."""

    TEXT_KEYS: ClassVar = ((b'"type":"text_delta"', b'"text":""'),)

    __slots__ = ()

    def _event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind == "content_block_delta":
            delta = event.get("delta")
            if isinstance(delta, dict) and any(delta.get(name) for name in _CONTENT):
                self.content_chunks += 1
        elif kind == "message_start":
            message = event.get("message")
            if isinstance(message, dict):
                self.usage = messages_usage(message.get("usage"), self.usage)
        elif kind == "message_delta":
            delta = event.get("delta")
            if isinstance(delta, dict):
                self.finish_reason = finish_reason(delta.get("stop_reason")) or self.finish_reason
            self.usage = messages_usage(event.get("usage"), self.usage)
        elif kind == "message_stop":
            self.done = True
        elif kind == "error":
            self.failed = True


class MessagesFormat(WireFormat):
    """`/v1/messages`."""

    meter = MessagesMeter

    def render(self, error: GatewayError) -> HttpError:
        """Turn a domain error into what is sent before an answer has begun."""
        plain = render(error)
        return HttpError(plain.status, plain.headers, message_error(plain.status, error.message))

    def error_body(self, code: str, message: str, *, status: int, param: str | None = None) -> bytes:
        """Build an error's JSON; the format has no place for code and parameter."""
        del code, param
        return message_error(status, message)

    def error_event(self, error: GatewayError, meter: StreamMeter) -> bytes:
        """Build the `error` event."""
        del meter
        return b"event: error\ndata: " + message_error(status_of(error), error.message) + b"\n\n"

    def refusal(self, body: bytes, status: int) -> bytes:
        """Return a refusal as it is, or its message in Anthropic's shape where an engine's shape or type is another.

        vLLM 0.32 answers with OpenAI's shape where a field is malformed, and with types of its own elsewhere.
        """
        try:
            document = orjson.loads(body)
        except orjson.JSONDecodeError:
            return message_error(status, _NO_REASON)
        error = document.get("error") if isinstance(document, dict) else None
        if not isinstance(error, dict):
            return message_error(status, _NO_REASON)
        if document.get("type") == "error" and error.get("type") in _KNOWN_TYPES:
            return body
        message = error.get("message")
        return message_error(status, message if isinstance(message, str) else _NO_REASON)

    def max_tokens(self, document: Mapping[str, Any]) -> int | None:
        """Read `max_tokens`."""
        return positive(document.get("max_tokens"))

    def whole(self, document: Mapping[str, Any]) -> WholeAnswer:
        """Read `usage` and `stop_reason`."""
        return messages_usage(document.get("usage")), finish_reason(document.get("stop_reason"))
