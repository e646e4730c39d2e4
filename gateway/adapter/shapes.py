"""How answers, events and errors look on each path: what LiteLLM returns, in the words of OpenAI and Anthropic."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any, Final

import orjson

from gateway.adapter.failures import Failure, StreamFailedError
from gateway.api.errors import error_type
from gateway.api.formats.anthropic_messages import message_error

DONE: Final = b"data: [DONE]\n\n"
_ERROR_EVENT: Final = b"event: error\ndata: "
_LIBRARY: Final = "litellm."
"""How the words of an error that LiteLLM made begin; a provider's own error events are passed on."""


def openai_error(failure: Failure) -> bytes:
    """Build OpenAI's error object."""
    error = {"message": failure.message, "type": error_type(failure.status), "param": failure.param}
    return orjson.dumps({"error": {**error, "code": failure.code}})


def anthropic_error(failure: Failure) -> bytes:
    """Build Anthropic's error object."""
    return message_error(failure.status, failure.message)


def plain_error_event(failure: Failure, number: int) -> bytes:
    """Build the event that ends a chat or completion stream that failed; `[DONE]` never follows it."""
    del number
    return b"data: " + openai_error(failure) + b"\n\n"


def messages_error_event(failure: Failure, number: int) -> bytes:
    """Build the event that ends a messages stream that failed."""
    del number
    return b"event: error\ndata: " + anthropic_error(failure) + b"\n\n"


def responses_error_event(failure: Failure, number: int) -> bytes:
    """Build the event that ends a responses stream that failed."""
    event = {"type": "error", "code": failure.code, "message": failure.message, "param": failure.param}
    return b"event: error\ndata: " + orjson.dumps({**event, "sequence_number": number}) + b"\n\n"


def whole(answer: Any) -> dict[str, Any]:
    """Return an answer or an event as a document: what LiteLLM leaves empty, and its own figures, are left out."""
    document: dict[str, Any]
    if isinstance(answer, dict):
        document = dict(answer)
    else:
        document = answer.model_dump(mode="json", exclude_none=True, warnings=False)
    for choice in document.get("choices", ()):
        if "message" in choice:
            choice["message"].setdefault("content", None)
    for holder in (document, document.get("response")):
        if isinstance(holder, dict) and isinstance(holder.get("usage"), dict):
            holder["usage"].pop("cost", None)  # what tokens cost is the route's to say
    return document


async def choice_events(stream: Any, *, asked_for_usage: bool) -> AsyncIterator[bytes]:
    """Yield a chat or completion stream as events.

    Usage is always in it: in an event of its own where the client asked for that, else in the event that says why the
    answer ended, so that no client meets an event without choices that it did not ask for.
    """
    ending: dict[str, Any] | None = None
    async for chunk in stream:
        document = whole(chunk)
        choices = document.get("choices", [])
        for choice in choices:
            choice.setdefault("finish_reason", None)
        if "usage" in document and not any(_says_something(choice) for choice in choices):
            document["choices"] = []
            if ending is not None and not asked_for_usage:
                ending["usage"] = document["usage"]
                continue
        if ending is not None:
            yield _event(ending)
            ending = None
        if any(choice["finish_reason"] for choice in choices):
            ending = document
        else:
            yield _event(document)
    if ending is not None:
        yield _event(ending)
    yield DONE


def _says_something(choice: dict[str, Any]) -> bool:
    return bool(choice.get("delta") or choice.get("text") or choice["finish_reason"])


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(document) + b"\n\n"


async def messages_events(stream: Any, *, asked_for_usage: bool) -> AsyncIterator[bytes]:
    """Yield a messages stream; LiteLLM gives it as bytes.

    Raises:
        StreamFailedError: LiteLLM has put an error of its own into it.
    """
    del asked_for_usage
    async for chunk in stream:
        event = chunk if isinstance(chunk, bytes) else str(chunk).encode()
        if event.startswith(_ERROR_EVENT):
            _refuse_library_words(event.removeprefix(_ERROR_EVENT))
        yield event


def _refuse_library_words(data: bytes) -> None:
    try:
        error = orjson.loads(data)["error"]
        words = str(error["message"])
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return
    if words.startswith(_LIBRARY):
        raise StreamFailedError(error.get("type"), words)


async def responses_events(stream: Any, *, asked_for_usage: bool) -> AsyncIterator[bytes]:
    """Yield a responses stream as named events, numbered as they come: LiteLLM numbers only some."""
    del asked_for_usage
    number = 0
    async for item in stream:
        document = whole(item)
        document["sequence_number"] = number
        number += 1
        yield b"event: " + str(document["type"]).encode() + b"\ndata: " + orjson.dumps(document) + b"\n\n"


EventsOf = Callable[..., AsyncIterator[bytes]]
ErrorEvent = Callable[[Failure, int], bytes]
