"""Event streams: cut at whole events, and measured while they pass.

What the client gets is what the engine sent, byte for byte, but only whole events are passed on: when an engine fails
in the middle of one, the error event that follows stands by itself and a client can parse everything it got.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import orjson

from gateway.errors import UpstreamProtocolError
from gateway.upstream.usage import Usage

_BATCH_BYTES: Final = 16_384
"""Events held before they are looked at: searching is fast by the kilobyte and slow by the call."""

_TAIL_READS: Final = 4
"""Reads at a stream's end that are not only text: why it ended, usage, the end's mark, and an end of the content."""

_BLANK_LINES: Final = (b"\n\n", b"\r\n\r\n", b"\r\r")
"""What ends an event: an empty line, whose end is LF, CRLF or CR as that of the line before it."""


class EventFramer:
    """Cuts a stream of bytes at ends of events (a blank line, with LF, CRLF or CR).

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
        end = _end(joined, b"\n\n", start)
        if b"\r" in joined:
            end = max(_end(joined, mark, start) for mark in _BLANK_LINES)
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


class StreamMeter(ABC):
    """Learns from passing events: times of content, tokens, why it ended, and whether the engine reported an error.

    `content_chunks` counts choices' pieces with text, tool calls or reasoning. It stands in for output tokens where the
    client did not ask for usage: exact for an engine that sends one token an event, a lower bound for one that joins
    tokens under load. `done` means that the format's own mark of the end has come.

    A subclass a wire format: `TEXT_KEYS` are bytes that stand once in each event of one piece of text, as compact JSON,
    each with the bytes that the same event has when its text is empty; `END_KEY` are bytes of an event of text that
    also says why the answer ended, None where there is no such event. A quote inside a JSON string is escaped, so
    these bytes never occur in a text: counting them is exact.
    """

    TEXT_KEYS: ClassVar[tuple[tuple[bytes, bytes], ...]]
    END_KEY: ClassVar[bytes | None] = None

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
        self.usage: Usage | None = None
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
        keys = self._fast
        if not held or keys is None:
            return
        for count in (len(held), len(held) - _TAIL_READS):
            if count > 0 and self._count_fast(b"".join([events for events, _ in held[:count]]), keys):
                self.last_content = next(now for events, now in reversed(held[:count]) if keys[0] in events)
                held = held[count:]
                break
        for events, now in held:
            self._parse(events, now)

    def _parse(self, events: bytes, now: float) -> None:
        before = self.content_chunks
        for line in events.splitlines():
            if line.startswith(b"data:"):
                self._line(line[5:].strip())
        if self.content_chunks > before:
            if self.first_content is None:
                self.first_content = now
            self.last_content = now
            if self._fast is None:
                self._fast = next((keys for keys in self.TEXT_KEYS if keys[0] in events), None)

    def _count_fast(self, events: bytes, keys: tuple[bytes, bytes]) -> bool:
        """Count without parsing; True if every event is one piece of text and nothing else that matters.

        An event with an error, tool calls or the usage has no text, and neither has the mark of the end, so there are
        fewer texts than events; a text that looks like an event makes more events than texts. Either way everything is
        parsed.
        """
        found = events.count(keys[0])
        if not found or found != events.count(b"data: ") or keys[1] in events:
            return False
        if self.END_KEY is not None and self.END_KEY in events:
            return False
        self.content_chunks += found
        return True

    def _line(self, payload: bytes) -> None:
        try:
            event = orjson.loads(payload)
        except orjson.JSONDecodeError:
            return
        if isinstance(event, dict):
            self._event(event)

    @abstractmethod
    def _event(self, event: dict[str, Any]) -> None:
        """Take account of one event's document."""
