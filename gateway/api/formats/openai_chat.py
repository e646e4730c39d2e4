"""OpenAI's chat completions, completions and embeddings: one shape of usage, events that end with `[DONE]`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Final

from gateway.api.formats.base import WholeAnswer, WireFormat, choices_of, positive
from gateway.upstream.sse import StreamMeter
from gateway.upstream.usage import Usage, count_of

_DONE: Final = b"[DONE]"


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

    def max_tokens(self, document: Mapping[str, Any]) -> int | None:
        """Read `max_completion_tokens`, or `max_tokens` as it was called before, for each of `n` choices."""
        limit = document.get("max_completion_tokens")
        most = positive(document.get("max_tokens") if limit is None else limit)
        count = document.get("n")
        return most if most is None or count is None else most * choices_of(count)

    def whole(self, document: Mapping[str, Any]) -> WholeAnswer:
        """Read `usage` and the first choice's `finish_reason`."""
        choices = document.get("choices")
        reason = None
        if isinstance(choices, list) and choices and isinstance(choices[0], dict):
            reason = choices[0].get("finish_reason")
        return openai_usage(document.get("usage")), reason if isinstance(reason, str) else None


class CompletionFormat(ChatFormat):
    """`/v1/completions`: a list of prompts asks for `n` choices each, and each choice has the limit."""

    def max_tokens(self, document: Mapping[str, Any]) -> int | None:
        """Read as for chat, for each of the prompts."""
        most = super().max_tokens(document)
        prompt = document.get("prompt")
        if most is not None and isinstance(prompt, list) and prompt and isinstance(prompt[0], str | list):
            return most * choices_of(len(prompt))
        return most


class EmbeddingFormat(ChatFormat):
    """`/v1/embeddings`: nothing is generated."""

    def max_tokens(self, document: Mapping[str, Any]) -> int | None:
        """An embedding has no output tokens."""
        del document
        return 0
