"""One HTTP/1.1 client connection to an engine: a protocol over llhttp (httptools), one exchange at a time.

Bytes are parsed as they come; a waiting caller is woken once per read from the socket, and only when there is something
it asked for: an answer that is not a stream wakes it once, when it is complete. Time limits are plain numbers here,
which `UpstreamPool` looks at. ADR 0002 says why this is written by hand and what it is tested on.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

import httptools

from gateway.errors import (
    GatewayError,
    StaleConnectionError,
    UpstreamProtocolError,
    UpstreamResetError,
    UpstreamTimeoutError,
)
from gateway.pieces import joined
from gateway.upstream.answer import AnswerParser

if TYPE_CHECKING:
    from gateway.upstream.origin import Origin
    from serving.contracts.gateway_policy import Timeouts

MAX_SILENT_BYTES: Final = 65_536
"""Bytes an engine may send without a byte of body: bounds heads, trailers, and chunk extensions."""


class Connection(AnswerParser):
    """A connection and the exchange that runs on it.

    It is an `asyncio.Protocol` by its methods and not by that base, with which it could not be compiled. After `start`,
    await `answered`, then look at `status`, `headers` and `streaming`, and `read` until `b""`.
    """

    __slots__ = (
        "_between",
        "_loop",
        "_on_closed_idle",
        "_waiter",
        "exchanges",
        "idle_since",
        "origin",
        "running",
    )

    def __init__(
        self,
        origin: Origin,
        loop: asyncio.AbstractEventLoop,
        *,
        max_answer_bytes: int,
        on_closed_idle: Callable[[Connection], None],
    ) -> None:
        super().__init__(max_answer_bytes)
        self.origin = origin
        self.running = False
        self.exchanges = 0
        self.idle_since = 0.0
        self._between = 0.0
        self._loop = loop
        self._on_closed_idle = on_closed_idle
        self._waiter: asyncio.Future[None] | None = None

    def start(
        self,
        request: bytes,
        timeouts: Timeouts,
        deadline: float = math.inf,
    ) -> None:
        """Send a request's bytes and begin its time limits.

        Args:
            request: The whole request, head and body.
            timeouts: Limits in seconds; connecting is not part of this.
            deadline: When the answer has to be whole, by the loop's clock.
        """
        assert self.transport is not None
        assert not self.running
        self._reset()
        self.running = True
        self.exchanges += 1
        now = self._loop.time()
        self._total = min(now + timeouts.total_seconds, deadline)
        self._between = timeouts.between_bytes_seconds
        self.deadline = min(now + timeouts.first_byte_seconds, self._total)
        self.transport.write(request)

    async def answered(self) -> None:
        """Wait for the whole answer, or of an event stream for the first bytes of its body.

        Raises:
            StaleConnectionError: A reused connection ended before a byte of answer.
            UpstreamError: The engine or its answer failed, or a time limit passed.
        """
        await self._readable()
        if self._error is not None and not (self.streaming and self._chunks):
            raise self._error

    async def read(self) -> bytes:
        """Return what has come of the body since the last call, waiting for some; `b""` at its end.

        Raises:
            UpstreamError: As `answered`, after everything that came before the failure was returned.
        """
        if not self._chunks:
            await self._readable()
        if self._chunks:
            data = joined(self._chunks)
            self._chunks = []
            self._buffered = 0
            if self._paused:
                self._resume()
            return data
        if self._error is not None:
            raise self._error
        return b""

    async def _readable(self) -> None:
        if self.complete or self._error is not None or (self.streaming and self._chunks):
            return
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def fail(self, error: GatewayError) -> None:
        """End the running exchange with an error and the connection with it."""
        if self.running and self._error is None and not self.complete:
            self._error = error
        self.abort()
        self._wake()

    def expire(self, now: float) -> None:
        """End the exchange because its deadline has passed, saying which limit it was."""
        if now >= self._total:
            what = "the whole answer"
        elif not self._got_body:
            what = "the first byte of an answer"
        else:
            what = "the next byte of its answer"
        self.fail(UpstreamTimeoutError(f"expected the engine to send {what} in time; it did not: try again later"))

    def abort(self) -> None:
        """Close at once, whatever is under way: the engine sees its client leave."""
        self.closed = True
        if self.transport is not None:
            self.transport.abort()

    def _wake(self) -> None:
        waiter = self._waiter
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def _resume(self) -> None:
        self._paused = False
        self.deadline = min(self._loop.time() + self._between, self._total)
        if self.transport is not None and not self.transport.is_closing():
            self.transport.resume_reading()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)

    def pause_writing(self) -> None:
        """Do nothing: a request is written at once, and bounded."""

    def resume_writing(self) -> None:
        """Do nothing, as `pause_writing`."""

    def eof_received(self) -> None:
        """Do nothing: the transport closes, and `connection_lost` says what that means."""

    def data_received(self, data: bytes) -> None:
        """Parse what came and wake the caller if it waits for that."""
        if not self.running or self.complete:
            self.reusable = False  # nothing was asked: whatever this is, the next answer cannot be trusted
            self.abort()
            return
        self._silent_bytes += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as exc:
            self.fail(UpstreamProtocolError(f"expected an HTTP/1.1 answer; got something else ({type(exc).__name__})"))
            return
        if self._silent_bytes > MAX_SILENT_BYTES and not self.complete:
            self.fail(UpstreamProtocolError(f"expected a body within {MAX_SILENT_BYTES} bytes of head; got none"))
        elif self.complete or self._error is not None:
            self._wake()
        elif self._got_body and not self._paused:
            self.deadline = min(self._loop.time() + self._between, self._total)
            if self.streaming and self._chunks:
                self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Say what the end of the connection means for the exchange."""
        self.closed = True
        if not self.running:
            self._on_closed_idle(self)
            return
        if self.complete or self._error is not None:
            return
        if self._head_done and not self.framed and exc is None:
            self.complete = True  # RFC 9112, 6.3, rule 8: the end of the connection is the end of the body
        elif not self._silent_bytes and not self._head_done and self.exchanges > 1:
            self._error = StaleConnectionError("the engine closed an idle connection")
        else:
            where = "in the middle of its answer" if self._head_done else "before it answered"
            self._error = UpstreamResetError(f"expected a whole answer; the engine closed the connection {where}")
        self._wake()
