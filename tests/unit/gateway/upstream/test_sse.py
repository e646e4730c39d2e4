from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.api.formats.anthropic_messages import MessagesMeter
from gateway.api.formats.openai_chat import ChatMeter
from gateway.api.formats.openai_responses import ResponsesMeter
from gateway.errors import UpstreamProtocolError
from gateway.upstream.sse import EventFramer, StreamMeter
from gateway.upstream.usage import Usage
from tests.fakes.anthropic_provider import AnthropicProvider
from tests.fakes.fake_upstream import event
from tests.fakes.openai_provider import OpenAIProvider

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
CHAT = (
    event("") + event("Hello") + event(' "quoted" \n\n ') + event("한국")
    + event(None, choice={"finish_reason": "stop"})
    + f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\n" + ": comment\n\ndata: [DONE]\n\n"
).encode()  # fmt: skip
ASKED = {"model": "m", "stream": True, "max_tokens": 9}
MESSAGES = "".join(AnthropicProvider()._events(ASKED)).encode()
RESPONSES = "".join(OpenAIProvider()._response(ASKED).events).encode()
STREAMS: dict[str, tuple[bytes, type[StreamMeter], tuple[object, ...]]] = {
    "chat": (CHAT, ChatMeter, (3, "stop", Usage(7, 2, 3), True, False)),
    "messages": (MESSAGES, MessagesMeter, (3, "stop", Usage(13, 4, 3), True, False)),
    "responses": (RESPONSES, ResponsesMeter, (3, "stop", Usage(9, 4, 3), True, False)),
}


def relay(pieces: list[bytes], meter: StreamMeter) -> tuple[list[bytes], tuple[object, ...]]:
    framer = EventFramer(65_536)
    out = []
    for at, piece in enumerate(pieces):
        events = framer.feed(piece)
        meter.count(events, float(at))
        out.append(events)
    out.append(framer.rest())
    meter.settle()
    return out, (meter.content_chunks, meter.finish_reason, meter.usage, meter.done, meter.failed)


@pytest.mark.parametrize("ends", ["\n", "\r\n", "\r"])
@pytest.mark.parametrize("name", STREAMS)
def test_every_split_in_two_passes_every_byte_in_whole_events(name: str, ends: str) -> None:
    """Wherever a stream is cut in two, only whole events pass, all bytes pass, and the same is learned."""
    stream, meter, expected = STREAMS[name]
    stream = stream.replace(b"\n", ends.encode())
    blank = (ends * 2).encode()
    for at in range(0, len(stream) + 1, 1 if name == "chat" else 7):
        out, learned = relay([stream[:at], stream[at:]], meter())
        assert b"".join(out) == stream
        assert all(not piece or piece.endswith(blank) for piece in out)
        assert learned == expected


@pytest.mark.parametrize("name", STREAMS)
def test_one_byte_at_a_time_is_the_same(name: str) -> None:
    """A stream fed byte by byte passes unchanged, and the same is learned."""
    stream, meter, expected = STREAMS[name]
    out, learned = relay([stream[at : at + 1] for at in range(len(stream))], meter())
    assert b"".join(out) == stream
    assert learned == expected


@given(st.sampled_from(sorted(STREAMS)), st.lists(st.integers(min_value=0, max_value=4_000), max_size=12))
def test_any_splits_are_the_same(name: str, cuts: list[int]) -> None:
    """However a stream is cut into pieces, it passes unchanged, and the same is learned."""
    stream, meter, expected = STREAMS[name]
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    out, learned = relay([stream[a:b] for a, b in pairwise(edges)], meter())
    assert b"".join(out) == stream
    assert learned == expected


def message_text(text: str) -> str:
    """One text delta of a message, as vLLM writes it."""
    delta = {"type": "content_block_delta", "delta": {"type": "text_delta", "text": text}, "index": 0}
    return f"event: content_block_delta\ndata: {json.dumps(delta, separators=(',', ':'))}\n\n"


def response_text(text: str) -> str:
    """One text delta of a response, as vLLM writes it."""
    delta = {"content_index": 0, "delta": text, "sequence_number": 5, "type": "response.output_text.delta"}
    return f"event: response.output_text.delta\ndata: {json.dumps(delta, separators=(',', ':'))}\n\n"


@pytest.mark.parametrize(
    ("meter", "make"), [(ChatMeter, event), (MessagesMeter, message_text), (ResponsesMeter, response_text)]
)
@given(texts=st.lists(st.text(), max_size=8), size=st.integers(min_value=1, max_value=7))
def test_counting_bytes_is_the_same_as_parsing(
    meter: type[StreamMeter], make: Callable[[str], str], texts: list[str], size: int
) -> None:
    """The fast count agrees with parsing every event and with the number of texts that are not empty."""
    events = [make(text).encode() for text in texts]
    exact = meter()
    for one in events:
        exact._fast = None  # parses every event
        exact.count(one, 0.0)
    counted = meter()
    for at in range(0, len(events), size):
        counted.count(b"".join(events[at : at + size]), 0.0)
    counted.settle()
    assert counted.content_chunks == exact.content_chunks == sum(map(bool, texts))


@pytest.mark.parametrize(
    ("meter", "make", "stream"),
    [(ChatMeter, event, CHAT), (MessagesMeter, message_text, MESSAGES), (ResponsesMeter, response_text, RESPONSES)],
)
def test_the_text_of_a_stream_is_not_parsed(
    monkeypatch: pytest.MonkeyPatch, meter: type[StreamMeter], make: Callable[[str], str], stream: bytes
) -> None:
    """Of a long stream only its first text and its last reads are parsed: that is what keeps it cheap."""
    parsed: list[bytes] = []
    line = meter._line
    monkeypatch.setattr(meter, "_line", lambda self, payload: (parsed.append(payload), line(self, payload)))
    one = meter()
    for at in range(300):
        one.count(make(f"word{at} ").encode(), float(at))
    last = stream.rstrip().rpartition(b"\n\n")[2] + b"\n\n"
    one.count(last, 300.0)
    one.settle()
    assert (one.content_chunks, one.last_content, one.done) == (300, 299.0, True)
    assert len(parsed) <= 8


@pytest.mark.parametrize(
    ("document", "chunks", "failed"),
    [
        ({"choices": [{"delta": {"tool_calls": [{"index": 0}]}}]}, 1, False),
        ({"choices": [{"delta": {"reasoning_content": "hm"}}]}, 1, False),
        ({"choices": [{"delta": {"role": "assistant", "content": None}}]}, 0, False),
        ({"choices": [{"text": "a"}, {"text": "b"}, {"text": ""}]}, 2, False),
        ({"error": {"message": "broken"}}, 0, True),
        ({"choices": "nonsense", "usage": "none"}, 0, False),
        ([], 0, False),
        (7, 0, False),
    ],
)
def test_kinds_of_events(document: object, chunks: int, failed: bool) -> None:
    """Tool calls, reasoning and text count as content, an error as a failure, and nonsense as nothing."""
    meter = ChatMeter()
    meter.count(f"data: {json.dumps(document)}\n\n".encode(), 0.0)
    assert (meter.content_chunks, meter.failed) == (chunks, failed)


def test_tool_calls_after_text_are_counted_too() -> None:
    """A tool call in one batch with text counts, and its time is that of the last content."""
    meter = ChatMeter()
    meter.count(event("a").encode(), 1.0)
    meter.count((event("b") + event(None, choice={"delta": {"tool_calls": [{}]}})).encode(), 3.0)
    meter.count(b"data: [DONE]\n\n", 9.0)
    meter.settle()
    assert (meter.content_chunks, meter.first_content, meter.last_content) == (3, 1.0, 3.0)


def test_times_are_those_of_the_first_and_last_content() -> None:
    """Over several batches, first and last content have their own times, whatever empty event follows."""
    meter = ChatMeter()
    for at in range(400):  # several batches
        meter.count(event("word" * 10).encode(), float(at))
    meter.count(event(None).encode(), 1000.0)
    meter.settle()
    assert (meter.content_chunks, meter.first_content, meter.last_content) == (400, 0.0, 399.0)


def test_a_text_that_also_says_why_the_answer_ended_is_read() -> None:
    """Engines may say why they stopped in the event of the last text, in one batch with others."""
    meter = ChatMeter()
    for text in "abc":
        meter.count(event(text).encode(), 1.0)
    meter.count(event("d", choice={"finish_reason": "length", "delta": {"content": "d"}}).encode(), 2.0)
    meter.settle()
    assert (meter.content_chunks, meter.finish_reason, meter.last_content) == (4, "length", 2.0)


def test_an_error_after_text_is_seen() -> None:
    """An error in one batch with text marks the stream as failed."""
    meter = ChatMeter()
    meter.count(event("a").encode(), 1.0)
    meter.count((event("b") + 'data: {"error":{"message":"x"}}\n\n').encode(), 2.0)
    meter.settle()
    assert meter.failed


def test_an_endless_event_is_refused() -> None:
    """An event that outgrows the limit is a protocol error that states it."""
    framer = EventFramer(4096)
    framer.feed(b"data: " + b"x" * 4000)
    with pytest.raises(UpstreamProtocolError, match="4096 bytes"):
        framer.feed(b"x" * 100)
