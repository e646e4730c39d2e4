"""Wire formats by path. A format is stateless; what is learned of one stream is in the meter that it makes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from gateway.api.formats.anthropic_messages import MessagesFormat
from gateway.api.formats.base import WholeAnswer, WireFormat
from gateway.api.formats.openai_chat import ChatFormat, CompletionFormat, EmbeddingFormat
from gateway.api.formats.openai_responses import ResponsesFormat

CHAT: Final = ChatFormat()
COMPLETIONS: Final = CompletionFormat()
EMBEDDINGS: Final = EmbeddingFormat()
RESPONSES: Final = ResponsesFormat()
MESSAGES: Final = MessagesFormat()

FORMATS: Final[Mapping[str, WireFormat]] = {
    "/v1/chat/completions": CHAT,
    "/v1/completions": COMPLETIONS,
    "/v1/embeddings": EMBEDDINGS,
    "/v1/responses": RESPONSES,
    "/v1/messages": MESSAGES,
}

__all__ = ["CHAT", "COMPLETIONS", "EMBEDDINGS", "FORMATS", "MESSAGES", "RESPONSES", "WholeAnswer",
           "WireFormat"]  # fmt: skip
