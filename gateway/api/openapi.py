"""The hot paths' part of the OpenAPI document; FastAPI, which they bypass, writes the rest."""

from __future__ import annotations

from typing import Any, Final

from gateway.api.errors import STATUS

_SUMMARIES: Final = {
    "/v1/chat/completions": "Answer a conversation",
    "/v1/completions": "Complete a text",
    "/v1/embeddings": "Embed texts",
    "/v1/responses": "Answer a conversation (OpenAI's responses)",
    "/v1/messages": "Answer a conversation (Anthropic's messages)",
}

_OPENAI_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
        }
    },
}

_ANTHROPIC_ERROR: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "error"],
    "properties": {
        "type": {"const": "error"},
        "error": {
            "type": "object",
            "required": ["type", "message"],
            "properties": {"type": {"type": "string"}, "message": {"type": "string"}},
        },
    },
}


def hot_paths() -> dict[str, Any]:
    """Return OpenAPI path items of the paths that are passed to engines."""
    return {path: {"post": _operation(path, summary)} for path, summary in _SUMMARIES.items()}


def _operation(path: str, summary: str) -> dict[str, Any]:
    answer: dict[str, Any] = {"application/json": {"schema": {"type": "object"}}}
    if path != "/v1/embeddings":
        answer["text/event-stream"] = {"schema": {"type": "string"}}
    error = _ANTHROPIC_ERROR if path == "/v1/messages" else _OPENAI_ERROR
    errors = {
        str(status): {"description": "Error", "content": {"application/json": {"schema": error}}}
        for status in sorted({*STATUS.values(), 415, 422} - {431, 499})
    }
    return {
        "summary": summary,
        "tags": ["inference"],
        "operationId": path.strip("/").replace("/", "_"),
        "parameters": [
            {"name": name, "in": "header", "required": False, "schema": {"type": "string"}}
            for name in ("x-nexus-user", "x-request-id", "traceparent", "tracestate")
        ],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {
                    "schema": {
                        "type": "object",
                        "required": ["model"],
                        "properties": {"model": {"type": "string", "minLength": 1}, "user": {"type": "string"}},
                    }
                }
            },
        },
        "responses": {"200": {"description": "The engine's answer", "content": answer}, **errors},
    }
