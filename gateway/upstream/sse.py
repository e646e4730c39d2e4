"""Event streams: cut at whole events, and measured while they pass.

What the client gets is what the engine sent, byte for byte, but only whole events are passed on: when an engine fails
in the middle of one, the error event that follows stands by itself and a client can parse everything it got.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from gateway.errors import UpstreamProtocolError

_DONE: Final = b"[DONE]"
_FAST_KEYS: Final = ((b'"content":"', b'"content":""'), (b'"text":"', b'"text":""'))
"""Keys that hold an event's text, as compact JSON, and the same with no text. A quote inside a JSON string is escaped,
so these bytes never occur in a text: counting them is exact."""

_BATCH_BYTES: Final = 16_384
"""Events held before they are looked at: searching is fast by the kilobyte and slow by the call."""


class EventFramer:
    """Cuts a stream of bytes at ends of events (a blank line, with LF or CRLF).

    Args:
        max_event_bytes: Largest event held while its end has not come.
    """

    __slots__ = ("_max_event_bytes", "_tail")

    def __init__(self, max_event_bytes: int) -> None:
        self._max_event_bytes = max_event_bytes
        self._tail = b""

    def feed(self, data: bytes) -> bytes:
        """Return all whole events so far, `b""` if there is none.

        Raises:
            UpstreamProtocolError: An event is larger than the bound.
        """
        if not self._tail and data.endswith(b"\n\n"):
            return data
        joined = self._tail + data if self._tail else data
        start = max(0, len(self._tail) - 3)  # an end of event may lie across the seam
        end = max(_end(joined, b"\n\n", start), _end(joined, b"\r\n\r\n", start))
        self._tail = joined[end:]
        if len(self._tail) > self._max_event_bytes:
            self._tail = b""
            raise UpstreamProtocolError(f"expected events of at most {self._max_event_bytes} bytes; got a longer one")
        return joined[:end]

    def rest(self) -> bytes:
        """Return what came behind the last whole event, once the stream has ended as it should."""
        rest, self._tail = self._tail, b""
        return rest


def _end(data: bytes, mark: bytes, start: int) -> int:
    at = data.rfind(mark, start)
    return 0 if at < 0 else at + len(mark)


class StreamMeter:
    """Learns from passing events: times of content, tokens, why it ended, and whether the engine reported an error.

    `content_chunks` counts choices' pieces with text, tool calls or reasoning. It stands in for output tokens where the
    client did not ask for usage: exact for an engine that sends one token an event, a lower bound for one that joins
    tokens under load.
    """

    __slots__ = (
        "_fast",
        "_held",
        "_held_bytes",
        "content_chunks",
        "done",
        "failed",
        "finish_reason",
        "first_content",
        "last_content",
        "usage",
    )

    def __init__(self) -> None:
        self.content_chunks = 0
        self.first_content: float | None = None
        self.last_content = 0.0
        self.usage: dict[str, Any] | None = None
        self.finish_reason: str | None = None
        self.done = False
        self.failed = False
        self._fast: tuple[bytes, bytes] | None = None
        self._held: list[tuple[bytes, float]] = []
        self._held_bytes = 0

    def count(self, events: bytes, now: float) -> None:
        """Take account of whole events that came at `now` (monotonic seconds).

        Once the stream's form is known, events are held and looked at many at a time; `settle` makes the figures final.
        """
        if self._fast is None:
            self._parse(events, now)
            return
        self._held.append((events, now))
        self._held_bytes += len(events)
        if self._held_bytes > _BATCH_BYTES:
            self.settle()

    def settle(self) -> None:
        """Look at what is held; before this the figures are those of some moments ago."""
        held, self._held, self._held_bytes = self._held, [], 0
        if not held or self._fast is None:
            return
        key = self._fast[0]
        if self._count_fast(b"".join([events for events, _ in held]), self._fast):
            self.last_content = next(now for events, now in reversed(held) if key in events)
            return
        for events, now in held:
            self._parse(events, now)

    def _parse(self, events: bytes, now: float) -> None:
        before = self.content_chunks
        for line in events.split(b"\n"):
            if line.startswith(b"data:"):
                self._event(line)
        if self.content_chunks > before:
            if self.first_content is None:
                self.first_content = now
            self.last_content = now
            if self._fast is None:
                self._fast = next((keys for keys in _FAST_KEYS if keys[0] in events), None)

    def _count_fast(self, events: bytes, keys: tuple[bytes, bytes]) -> bool:
        """Count without parsing; True if every event is one piece of text and nothing else that matters.

        An event with an error, tool calls or the usage has no text, so there are fewer texts than events; a text that
        looks like an event makes more events than texts. Either way everything is parsed.
        """
        found = events.count(keys[0])
        if not found or found != events.count(b"data: {") or keys[1] in events or b'"finish_reason":"' in events:
            return False
        self.content_chunks += found
        return True

    def _event(self, line: bytes) -> None:
        payload = line[5:].strip()
        if payload == _DONE:
            self.done = True
            return
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return
        if not isinstance(event, dict):
            return
        if event.get("error"):
            self.failed = True
        if isinstance(event.get("usage"), dict):
            self.usage = event["usage"]
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
