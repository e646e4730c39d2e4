from __future__ import annotations

from typing import Any

from gateway.auth.principal import ANONYMOUS
from gateway.routing.request import RouteRequest
from serving.contracts.routing_rules import StickyBy


def sticky(by: StickyBy, document: dict[str, Any], user: bytes = b"u", **headers: str) -> bytes:
    named = {f"x-nexus-{name}".encode(): value.encode() for name, value in headers.items()}
    return RouteRequest("m", ANONYMOUS, user, named, document, 1).sticky_id(by)


def chat(*contents: str, system: str | None = None) -> dict[str, Any]:
    roles = ("user", "assistant")
    messages = [{"role": roles[at % 2], "content": content} for at, content in enumerate(contents)]
    return {"messages": ([{"role": "system", "content": system}] if system else []) + messages}


def test_by_user_and_by_session() -> None:
    """The user's id is what it is; a session's header counts before it."""
    assert sticky(StickyBy.USER, {}, session="s") == b"u"
    assert sticky(StickyBy.SESSION, {}) == b"u"
    assert sticky(StickyBy.SESSION, {}, session="s") == sticky(StickyBy.SESSION, {}, b"other", session="s")


def test_all_turns_of_a_conversation_have_one_id() -> None:
    """Later turns have the first one's id; another first message, system prompt or user has another."""
    first = sticky(StickyBy.CONVERSATION, chat("hello", system="be kind"))
    assert sticky(StickyBy.CONVERSATION, chat("hello", "yes?", "more", system="be kind")) == first
    others = [
        sticky(StickyBy.CONVERSATION, chat("hello", system="be brief")),
        sticky(StickyBy.CONVERSATION, chat("hallo", system="be kind")),
        sticky(StickyBy.CONVERSATION, chat("hello", system="be kind"), b"v"),
    ]
    assert len({first, *others}) == 4


def test_a_conversation_survives_a_change_of_address() -> None:
    """Who is known by address only keeps the conversation's id when the address changes."""
    a, b = (sticky(StickyBy.CONVERSATION, chat("hello"), b"\0address:" + at) for at in (b"1", b"2"))
    assert a == b


def test_other_formats_have_conversations_too() -> None:
    """Anthropic's system, and Responses' instructions and input, are taken; the header counts before all."""
    anthropic = {"system": "s", "messages": [{"role": "user", "content": [{"type": "text", "text": "x"}]}]}
    responses = {"instructions": "s", "input": "x"}
    for document in (anthropic, responses):
        assert sticky(StickyBy.CONVERSATION, document) != b"u"
        assert sticky(StickyBy.CONVERSATION, document, conversation="c") == b"\0conversation:c"


def test_without_messages_it_is_the_user() -> None:
    """Completions, embeddings and malformed messages fall back on the user."""
    for document in ({"prompt": "x"}, {"input": ["a", "b"]}, {"messages": [1]}, {"messages": {}}, {"messages": []}):
        assert sticky(StickyBy.CONVERSATION, document) == b"u"
