"""One answer being parsed: llhttp's callbacks (httptools), and the bounds on what an engine may make us hold."""

from __future__ import annotations

import asyncio
from typing import Final

import httptools

from gateway.errors import GatewayError, UpstreamProtocolError
from gateway.pieces import gather

PAUSE_BYTES: Final = 262_144
"""Unread bytes of a stream above which the engine is not read from: one read of uvloop is at most this long."""

EVENT_STREAM: Final = b"text/event-stream"


class AnswerParser:
    """State of one answer, and the parser that fills it. `Connection` adds the socket and the waiting."""

    __slots__ = (
        "_buffered",
        "_chunks",
        "_error",
        "_got_body",
        "_head_done",
        "_parser",
        "_paused",
        "_silent_bytes",
        "_total",
        "closed",
        "complete",
        "content_type",
        "deadline",
        "framed",
        "headers",
        "max_answer_bytes",
        "reusable",
        "status",
        "streaming",
        "transport",
    )

    def __init__(self, max_answer_bytes: int) -> None:
        self.max_answer_bytes = max_answer_bytes
        self.transport: asyncio.Transport | None = None
        self.closed = False
        self.deadline = self._total = 0.0
        self._parser = httptools.HttpResponseParser(self)
        self._reset()

    def _reset(self) -> None:
        self.status = 0
        self.headers: list[tuple[bytes, bytes]] = []
        self.content_type = b""
        self.streaming = False
        self.framed = False
        self.complete = False
        self.reusable = False
        self._chunks: list[bytes | bytearray] = []
        self._buffered = 0
        self._error: GatewayError | None = None
        self._got_body = False
        self._head_done = False
        self._paused = False
        self._silent_bytes = 0

    def on_message_begin(self) -> None:
        """Notice an answer that nobody asked for behind the one that was."""
        if self.complete:
            self.reusable = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """Keep a header of the head; trailers are dropped."""
        if self._head_done:
            return
        name = name.lower()
        self.headers.append((name, value))
        if name == b"content-type":
            self.content_type = value
            self.streaming = value[: len(EVENT_STREAM)].lower() == EVENT_STREAM
        elif name in {b"content-length", b"transfer-encoding"}:
            self.framed = True
        elif name == b"content-encoding" and value.strip().lower() != b"identity":
            self._error = UpstreamProtocolError("expected an answer without content-encoding; none was asked for")

    def on_headers_complete(self) -> None:
        """Take the status; an interim answer (1xx) is forgotten when it is complete."""
        if self.complete:
            return
        self.status = self._parser.get_status_code()
        self._head_done = True

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, within bounds; a second answer's is nobody's."""
        if self.complete:
            return
        self._silent_bytes = 0
        self._got_body = True
        gather(self._chunks, body)
        self._buffered += len(body)
        if self._buffered <= PAUSE_BYTES:
            return
        if self.streaming:
            self._pause()
        elif self._buffered > self.max_answer_bytes and self._error is None:
            self._error = UpstreamProtocolError(
                f"expected an answer of at most {self.max_answer_bytes} bytes; got more: ask for fewer tokens"
            )
            self._chunks = []

    def _pause(self) -> None:
        if not self._paused and self.transport is not None and not self.transport.is_closing():
            self._paused = True
            self.deadline = self._total  # the client is slow, not the engine
            self.transport.pause_reading()

    def on_message_complete(self) -> None:
        """End the answer, or after an interim one begin again."""
        if self.complete:
            return
        if self.status < 200:
            self._head_done = False
            self.framed = False
            self.headers = []
            return
        self.complete = True
        self.reusable = self._error is None and not self.closed and self._parser.should_keep_alive()
