from __future__ import annotations

import json
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.errors import UpstreamProtocolError
from gateway.upstream.sse import EventFramer, StreamMeter
from tests.fakes.fake_upstream import event

USAGE = {"prompt_tokens": 7, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
STREAM = (
    event("") + event("Hello") + event(' "quoted" \n\n ') + event("한국")
    + event(None, choice={"finish_reason": "stop"})
    + f"data: {json.dumps({'choices': [], 'usage': USAGE})}\n\n" + ": comment\n\ndata: [DONE]\n\n"
).encode()  # fmt: skip


def relay(pieces: list[bytes]) -> tuple[list[bytes], StreamMeter]:
    framer, meter = EventFramer(65_536), StreamMeter()
    out = []
    for at, piece in enumerate(pieces):
        events = framer.feed(piece)
        meter.count(events, float(at))
        out.append(events)
    out.append(framer.rest())
    meter.settle()
    return out, meter


def learned(meter: StreamMeter) -> tuple[object, ...]:
    return meter.content_chunks, meter.finish_reason, meter.usage, meter.done, meter.failed


EXPECTED = (3, "stop", USAGE, True, False)


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_every_split_in_two_passes_every_byte_in_whole_events(ends: str) -> None:
    """Wherever a stream is cut in two, only whole events pass, all bytes pass, and the same is learned."""
    stream = STREAM.replace(b"\n", ends.encode())
    blank = (ends * 2).encode()
    for at in range(len(stream) + 1):
        out, meter = relay([stream[:at], stream[at:]])
        assert b"".join(out) == stream
        assert all(not piece or piece.endswith(blank) for piece in out)
        assert learned(meter) == EXPECTED


def test_one_byte_at_a_time_is_the_same() -> None:
    """A stream fed byte by byte passes unchanged, and the same is learned."""
    out, meter = relay([STREAM[at : at + 1] for at in range(len(STREAM))])
    assert b"".join(out) == STREAM
    assert learned(meter) == EXPECTED


@given(st.lists(st.integers(min_value=0, max_value=len(STREAM)), max_size=12))
def test_any_splits_are_the_same(cuts: list[int]) -> None:
    """However a stream is cut into pieces, it passes unchanged, and the same is learned."""
    edges = [0, *sorted(cuts), len(STREAM)]
    out, meter = relay([STREAM[a:b] for a, b in pairwise(edges)])
    assert b"".join(out) == STREAM
    assert learned(meter) == EXPECTED


@given(st.lists(st.text(), max_size=8), st.integers(min_value=1, max_value=7))
def test_counting_bytes_is_the_same_as_parsing(texts: list[str], size: int) -> None:
    """The fast count agrees with parsing every event and with the number of texts that are not empty."""
    events = [event(text).encode() for text in texts]
    exact = StreamMeter()
    for one in events:
        exact._fast = None  # parses every event
        exact.count(one, 0.0)
    counted = StreamMeter()
    for at in range(0, len(events), size):
        counted.count(b"".join(events[at : at + size]), 0.0)
    counted.settle()
    assert counted.content_chunks == exact.content_chunks == sum(map(bool, texts))


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
    meter = StreamMeter()
    meter.count(f"data: {json.dumps(document)}\n\n".encode(), 0.0)
    assert (meter.content_chunks, meter.failed) == (chunks, failed)


def test_tool_calls_after_text_are_counted_too() -> None:
    """A tool call in one batch with text counts, and its time is that of the last content."""
    meter = StreamMeter()
    meter.count(event("a").encode(), 1.0)
    meter.count((event("b") + event(None, choice={"delta": {"tool_calls": [{}]}})).encode(), 3.0)
    meter.count(b"data: [DONE]\n\n", 9.0)
    meter.settle()
    assert (meter.content_chunks, meter.first_content, meter.last_content) == (3, 1.0, 3.0)


def test_times_are_those_of_the_first_and_last_content() -> None:
    """Over several batches, first and last content have their own times, whatever empty event follows."""
    meter = StreamMeter()
    for at in range(400):  # several batches
        meter.count(event("word" * 10).encode(), float(at))
    meter.count(event(None).encode(), 1000.0)
    meter.settle()
    assert (meter.content_chunks, meter.first_content, meter.last_content) == (400, 0.0, 399.0)


def test_an_error_after_text_is_seen() -> None:
    """An error in one batch with text marks the stream as failed."""
    meter = StreamMeter()
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
