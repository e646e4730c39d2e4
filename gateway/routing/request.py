"""What routing looks at in a request, and what keeps a request on its side."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import blake2b
from typing import Any, Final

import orjson

from gateway.auth.principal import Principal
from serving.contracts.routing_rules import StickyBy

SESSION_HEADER: Final = b"x-nexus-session"
CONVERSATION_HEADER: Final = b"x-nexus-conversation"
STICKY_HEADERS: Final = frozenset({SESSION_HEADER, CONVERSATION_HEADER})

ADDRESS_PREFIX: Final = b"\0address:"
"""How the id of somebody known only by address begins; it may change in the middle of a conversation."""

_SYSTEM_ROLES: Final = frozenset({"system", "developer"})
_GRAMMAR_FIELDS: Final = (
    "structured_outputs", "guided_json", "guided_regex", "guided_choice", "guided_grammar", "output_format",
)  # fmt: skip
"""Ways to ask for a form besides `response_format`: vLLM's of 0.11 and before, and Anthropic's."""


class RouteRequest:
    """One request as rules see it.

    Attributes:
        model: The model that was asked for.
        principal: Who asks.
        user: Id of the user.
        headers: Those that `Router.headers` names, lower case, as far as they came.
        document: The parsed body.
        body_bytes: Its length.
    """

    __slots__ = ("body_bytes", "document", "headers", "model", "principal", "user")

    def __init__(
        self,
        model: str,
        principal: Principal,
        user: bytes,
        headers: Mapping[bytes, bytes],
        document: dict[str, Any],
        body_bytes: int,
    ) -> None:
        self.model = model
        self.principal = principal
        self.user = user
        self.headers = headers
        self.document = document
        self.body_bytes = body_bytes

    @property
    def has_tools(self) -> bool:
        """Whether it brings tools, or functions as they were called before."""
        return bool(self.document.get("tools") or self.document.get("functions"))

    @property
    def wants_structure(self) -> bool:
        """Whether it asks for an answer in a given form, in any of the ways that our engines and providers know."""
        document = self.document
        form = document.get("response_format")
        if form is None:  # Responses API
            text = document.get("text")
            form = text.get("format") if isinstance(text, dict) else None
        if form is None:  # Anthropic
            config = document.get("output_config")
            form = config.get("format") if isinstance(config, dict) else None
        if isinstance(form, dict):
            return form.get("type") != "text"
        return any(document.get(name) is not None for name in _GRAMMAR_FIELDS)

    def sticky_id(self, by: StickyBy) -> bytes:
        """Return what keeps its side: bytes that stay the same for the user, session or conversation."""
        if by is StickyBy.USER:
            return self.user
        if by is StickyBy.SESSION:
            session = self.headers.get(SESSION_HEADER)
            return b"\0session:" + session if session else self.user
        conversation = self.headers.get(CONVERSATION_HEADER)
        if conversation:
            return b"\0conversation:" + conversation
        return self._first_messages() or self.user

    def _first_messages(self) -> bytes | None:
        """Return a digest of what all turns of a conversation begin with; None when that cannot be told."""
        document = self.document
        messages = document.get("messages") or document.get("input")
        system: object = document.get("system") or document.get("instructions")
        first: object = messages if isinstance(messages, str) else None
        if isinstance(messages, list):
            for message in messages:
                if not isinstance(message, dict):
                    return None  # embeddings: a list of texts
                role = message.get("role")
                if role == "user":
                    first = message.get("content")
                    break
                if role in _SYSTEM_ROLES and system is None:
                    system = message.get("content")
        if not first:
            return None
        user = b"" if self.user.startswith(ADDRESS_PREFIX) else self.user
        return blake2b(user + b"\0" + orjson.dumps([system, first]), digest_size=16).digest()
