from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.adapter import shapes
from gateway.adapter.failures import Failure, Redactor, StreamFailedError, failure_of_stream
from gateway.api.formats import CHAT, MESSAGES, RESPONSES

USAGE = {"prompt_tokens": 4, "completion_tokens": 2, "total_tokens": 6}


def chunk(delta: dict[str, Any], reason: str | None = None, **extra: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta} | ({"finish_reason": reason} if reason else {})
    return {"id": "x", "object": "chat.completion.chunk", "choices": [choice], **extra}


async def stream(*items: Any) -> AsyncIterator[Any]:
    for item in items:
        yield item


async def events(*items: Any, asked: bool) -> list[Any]:
    out = [event async for event in shapes.choice_events(stream(*items), asked_for_usage=asked)]
    assert out.pop() == shapes.DONE
    return [orjson.loads(event.removeprefix(b"data: ")) for event in out]


CHUNKS = (chunk({"role": "assistant", "content": "a"}), chunk({}, "stop"), chunk({}, usage=USAGE | {"cost": 0.1}))


async def test_usage_is_an_event_of_its_own_where_asked_for() -> None:
    """As OpenAI does it: no choices, and LiteLLM's own figures are not passed on."""
    _, end, usage = await events(*CHUNKS, asked=True)
    assert end["choices"][0]["finish_reason"] == "stop"
    assert "usage" not in end
    assert (usage["choices"], usage["usage"]) == ([], USAGE)


async def test_usage_comes_with_the_end_where_not_asked_for() -> None:
    """No client meets an event without choices that it did not ask for, and the gateway still learns the tokens."""
    first, end = await events(*CHUNKS, asked=False)
    assert first["choices"][0] == {"index": 0, "delta": {"role": "assistant", "content": "a"}, "finish_reason": None}
    assert (end["choices"][0]["finish_reason"], end["usage"]) == ("stop", USAGE)
    assert all(document["choices"] for document in (first, end))


async def test_usage_in_the_last_piece_of_content_stays_there() -> None:
    """An event that says something keeps its choices."""
    (only,) = await events(chunk({"content": "a"}, "stop", usage=USAGE), asked=True)
    assert only["choices"][0]["delta"] == {"content": "a"}
    assert await events(asked=False) == []


async def test_responses_are_numbered_throughout() -> None:
    """LiteLLM numbers some events of a translated stream; clients get every number once."""
    items = [{"type": "response.created", "sequence_number": 0}, {"type": "response.output_text.delta", "delta": "a"},
             {"type": "response.completed", "response": {"usage": {"input_tokens": 1, "cost": 3}}}]  # fmt: skip
    out = [event async for event in shapes.responses_events(stream(*items), asked_for_usage=False)]
    assert [event.partition(b"\n")[0] for event in out] == [
        b"event: response.created", b"event: response.output_text.delta", b"event: response.completed",
    ]  # fmt: skip
    documents = [orjson.loads(event.partition(b"data: ")[2]) for event in out]
    assert [document["sequence_number"] for document in documents] == [0, 1, 2]
    assert documents[2]["response"]["usage"] == {"input_tokens": 1}


def test_error_events_are_read_as_failures_by_the_gateway() -> None:
    """What the adapter writes at the end of a broken stream, the gateway's meters take for a failure."""
    failure = Failure(529, "overloaded", "Overloaded")
    for wire, event in (
        (CHAT, shapes.plain_error_event(failure, 3)),
        (MESSAGES, shapes.messages_error_event(failure, 3)),
        (RESPONSES, shapes.responses_error_event(failure, 3)),
    ):
        meter = wire.meter()
        meter.count(event, 1.0)
        meter.settle()
        assert meter.failed
        assert not meter.done


def error_event(kind: str, words: str) -> bytes:
    error = {"type": "error", "error": {"type": kind, "message": words}}
    return b"event: error\ndata: " + orjson.dumps(error) + b"\n\n"


async def test_an_error_that_litellm_made_is_told_in_the_providers_words() -> None:
    """What the provider said is in LiteLLM's words; where it said nothing, ours are told. Secrets are taken out."""
    words = 'litellm.MidStreamFallbackError: litellm.RateLimitError: x - throttlingException {"message":"Too much k-1"}'
    with pytest.raises(StreamFailedError) as failed:
        [
            event
            async for event in shapes.messages_events(
                stream(error_event("rate_limit_error", words)), asked_for_usage=False
            )
        ]
    failure = failure_of_stream(failed.value, Redactor(["k-1"]))
    assert (failure.status, failure.code, failure.message) == (429, "rate_limit_exceeded", "Too much ***")
    silent = failure_of_stream(StreamFailedError("api_error", "litellm.APIConnectionError: broken pipe"), Redactor([]))
    assert silent.status == 502
    assert "broken pipe" not in silent.message


@pytest.mark.parametrize("event", [error_event("overloaded_error", "Overloaded"), b"event: error\ndata: {\n\n"])
async def test_a_providers_own_error_event_is_passed_on(event: bytes) -> None:
    """Whatever it says."""
    events = [one async for one in shapes.messages_events(stream(event), asked_for_usage=False)]
    assert events == [event]
