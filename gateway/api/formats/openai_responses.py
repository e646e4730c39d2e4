"""OpenAI's responses: named events with running numbers, of which the last is completed, incomplete or failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, ClassVar, Final

import orjson

from gateway.api.formats.base import WholeAnswer, WireFormat, positive
from gateway.errors import GatewayError
from gateway.upstream.sse import StreamMeter
from gateway.upstream.usage import Usage, count_of

_LAST: Final = frozenset({"response.completed", "response.incomplete", "response.failed"})
_CONTENT: Final = frozenset(
    {
        "response.output_text.delta", "response.refusal.delta", "response.reasoning_text.delta",
        "response.reasoning_summary_text.delta", "response.function_call_arguments.delta",
        "response.custom_tool_call_input.delta", "response.mcp_call_arguments.delta",
        "response.code_interpreter_call_code.delta",
    }
)  # fmt: skip
_REASONS: Final = {"max_output_tokens": "length", "content_filter": "content_filter"}
_NUMBER: Final = re.compile(rb'"sequence_number":\s*(\d{1,18})')


def responses_usage(value: object) -> Usage | None:
    """Read a `usage` object of a response."""
    if not isinstance(value, dict):
        return None
    details = value.get("input_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(count_of(value.get("input_tokens")), count_of(cached), count_of(value.get("output_tokens")))


def finish_reason(response: Mapping[str, Any]) -> str | None:
    """Say why a response ended, in the words of chat completions."""
    status = response.get("status")
    if status == "completed":
        output = response.get("output")
        items = output if isinstance(output, list) else []
        called = any(isinstance(item, dict) and item.get("type") == "function_call" for item in items)
        return "tool_calls" if called else "stop"
    if status != "incomplete":
        return None
    details = response.get("incomplete_details")
    reason = details.get("reason") if isinstance(details, dict) else None
    return _REASONS.get(reason, "stop") if isinstance(reason, str) else None


class ResponsesMeter(StreamMeter):
    """Meters `response.*` events."""

    TEXT_KEYS: ClassVar = ((b'"type":"response.output_text.delta"', b'"delta":""'),)

    __slots__ = ("_latest",)

    def __init__(self) -> None:
        super().__init__()
        self._latest = b""

    def count(self, events: bytes, now: float) -> None:
        """As the base class; the latest events are kept for their running number."""
        if events:
            self._latest = events
        super().count(events, now)

    @property
    def next_number(self) -> int:
        """Running number of the event that comes next."""
        numbers = _NUMBER.findall(self._latest)
        return int(numbers[-1]) + 1 if numbers else 0

    def _event(self, event: dict[str, Any]) -> None:
        kind = event.get("type")
        if kind in _CONTENT:
            self.content_chunks += bool(event.get("delta"))
        elif kind in _LAST:
            self.done = True
            self.failed = self.failed or kind == "response.failed"
            response = event.get("response")
            if isinstance(response, dict):
                self.usage = responses_usage(response.get("usage")) or self.usage
                self.finish_reason = finish_reason(response)
        elif kind == "error" or event.get("error"):
            self.failed = True


class ResponsesFormat(WireFormat):
    """`/v1/responses`."""

    meter = ResponsesMeter

    def error_event(self, error: GatewayError, meter: StreamMeter) -> bytes:
        """Build the `error` event of a responses stream, with the number that comes next."""
        number = meter.next_number if isinstance(meter, ResponsesMeter) else 0
        event = {
            "type": "error",
            "code": error.code,
            "message": error.message,
            "param": error.param,
            "sequence_number": number,
        }
        return b"event: error\ndata: " + orjson.dumps(event) + b"\n\n"

    def max_tokens(self, document: Mapping[str, Any]) -> int | None:
        """Read `max_output_tokens`."""
        return positive(document.get("max_output_tokens"))

    def whole(self, document: Mapping[str, Any]) -> WholeAnswer:
        """Read `usage` and why the response ended."""
        return responses_usage(document.get("usage")), finish_reason(document)
