"""A client's connection: uvicorn's protocol with bounds on heads, a short way for hot paths, and an orderly end."""

from __future__ import annotations

import asyncio
import re
from typing import Any, Final, cast
from urllib.parse import unquote_to_bytes

import httptools
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.errors import STATUS, error_body
from gateway.api.intake import new_request_id
from gateway.errors import ErrorCode
from gateway.exchange import Exchange
from gateway.request_reader import RequestReader
from gateway.routing.snapshot import HOT_PATHS
from gateway.settings import GatewaySettings

_HOT: Final = {path.encode(): path for path in HOT_PATHS}
_ABSOLUTE: Final = re.compile(rb"\A[Hh][Tt][Tt][Pp][Ss]?://[^/]*")
"""What stands before the path in the form for proxies, which servers have to take, too (RFC 9112, 3.2.2)."""

_MAX_PIPELINE: Final = 10_000
"""Requests of one connection that wait for their turn: more than one read can hold."""

_IDLE_DRAIN_SECONDS: Final = 2.0
"""How long an idle connection may bring one more request once the server stops: that one is answered and told to close,
where closing at once would lose a request that is already on its way."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on the head (number and size of headers, time to arrive), and hot paths.

    A POST to a hot path becomes an `Exchange`; everything else goes to the application by ASGI. The limits are class
    attributes because uvicorn makes the instances; `protocol_for` makes a class a gateway.
    """

    max_headers: int
    max_header_bytes: int
    head_timeout_seconds: float
    _date: tuple[object, bytes] = (None, b"")

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._reader = RequestReader(self, max_headers=self.max_headers, max_header_bytes=self.max_header_bytes)
        self.parser = httptools.HttpRequestParser(self._reader)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)  # as uvicorn does: to answer, then close
        self._head_timer: asyncio.TimerHandle | None = None
        self._retiring = False
        self._hot: Exchange | None = None
        self._idle_since = 0.0
        self._idle_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the time for the first request's head."""
        super().connection_made(transport)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection, and tell the exchange that runs on it."""
        self._disarm()
        if self._idle_timer is not None:
            self._idle_timer.cancel()
        super().connection_lost(exc)
        if self._hot is not None:
            self._hot.lost()
        del self._reader  # these refer to this connection: without them, nobody has to look for cycles
        self.cycle = self._hot = None  # type: ignore[assignment]
        self.pipeline.clear()

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head or to framing, and refuse what is too long or takes too long."""
        reader = self._reader
        reader.began = False
        super().data_received(data)
        if self.parser is None or self.transport.is_closing():
            return
        if not reader.in_head:
            if reader.is_framing_too_long(len(data)):
                self.transport.close()  # it is never the end of a body that an engine could use
        elif reader.is_head_too_long(len(data)):
            self.send_400_response("")
        elif self._head_timer is None:
            self._arm()

    def on_headers_complete(self) -> None:
        """Begin the answer to a complete head: an exchange on a hot path, ASGI on any other.

        Raises:
            ValueError: Too many requests wait: the client sends and does not read.
        """
        self._disarm()
        if len(self.pipeline) > _MAX_PIPELINE:
            raise ValueError("too many requests at once")
        path = self._hot_path()
        if path is None:
            self.on_message_begin()
            self.url, self.expect_100_continue = self._reader.url, self._reader.expects_continue
            self.headers.extend(self._reader.headers)
            super().on_headers_complete()
        else:
            self._begin_exchange(path)
        if self._retiring and self.cycle is not None:
            self.cycle.keep_alive = False

    def _should_upgrade(self) -> bool:
        return False  # there is nothing to upgrade to

    def _hot_path(self) -> str | None:
        if self.parser.get_method() != b"POST":
            return None
        path = self._reader.url.partition(b"?")[0]
        return _HOT.get(path) or _HOT.get(unquote_to_bytes(_ABSOLUTE.sub(b"", path)))

    def _begin_exchange(self, path: str) -> None:
        before = cast("Any", self.cycle)
        exchange = Exchange(
            self,
            path,
            self._reader.headers,
            keep_alive=self.parser.should_keep_alive() and not self.parser.should_upgrade(),  # its body is never parsed
            expects_continue=self._reader.expects_continue,
        )
        self._reader.exchange = exchange
        self.cycle = cast("Any", exchange)
        if before is None or before.response_complete:
            self._start_asgi_task(self.cycle, self.app)
        else:
            self.flow.pause_reading()  # pipelined: its turn comes when the one before is answered
            self.pipeline.appendleft((self.cycle, self.app))

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if type(cycle) is not Exchange:
            self._hot = None
            super()._start_asgi_task(cycle, app)
            return
        self._hot = cycle
        cycle.task = task = self.loop.create_task(cycle.run_asgi(app))
        self.tasks.add(task)  # `run_asgi` takes it out again

    def on_response_complete(self) -> None:
        """Go on with the next pipelined request, or begin the time that a connection may be idle.

        One timer a connection is enough: it looks at when the last answer ended, and is set again if that was just now.
        """
        if self.transport.is_closing():
            self._give_up()
            super().on_response_complete()
            return
        if self.pipeline:
            super().on_response_complete()
            if self.pipeline:
                self.flow.pause_reading()  # else every answer would let in another read of requests
            return
        self.server_state.total_requests += 1
        self.flow.resume_reading()
        self._idle_since = self.loop.time()
        if self._idle_timer is None:
            self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._end_idle)

    def _end_idle(self) -> None:
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if self.cycle is not None and not self.cycle.response_complete:
            left = self.timeout_keep_alive
        if left > 0:
            self._idle_timer = self.loop.call_later(left, self._end_idle)
        else:
            self._give_up()

    def _give_up(self, left: int = 0) -> None:
        """Close; an answer of which the client takes nothing for as long as it may be idle is dropped."""
        now = self.transport.get_write_buffer_size()
        if now and now == left:
            self.transport.abort()
        else:
            self.transport.close()
            if now:
                self.loop.call_later(self.timeout_keep_alive, self._give_up, now)

    def date_header(self) -> bytes:
        """Return the header lines that every answer has; uvicorn renews them once a second."""
        given = self.server_state.default_headers
        known, lines = GuardedProtocol._date
        if known is not given:
            lines = b"".join(b"%b: %b\r\n" % pair for pair in given)
            GuardedProtocol._date = (given, lines)
        return lines

    def shutdown(self) -> None:
        """End the connection after the request it has, or the one that comes within a moment."""
        self._retiring = True
        if self.cycle is not None and not self.cycle.response_complete:
            self.cycle.keep_alive = False
        else:
            self.loop.call_later(_IDLE_DRAIN_SECONDS, self._close_if_idle)

    def _close_if_idle(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has too long a head, as OpenAI would, and close."""
        too_large = self._reader.too_large
        code = ErrorCode.HEADERS_TOO_LARGE if too_large else ErrorCode.INVALID_REQUEST
        status = STATUS[code]
        text = (
            f"expected at most {self.max_headers} headers and {self.max_header_bytes} bytes of them; got more"
            if too_large
            else "expected an HTTP/1.1 request; got something else"
        )
        body = error_body(code, text, status=status)
        if self._may_refuse():
            head = (
                b"content-type: application/json\r\ncontent-length: %d\r\nx-request-id: %b\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(STATUS_LINE[status] + head % (len(body), new_request_id()) + body)
        self.transport.close()

    def _may_refuse(self) -> bool:
        """Tell whether an error would be the answer to what is refused; else another's is due and closing says it."""
        cycle = self.cycle
        if cycle is None or cycle.response_complete:
            return True
        return cycle.more_body and not cycle.response_started and not self.pipeline

    def _arm(self) -> None:
        self._head_timer = self.loop.call_later(self.head_timeout_seconds, self._expire)

    def _disarm(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _expire(self) -> None:
        self._head_timer = None
        if not self.transport.is_closing():
            self.transport.close()


def protocol_for(settings: GatewaySettings) -> type[GuardedProtocol]:
    """Make the protocol class with a gateway's limits."""
    limits = {
        "max_headers": settings.max_headers,
        "max_header_bytes": settings.max_header_bytes,
        "head_timeout_seconds": settings.head_timeout_seconds,
    }
    return type("BoundProtocol", (GuardedProtocol,), limits)
