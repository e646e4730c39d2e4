"""OpenAI's API as its clients see it: answers, streams, errors with their real JSON, and rate-limit headers.

Source: the published API reference and the `openai` package's own types, which its tests against this file parse.
"""

from __future__ import annotations

import json
from typing import Any

from tests.fakes.provider_server import Asked, Fault, ProviderServer, Reply

KEY = "sk-proj-test-9a8b7c6d5e4f"
USAGE = {
    "prompt_tokens": 9,
    "completion_tokens": 3,
    "total_tokens": 12,
    "prompt_tokens_details": {"cached_tokens": 4, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 0, "accepted_prediction_tokens": 0},
}
RESPONSE_USAGE = {
    "input_tokens": 9,
    "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
    "output_tokens": 3,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 12,
}
WORDS = ("Hello", " wide", " world")
ARGUMENTS = ('{"city"', ': "Seo', 'ul"}')
ERRORS: dict[str, tuple[int, dict[str, Any]]] = {
    "bad_request": (
        400,
        {"message": "Unrecognized request argument supplied: foo", "type": "invalid_request_error", "param": None,
         "code": None},
    ),
    "context": (
        400,
        {"message": "This model's maximum context length is 128000 tokens. However, your messages resulted in 130001 "
         "tokens. Please reduce the length of the messages.", "type": "invalid_request_error", "param": "messages",
         "code": "context_length_exceeded"},
    ),
    "key": (
        401,
        {"message": f"Incorrect API key provided: {KEY[:8]}****{KEY[-4:]}. You can find your API key at "
         "https://platform.openai.com/account/api-keys.", "type": "invalid_request_error", "param": None,
         "code": "invalid_api_key"},
    ),
    "model": (
        404,
        {"message": "The model `gpt-none` does not exist or you do not have access to it.",
         "type": "invalid_request_error", "param": None, "code": "model_not_found"},
    ),
    "rate": (
        429,
        {"message": "Rate limit reached for gpt-4o in organization org-test on tokens per min (TPM): Limit 30000, Used "
         "29000, Requested 2000. Please try again in 2s.", "type": "tokens", "param": None,
         "code": "rate_limit_exceeded"},
    ),
    "quota": (
        429,
        {"message": "You exceeded your current quota, please check your plan and billing details.",
         "type": "insufficient_quota", "param": None, "code": "insufficient_quota"},
    ),
    "server": (
        500,
        {"message": "The server had an error while processing your request. Sorry about that!", "type": "server_error",
         "param": None, "code": None},
    ),
    "overloaded": (
        503,
        {"message": "The engine is currently overloaded, please try again later", "type": "server_error",
         "param": None, "code": None},
    ),
}  # fmt: skip
LIMIT_HEADERS = {
    "openai-organization": "org-test",
    "openai-processing-ms": "12",
    "openai-version": "2020-10-01",
    "x-request-id": "req_0123456789abcdef",
    "x-ratelimit-limit-requests": "500",
    "x-ratelimit-remaining-requests": "499",
    "x-ratelimit-reset-requests": "120ms",
    "x-ratelimit-limit-tokens": "30000",
    "x-ratelimit-remaining-tokens": "29975",
    "x-ratelimit-reset-tokens": "50ms",
}


def event(document: dict[str, Any], name: str | None = None) -> str:
    """One event as OpenAI sends it; only responses' events have names."""
    raw = f"data: {json.dumps(document, separators=(',', ':'))}\n\n"
    return raw if name is None else f"event: {name}\n{raw}"


class OpenAIProvider(ProviderServer):
    """The provider; `faults` are taken by the next requests."""

    def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        kind = fault.kind if fault is not None else ""
        if asked.headers.get("authorization") != f"Bearer {KEY}":
            kind = "key"
        if kind:
            status, error = ERRORS[kind]
            headers = dict(LIMIT_HEADERS)
            if fault is not None and fault.retry_after is not None:
                headers |= {"retry-after": fault.retry_after}
            return Reply(status, {"error": error}, headers=headers)
        answers = {
            "/v1/chat/completions": self._chat,
            "/v1/completions": self._completion,
            "/v1/embeddings": self._embedding,
            "/v1/responses": self._response,
        }
        reply = answers[asked.path](asked.body)
        reply.headers = dict(LIMIT_HEADERS)
        return reply

    def _chat(self, body: dict[str, Any]) -> Reply:
        base = {"id": "chatcmpl-1", "created": 1_772_323_200, "model": body["model"], "system_fingerprint": "fp_1"}
        call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "".join(ARGUMENTS)}}
        tools = bool(body.get("tools"))
        reason = "tool_calls" if tools else "stop"
        if not body.get("stream"):
            message: dict[str, Any] = {"role": "assistant", "content": None if tools else "".join(WORDS)}
            message |= {"refusal": None, "tool_calls": [call]} if tools else {"refusal": None}
            choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": reason}
            return Reply(document={**base, "object": "chat.completion", "choices": [choice], "usage": USAGE})
        usage = bool((body.get("stream_options") or {}).get("include_usage"))
        base |= {"object": "chat.completion.chunk", "service_tier": "default"}
        first: dict[str, Any] = {"role": "assistant", "content": None if tools else "", "refusal": None}
        deltas: list[dict[str, Any]] = [first]
        if tools:
            head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": "weather", "arguments": ""}}
            deltas.append({"tool_calls": [head]})
            deltas += [{"tool_calls": [{"index": 0, "function": {"arguments": part}}]} for part in ARGUMENTS]
        else:
            deltas += [{"content": word} for word in WORDS]
        choices = [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": None} for delta in deltas]
        choices.append({"index": 0, "delta": {}, "logprobs": None, "finish_reason": reason})
        none = {"usage": None} if usage else {}
        events = [event({**base, "choices": [choice], **none}) for choice in choices]
        if usage:
            events.append(event({**base, "choices": [], "usage": USAGE}))
        return Reply(events=[*events, "data: [DONE]\n\n"])

    def _completion(self, body: dict[str, Any]) -> Reply:
        base = {"id": "cmpl-1", "object": "text_completion", "created": 1_772_323_200, "model": body["model"]}
        if not body.get("stream"):
            choice = {"text": "".join(WORDS), "index": 0, "logprobs": None, "finish_reason": "stop"}
            return Reply(document={**base, "choices": [choice], "usage": USAGE})
        texts = [(word, None) for word in WORDS] + [("", "stop")]
        choices = [{"text": text, "index": 0, "logprobs": None, "finish_reason": reason} for text, reason in texts]
        events = [event({**base, "choices": [choice]}) for choice in choices]
        if (body.get("stream_options") or {}).get("include_usage"):
            events.append(event({**base, "choices": [], "usage": USAGE}))
        return Reply(events=[*events, "data: [DONE]\n\n"])

    def _embedding(self, body: dict[str, Any]) -> Reply:
        given = body["input"]
        count = len(given) if isinstance(given, list) else 1
        data = [{"object": "embedding", "index": number, "embedding": [0.25, -0.5, 1.0]} for number in range(count)]
        usage = {"prompt_tokens": 5, "total_tokens": 5}
        return Reply(document={"object": "list", "data": data, "model": body["model"], "usage": usage})

    def _response(self, body: dict[str, Any]) -> Reply:
        text = "".join(WORDS)
        part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
        item = {"id": "msg_1", "type": "message", "status": "completed", "role": "assistant", "content": [part]}
        response: dict[str, Any] = {
            "id": "resp_1", "object": "response", "created_at": 1_772_323_200, "status": "completed", "error": None,
            "incomplete_details": None, "instructions": None, "max_output_tokens": None, "model": body["model"],
            "output": [item], "parallel_tool_calls": True, "previous_response_id": None, "store": True,
            "temperature": 1.0, "text": {"format": {"type": "text"}}, "tool_choice": "auto", "tools": [],
            "top_p": 1.0, "truncation": "disabled", "usage": RESPONSE_USAGE, "user": None, "metadata": {},
        }  # fmt: skip
        if not body.get("stream"):
            return Reply(document=response)
        begun = response | {"status": "in_progress", "output": [], "usage": None}
        empty = item | {"status": "in_progress", "content": []}
        at = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
        parts: list[dict[str, Any]] = [
            {"type": "response.created", "response": begun},
            {"type": "response.in_progress", "response": begun},
            {"type": "response.output_item.added", "output_index": 0, "item": empty},
            {"type": "response.content_part.added", **at, "part": part | {"text": ""}},
            *({"type": "response.output_text.delta", **at, "delta": word, "logprobs": []} for word in WORDS),
            {"type": "response.output_text.done", **at, "text": text, "logprobs": []},
            {"type": "response.content_part.done", **at, "part": part},
            {"type": "response.output_item.done", "output_index": 0, "item": item},
            {"type": "response.completed", "response": response},
        ]
        return Reply(events=[event({**one, "sequence_number": at}, one["type"]) for at, one in enumerate(parts)])
