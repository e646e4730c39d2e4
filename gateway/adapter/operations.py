"""The paths: LiteLLM's function for each, the fields of a request that reach it, and how its answers look.

Fields are named one by one because LiteLLM takes its own controls (address, key, retries, callbacks, made-up answers)
as arguments beside OpenAI's: whatever a client could slip in there would be obeyed.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from gateway.adapter import shapes
from gateway.adapter.failures import Failure
from gateway.errors import InvalidRequestError

_SAMPLING: Final = frozenset(
    {"temperature", "top_p", "n", "stream", "stream_options", "stop", "max_tokens", "presence_penalty",
     "frequency_penalty", "logit_bias", "user", "seed", "logprobs"}
)  # fmt: skip
_CHAT: Final = _SAMPLING | {
    "messages", "functions", "function_call", "max_completion_tokens", "modalities", "prediction", "audio",
    "response_format", "tools", "tool_choice", "parallel_tool_calls", "top_logprobs", "reasoning_effort", "verbosity",
    "safety_identifier", "service_tier", "store", "prompt_cache_key", "thinking", "web_search_options", "top_k",
}  # fmt: skip
_COMPLETION: Final = _SAMPLING | {"prompt", "suffix", "echo", "best_of"}
_EMBEDDING: Final = frozenset({"input", "dimensions", "encoding_format", "user"})
_RESPONSE: Final = frozenset(
    {"input", "include", "instructions", "max_output_tokens", "parallel_tool_calls", "previous_response_id",
     "reasoning", "store", "stream", "temperature", "text", "tool_choice", "tools", "top_p", "truncation", "user",
     "service_tier", "prompt_cache_key", "safety_identifier", "top_logprobs"}
)  # fmt: skip
_MESSAGE: Final = frozenset(
    {"messages", "max_tokens", "metadata", "stop_sequences", "stream", "system", "temperature", "thinking",
     "tool_choice", "tools", "top_k", "top_p", "service_tier", "output_config", "output_format"}
)  # fmt: skip
_CAN_CHOOSE_TO_STREAM_USAGE: Final = frozenset({"acompletion", "atext_completion"})


@dataclass(frozen=True, slots=True)
class Operation:
    """One path. `function` is LiteLLM's; `required` are fields without which it cannot be called."""

    function: str
    fields: frozenset[str]
    required: tuple[str, ...]
    events: shapes.EventsOf = shapes.choice_events
    error: Callable[[Failure], bytes] = shapes.openai_error
    error_event: shapes.ErrorEvent = shapes.plain_error_event

    def arguments(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Return a request's fields as LiteLLM's arguments; a stream is always asked for its usage.

        Raises:
            InvalidRequestError: A field is unknown or missing.
        """
        unknown = sorted(set(document) - self.fields - {"model"})
        if unknown:
            raise InvalidRequestError(
                f"expected fields that external providers have; got {', '.join(map(repr, unknown))[:200]}: drop it",
                param=unknown[0][:100],
            )
        missing = [name for name in self.required if document.get(name) is None]
        if missing:
            raise InvalidRequestError(f"expected `{missing[0]}`; it is missing: add it", param=missing[0])
        arguments = {name: value for name, value in document.items() if value is not None}
        if document.get("stream") is True and self.function in _CAN_CHOOSE_TO_STREAM_USAGE:
            given = document.get("stream_options")
            arguments["stream_options"] = (given if isinstance(given, dict) else {}) | {"include_usage": True}
        return arguments


def asked_for_usage(document: Mapping[str, Any]) -> bool:
    """Tell whether a request asks for an event of usage."""
    options = document.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


OPERATIONS: Final[Mapping[str, Operation]] = {
    "/v1/chat/completions": Operation("acompletion", _CHAT, ("messages",)),
    "/v1/completions": Operation("atext_completion", _COMPLETION, ("prompt",)),
    "/v1/embeddings": Operation("aembedding", _EMBEDDING, ("input",)),
    "/v1/responses": Operation(
        "aresponses",
        _RESPONSE,
        ("input",),
        events=shapes.responses_events,
        error_event=shapes.responses_error_event,
    ),
    "/v1/messages": Operation(
        "anthropic_messages",
        _MESSAGE,
        ("messages", "max_tokens"),
        events=shapes.messages_events,
        error=shapes.anthropic_error,
        error_event=shapes.messages_error_event,
    ),
}
