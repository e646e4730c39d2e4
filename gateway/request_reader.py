"""RequestReader: what a connection's parser (llhttp) tells of the request that is arriving.

A module of its own, without a base class, so that it can be compiled: the parser calls it a dozen times a request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from gateway.exchange import Exchange
    from gateway.http_protocol import GuardedProtocol

_MAX_FRAMING_BYTES: Final = 1_048_576
"""Bytes of a body's framing (chunk sizes, their extensions, trailers) that are read whatever the body."""

_MAX_FRAMING_FACTOR: Final = 16
"""And of a body's own size: chunks of one byte need six."""

_MAX_SILENT_BYTES: Final = 524_288
"""Bytes of framing without a byte of body: two reads. One trailer that goes on and on is copied with every read."""


class RequestReader:
    """Collects a request's head within its bounds, and hands its body to whom it is for.

    Args:
        protocol: Told of a complete head, and given the bodies that no exchange takes.
        max_headers: Most headers of a request.
        max_header_bytes: Most bytes of a head.

    Attributes:
        in_head: Whether a head is arriving, or awaited.
        began: Whether it began in what was read last.
        head_bytes: Bytes of its parts so far.
        too_large: Whether it was refused for its size.
        url: Its target.
        headers: Its headers so far, names in lower case.
        expects_continue: Whether the client waits for `100 Continue`.
        exchange: Who takes its body; set by the protocol when the head is complete.
    """

    __slots__ = (
        "_body_bytes", "_max_header_bytes", "_max_headers", "_protocol", "_read_bytes", "_silent_bytes", "_wire_bytes",
        "began", "exchange", "expects_continue", "head_bytes", "headers", "in_head", "too_large", "url",
    )  # fmt: skip

    def __init__(self, protocol: GuardedProtocol, *, max_headers: int, max_header_bytes: int) -> None:
        self._protocol = protocol
        self._max_headers = max_headers
        self._max_header_bytes = max_header_bytes
        self.in_head = True
        self.began = False
        self.head_bytes = self._read_bytes = 0
        self._wire_bytes = self._body_bytes = self._silent_bytes = 0
        self.too_large = False
        self.url = b""
        self.headers: list[tuple[bytes, bytes]] = []
        self.expects_continue = False
        self.exchange: Exchange | None = None

    def on_message_begin(self) -> None:
        """Begin a head."""
        self.in_head = self.began = True
        self.url = b""
        self.headers = []
        self.expects_continue = False
        self.exchange = None

    def is_head_too_long(self, read_bytes: int) -> bool:
        """Count what was read of a head that has not ended: a part that has not ended, either, is not known yet.

        What was read when it began does not count: other requests may stand before it.
        """
        if not self.began:
            self._read_bytes += read_bytes
        self.too_large = self._read_bytes > self._max_header_bytes
        return self.too_large

    def is_framing_too_long(self, read_bytes: int) -> bool:
        """Count what was read of a body, and compare it with the body."""
        self._wire_bytes += read_bytes
        self._silent_bytes += read_bytes
        return (
            self._silent_bytes > _MAX_SILENT_BYTES
            or self._wire_bytes > _MAX_FRAMING_BYTES + _MAX_FRAMING_FACTOR * self._body_bytes
        )

    def _add(self, size: int) -> None:
        self.head_bytes += size
        if self.head_bytes > self._max_header_bytes or len(self.headers) > self._max_headers:
            self.too_large = True
            raise ValueError("head too large")

    def on_url(self, url: bytes) -> None:
        """Take a part of the target."""
        self.url += url
        self._add(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; trailers come the same way, and are dropped."""
        if not self.in_head:
            return
        name = name.lower()
        self.headers.append((name, value))
        self._add(len(name) + len(value))
        if name == b"expect" and value.lower() == b"100-continue":
            self.expects_continue = True

    def on_headers_complete(self) -> None:
        """End the head."""
        self.in_head = False
        self.head_bytes = self._read_bytes = 0
        self._wire_bytes = self._body_bytes = self._silent_bytes = 0
        self._protocol.on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Hand on a piece of the body."""
        self._body_bytes += len(body)
        self._silent_bytes = 0
        exchange = self.exchange
        if exchange is None:
            self._protocol.on_body(body)
        elif not exchange.response_complete:
            exchange.feed(body)

    def on_message_complete(self) -> None:
        """End the body."""
        exchange = self.exchange
        if exchange is None:
            self._protocol.on_message_complete()
        elif not exchange.response_complete:
            exchange.fed()
