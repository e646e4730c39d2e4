"""OpenAI's chat completions, completions and embeddings: one shape of usage, events that end with `[DONE]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gateway.api.formats.base import Features, WholeAnswer, WireFormat, choices_of, positive
from gateway.upstream.sse import StreamMeter
from gateway.upstream.usage import Usage, count_of

_DONE: Final = b"[DONE]"
_STRUCTURED: Final = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar",
)  # fmt: skip
"""vLLM's own ways to ask for a schema or grammar, current and former; the former are SGLang's too."""


def openai_usage(value: object) -> Usage | None:
    """Read a `usage` object of chat completions, completions or embeddings."""
    if not isinstance(value, dict):
        return None
    details = value.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    return Usage(count_of(value.get("prompt_tokens")), count_of(cached), count_of(value.get("completion_tokens")))


class ChatMeter(StreamMeter):
    """Meters `chat.completion.chunk` and `text_completion` events."""

    TEXT_KEYS: ClassVar = ((b'"content":"', b'"content":""'), (b'"text":"', b'"text":""'))
    END_KEY: ClassVar = b'"finish_reason":"'

    __slots__ = ()

    def _line(self, payload: bytes) -> None:
        if payload == _DONE:
            self.done = True
        else:
            super()._line(payload)

    def _event(self, event: dict[str, Any]) -> None:
        if event.get("error"):
            self.failed = True
        self.usage = openai_usage(event.get("usage")) or self.usage
        choices = event.get("choices")
        if isinstance(choices, list):
            for choice in choices:
                if isinstance(choice, dict):
                    self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        delta = choice.get("delta")
        if isinstance(delta, dict):
            has_content = delta.get("content") or delta.get("tool_calls")
            has_content = has_content or delta.get("reasoning_content") or delta.get("reasoning")
        else:
            has_content = choice.get("text")
        if has_content:
            self.content_chunks += 1
        if isinstance(choice.get("finish_reason"), str):
            self.finish_reason = choice["finish_reason"]


class ChatFormat(WireFormat):
    """`/v1/chat/completions` and `/v1/completions`."""

    meter = ChatMeter

    def features(self, document: Mapping[str, Any]) -> Features:
        """Read `stream`, the token limit, `n`, `tools`, and every way to ask for structured output."""
        get = document.get
        limit = get("max_completion_tokens")
        form = get("response_format")
        structured = isinstance(form, dict) and form.get("type") in {"json_object", "json_schema", "structural_tag"}
        return Features(
            get("stream") is True,
            positive(get("max_tokens") if limit is None else limit),
            1 if (count := get("n")) is None else choices_of(count),
            bool(get("tools") or get("functions")),
            structured or not all(get(name) is None for name in _STRUCTURED),
        )

    def whole(self, document: Mapping[str, Any]) -> WholeAnswer:
        """Read `usage` and the first choice's `finish_reason`."""
        choices = document.get("choices")
        reason = None
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            reason = choices[0].get("finish_reason")
        return WholeAnswer(openai_usage(document.get("usage")), reason if isinstance(reason, str) else None)


class CompletionFormat(ChatFormat):
    """`/v1/completions`: a list of prompts asks for `n` choices each, and each choice has the limit."""

    def features(self, document: Mapping[str, Any]) -> Features:
        """Read as for chat, with the default limit that engines apply and the number of prompts."""
        features = super().features(document)
        prompt = document.get("prompt")
        if isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
            return features._replace(choices=choices_of(len(prompt) * features.choices))
        return features


class EmbeddingFormat(ChatFormat):
    """`/v1/embeddings`: nothing is generated."""

    def features(self, document: Mapping[str, Any]) -> Features:
        """An embedding streams nothing and has no output tokens."""
        del document
        return Features(stream=False, max_tokens=0, choices=1, tools=False, structured_output=False)
