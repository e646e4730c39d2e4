"""Exchange: one request on a hot path and its answer, straight on the connection.

uvicorn serves every other path by ASGI. A hot path spares itself ASGI's scope, events and messages, which cost as much
as all policies together (ADR 0002): `http_protocol` makes an `Exchange` where uvicorn would make its own cycle, and
uvicorn goes on to see to pipelining, keep-alive and shutdown. So this class has what uvicorn reads of that cycle.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from gateway.errors import BodyTimeoutError, BodyTooLargeError, ClientGoneError
from gateway.pieces import gather, joined

if TYPE_CHECKING:
    from gateway.http_protocol import GuardedProtocol
    from serving.contracts.gateway_policy import RequestLimits

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"
_EARLY_BYTES: Final = 65_536
"""Body held before anybody has asked for it; above this the client is not read from."""


class AnswerCopy:
    """What the client was sent, for who has to keep it.

    Args:
        max_bytes: Longest body kept; of a longer one nothing is, and `whole` stays False.
    """

    __slots__ = ("_max_bytes", "_parts", "_size", "content_type", "ended", "status")

    def __init__(self, max_bytes: int) -> None:
        self.status = 0
        self.content_type = b""
        self.ended = False
        self._parts: list[bytes] = []
        self._size = 0
        self._max_bytes = max_bytes

    @property
    def whole(self) -> bool:
        """Whether the answer went out to its end and all of it was kept."""
        return self.ended and self._size <= self._max_bytes

    @property
    def body(self) -> bytes:
        """What was kept."""
        return b"".join(self._parts)

    def begin(self, status: int, headers: bytes) -> None:
        """Keep what the head says; `headers` are lines in lower case."""
        self.status = status
        _, _, rest = headers.partition(b"content-type: ")
        self.content_type = rest.partition(b"\r\n")[0]

    def add(self, data: bytes) -> None:
        """Keep a piece, as long as there is room."""
        self._size += len(data)
        if self._size <= self._max_bytes:
            self._parts.append(data)
        else:
            self._parts.clear()


class _NoEvent:
    """Stands where uvicorn's cycle has an event that it wakes its receiver by."""

    def set(self) -> None:
        """Do nothing: whoever waits for an exchange is woken by the exchange."""


class Exchange:
    """One request and its answer.

    The handler awaits `read_body`, then either calls `answer`, or `start`, `send` as often as it likes and `end`.
    `on_gone` is called once if the client leaves while the answer is under way; `copy`, where one is set, gets all that
    the client is sent.

    Args:
        protocol: Connection that it runs on.
        path: Decoded path.
        headers: Names in lower case, in order.
        keep_alive: Whether the connection may go on afterwards.
        expects_continue: Whether the client waits for `100 Continue` before it sends its body.
    """

    __slots__ = (
        "_chunked", "_expects_continue", "_limit", "_parts", "_protocol", "_size", "_waiter", "client", "copy",
        "disconnected", "headers", "keep_alive", "message_event", "more_body", "on_gone", "path", "response_complete",
        "response_started", "task",
    )  # fmt: skip

    def __init__(
        self,
        protocol: GuardedProtocol,
        path: str,
        headers: list[tuple[bytes, bytes]],
        *,
        keep_alive: bool,
        expects_continue: bool,
    ) -> None:
        self.path = path
        self.headers = headers
        self.client = protocol.client
        self.on_gone: Callable[[], None] | None = None
        self.copy: AnswerCopy | None = None
        self.keep_alive = keep_alive
        self.more_body = True
        self.response_started = self.response_complete = self.disconnected = False
        self.message_event = _NO_EVENT
        self._protocol = protocol
        self._expects_continue = expects_continue
        self._parts: list[bytes | bytearray] = []
        self._size = 0
        self._limit: int | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._chunked = False

    task: asyncio.Task[None]
    """What runs `run_asgi`."""

    async def run_asgi(self, _app: object) -> None:
        """Let the hot path answer; uvicorn calls this where it would run the application."""
        try:
            await self._protocol.app_state["gateway"].hot(self)
        finally:
            self._protocol.tasks.discard(self.task)
            if not self.response_complete:
                self.copy = None
                self._protocol.transport.close()  # nothing, or half an answer, went out: the client must see it end
                self._complete()

    def feed(self, body: bytes) -> None:
        """Take a piece of the request's body."""
        gather(self._parts, body)
        self._size += len(body)
        if self._limit is None:
            if self._size > _EARLY_BYTES:
                self._protocol.flow.pause_reading()
        elif self._size > self._limit:
            self._wake()

    def fed(self) -> None:
        """Note that the body is complete."""
        self.more_body = False
        self._wake()

    def lost(self) -> None:
        """Note that the client closed its connection."""
        self.disconnected = True
        self._wake()
        if self.on_gone is not None and not self.response_complete:
            gone, self.on_gone = self.on_gone, None
            gone()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def read_body(self, limits: RequestLimits) -> bytes:
        """Wait for the whole body.

        Raises:
            BodyTooLargeError: It is longer than the limit.
            BodyTimeoutError: It did not arrive in time.
            ClientGoneError: The client left before its end.
        """
        self._limit = limits.max_body_bytes
        announced = self._announced() if self.more_body else 0
        if self.more_body and max(self._size, announced) <= self._limit:
            await self._wait(limits.body_seconds)
        if max(self._size, announced) > self._limit:
            raise BodyTooLargeError(f"expected a body of at most {self._limit} bytes; got more: send less")
        parts, self._parts = self._parts, []
        return joined(parts)

    def _announced(self) -> int:
        """Return the length that the head announces; llhttp has refused one that is no number."""
        return next((int(value[:19]) for name, value in self.headers if name == b"content-length"), 0)

    async def _wait(self, seconds: float) -> None:
        if self._expects_continue:
            self._protocol.transport.write(_CONTINUE)
        self._protocol.flow.resume_reading()
        try:
            async with asyncio.timeout(seconds):
                while self.more_body and not self.disconnected and self._size <= (self._limit or 0):
                    self._waiter = self._protocol.loop.create_future()
                    await self._waiter
        except TimeoutError as exc:
            raise BodyTimeoutError(
                f"expected the whole body within {seconds:g} s; it did not come: send it faster"
            ) from exc
        finally:
            self._waiter = None
        if self.more_body and self.disconnected:
            raise ClientGoneError("the client left before the end of its request")

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        """Send an answer of known length, at once.

        Args:
            status: HTTP status.
            headers: Header lines, each with its CRLF, besides length, date and connection.
            body: Whole body.
        """
        if self.disconnected:
            return
        self.response_started = True
        if self.copy is not None:
            self.copy.begin(status, headers)
            self.copy.add(body)
        head = b"%bcontent-length: %d\r\n%b\r\n" % (self._head(status), len(body), headers)
        self._protocol.transport.write(head + body)
        self._complete()

    def start(self, status: int, headers: bytes, data: bytes = b"") -> None:
        """Begin an answer of unknown length, with its first piece.

        Args:
            status: HTTP status.
            headers: Header lines, each with its CRLF, besides framing, date and connection.
            data: First piece of the body.
        """
        if self.disconnected:
            return
        self.response_started = True
        if self.copy is not None:
            self.copy.begin(status, headers)
            self.copy.add(data)
        self._chunked = self._protocol.parser.get_http_version() != "1.0"
        framing = b"transfer-encoding: chunked\r\n" if self._chunked else b""
        self._protocol.transport.write(b"%b%b%b\r\n%b" % (self._head(status), framing, headers, self._framed(data)))

    async def send(self, data: bytes) -> None:
        """Send a piece, and wait while the client does not take what it was sent before.

        Raises:
            ClientGoneError: It takes nothing for so long that it is taken for gone.
        """
        if self.disconnected:
            return
        if self.copy is not None:
            self.copy.add(data)
        self._protocol.transport.write(self._framed(data))
        if self._protocol.flow.write_paused:
            await self._drained()

    async def _drained(self) -> None:
        """Wait for the client; one that takes nothing for as long as it may be idle has left."""
        try:
            async with asyncio.timeout(self._protocol.timeout_keep_alive):
                await self._protocol.flow.drain()
        except TimeoutError as exc:
            self.disconnected = True
            self._protocol.transport.abort()
            raise ClientGoneError("expected the client to read its answer; it does not") from exc

    def end(self, data: bytes = b"") -> None:
        """Send the last piece and end the answer."""
        if self.disconnected:
            return
        if self.copy is not None:
            self.copy.add(data)
        last = self._framed(data) + (b"0\r\n\r\n" if self._chunked else b"")
        if last:
            self._protocol.transport.write(last)
        self._complete()

    def _framed(self, data: bytes) -> bytes:
        return b"%x\r\n%b\r\n" % (len(data), data) if self._chunked and data else data

    def _head(self, status: int) -> bytes:
        close = b"" if self.keep_alive else b"connection: close\r\n"
        return STATUS_LINE[status] + self._protocol.date_header() + close

    def _complete(self) -> None:
        self.response_complete = True
        self.on_gone = None
        if self.copy is not None:
            self.copy.ended = True
        if not self.keep_alive:
            self._protocol.transport.close()
        self._protocol.on_response_complete()


_NO_EVENT: Final[Any] = _NoEvent()
