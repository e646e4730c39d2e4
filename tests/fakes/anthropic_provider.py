"""Anthropic's messages API as its clients see it: answers, event names, errors with their real JSON, limit headers.

Source: the published API reference and the `anthropic` package's own types, which its tests against this file parse.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.provider_server import Asked, Fault, ProviderServer, Reply

KEY = "sk-ant-api03-test-1f2e3d4c5b6a"
USAGE = {
    "input_tokens": 9,
    "cache_creation_input_tokens": 0,
    "cache_read_input_tokens": 4,
    "output_tokens": 3,
    "service_tier": "standard",
}
WORDS = ("Hello", " wide", " world")
ARGUMENTS = ("", '{"city"', ': "Seo', 'ul"}')
ERRORS: dict[str, tuple[int, str, str]] = {
    "bad_request": (400, "invalid_request_error", "messages: at least one message is required"),
    "billing": (
        400,
        "invalid_request_error",
        "Your credit balance is too low to access the Anthropic API. Please go to Plans & Billing.",
    ),
    "key": (401, "authentication_error", "invalid x-api-key"),
    "permission": (403, "permission_error", "Your API key does not have permission to use the specified resource."),
    "model": (404, "not_found_error", "model: claude-none"),
    "large": (413, "request_too_large", "Request exceeds the maximum size"),
    "rate": (
        429,
        "rate_limit_error",
        "This request would exceed your organization's rate limit of 40,000 input tokens per minute.",
    ),
    "server": (500, "api_error", "Internal server error"),
    "overloaded": (529, "overloaded_error", "Overloaded"),
}
LIMIT_HEADERS = {
    "request-id": "req_011CTestTestTest",
    "anthropic-organization-id": "6a1f0000-0000-4000-8000-000000000000",
    "anthropic-ratelimit-requests-limit": "50",
    "anthropic-ratelimit-requests-remaining": "49",
    "anthropic-ratelimit-requests-reset": "2026-03-01T00:00:01Z",
    "anthropic-ratelimit-tokens-limit": "48000",
    "anthropic-ratelimit-tokens-remaining": "47000",
    "anthropic-ratelimit-tokens-reset": "2026-03-01T00:00:02Z",
    "anthropic-ratelimit-input-tokens-limit": "40000",
    "anthropic-ratelimit-input-tokens-remaining": "39000",
    "anthropic-ratelimit-input-tokens-reset": "2026-03-01T00:00:02Z",
    "anthropic-ratelimit-output-tokens-limit": "8000",
    "anthropic-ratelimit-output-tokens-remaining": "8000",
    "anthropic-ratelimit-output-tokens-reset": "2026-03-01T00:00:00Z",
}


def event(document: dict[str, Any]) -> str:
    """One event as Anthropic sends it: its name is its type."""
    return f"event: {document['type']}\ndata: {json.dumps(document, separators=(',', ':'))}\n\n"


def error(kind: str) -> dict[str, Any]:
    """An error's JSON."""
    _, name, message = ERRORS[kind]
    return {"type": "error", "error": {"type": name, "message": message}, "request_id": LIMIT_HEADERS["request-id"]}


class AnthropicProvider(ProviderServer):
    """The provider; `faults` are taken by the next requests. A fault's kind with a cut is an error event."""

    def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        kind = fault.kind if fault is not None else ""
        if asked.headers.get("x-api-key") != KEY:
            kind = "key"
        elif not kind and not (asked.body.get("max_tokens") and asked.headers.get("anthropic-version")):
            kind = "bad_request"
        assert asked.path.partition("?")[0] == "/v1/messages", asked.path
        if kind and (fault is None or fault.cut is None):
            headers = dict(LIMIT_HEADERS)
            if fault is not None and fault.retry_after is not None:
                headers |= {"retry-after": fault.retry_after}
            return Reply(ERRORS[kind][0], error(kind), headers=headers)
        if not asked.body.get("stream"):
            return Reply(document=self._message(asked.body), headers=dict(LIMIT_HEADERS))
        events = self._events(asked.body)
        if kind and fault is not None and fault.cut is not None:
            events = [*events[: fault.cut], event(error(kind))]
            fault.cut = None
        return Reply(events=events, headers=dict(LIMIT_HEADERS))

    def _message(self, body: dict[str, Any]) -> dict[str, Any]:
        content: dict[str, Any] = {"type": "text", "text": "".join(WORDS)}
        if body.get("tools"):
            content = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {"city": "Seoul"}}
        return {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": body["model"],
            "content": [content],
            "stop_reason": "tool_use" if body.get("tools") else "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }

    def _events(self, body: dict[str, Any]) -> list[str]:
        message = self._message(body)
        begun = message | {"content": [], "stop_reason": None, "usage": USAGE | {"output_tokens": 1}}
        if body.get("tools"):
            block = message["content"][0] | {"input": {}}
            deltas = [{"type": "input_json_delta", "partial_json": part} for part in ARGUMENTS]
        else:
            block = {"type": "text", "text": ""}
            deltas = [{"type": "text_delta", "text": word} for word in WORDS]
        end = {"stop_reason": message["stop_reason"], "stop_sequence": None}
        return [
            event({"type": "message_start", "message": begun}),
            event({"type": "content_block_start", "index": 0, "content_block": block}),
            event({"type": "ping"}),
            *(event({"type": "content_block_delta", "index": 0, "delta": delta}) for delta in deltas),
            event({"type": "content_block_stop", "index": 0}),
            event({"type": "message_delta", "delta": end, "usage": {"output_tokens": 3}}),
            event({"type": "message_stop"}),
        ]
