"""The HTTP server: uvicorn with httptools and uvloop, and bounds on a request's head that uvicorn does not have."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from types import FrameType
from typing import Any, Final, cast

import uvicorn
from fastapi import FastAPI
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from gateway.api.errors import STATUS, error_body
from gateway.api.intake import new_request_id
from gateway.errors import ErrorCode
from gateway.held_transport import HeldTransport
from gateway.settings import GatewaySettings

_BACKLOG: Final = 4096

log = logging.getLogger(__name__)


class ListenError(Exception):
    """The address cannot be listened on."""


class GuardedProtocol(HttpToolsProtocol):
    """uvicorn's protocol with limits on the head: number and size of headers, and time to arrive.

    The limits are class attributes because uvicorn makes the instances; `protocol_for` makes a class a gateway.
    """

    max_headers: int
    max_header_bytes: int
    head_timeout_seconds: float

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_head = True
        self._head_bytes = 0
        self._too_large = False
        self._head_timer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin the time for the first request's head."""
        super().connection_made(transport)
        self._held = HeldTransport(transport)
        self.transport = cast("asyncio.Transport", self._held)
        self._arm()

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the timer with the connection."""
        self._disarm()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Count what belongs to a head, and refuse one that is too long or takes too long."""
        super().data_received(data)
        if not self._in_head or self.parser is None or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > self.max_header_bytes:
            self._too_large = True
            self.send_400_response("")
        elif self._head_timer is None:
            self._arm()

    def on_message_begin(self) -> None:
        """Begin a head."""
        super().on_message_begin()
        self._in_head = True

    def on_url(self, url: bytes) -> None:
        """Count the target's bytes."""
        super().on_url(url)
        self._count(len(url))

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header; trailers are parsed by the same callback, and dropped."""
        if not self._in_head:
            return
        self._count(len(name) + len(value))
        super().on_header(name, value)
        if len(self.headers) > self.max_headers:
            self._too_large = True
            raise ValueError("too many headers")

    def _count(self, size: int) -> None:
        self._head_bytes += size
        if self._head_bytes > self.max_header_bytes:
            self._too_large = True
            raise ValueError("head too large")

    def on_headers_complete(self) -> None:
        """End the head."""
        self._in_head = False
        self._head_bytes = 0
        self._disarm()
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Let the transport know that the next write begins another answer."""
        self._held.end_answer()
        super().on_response_complete()

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP, or has too long a head, as OpenAI would, and close."""
        code = ErrorCode.HEADERS_TOO_LARGE if self._too_large else ErrorCode.INVALID_REQUEST
        status = STATUS[code]
        text = (
            f"expected at most {self.max_headers} headers and {self.max_header_bytes} bytes of them; got more"
            if self._too_large
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


def listen(settings: GatewaySettings) -> socket.socket:
    """Open the listening socket.

    Raises:
        ListenError: The port is in use, or the address is not of this machine.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if settings.reuse_port:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((settings.host, settings.port))
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise ListenError(
            f"expected to listen on {settings.host}:{settings.port}; got {exc.strerror or exc}: "
            "stop what uses the port, or set NEXUS_GATEWAY_PORT"
        ) from exc
    sock.setblocking(False)
    return sock


def run_server(app: FastAPI, settings: GatewaySettings, sock: socket.socket) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight, within the grace time, and return."""
    config = uvicorn.Config(
        app,
        http=protocol_for(settings),
        loop="uvloop",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,  # else anyone on this machine could claim any address, and users are told apart by it
        backlog=_BACKLOG,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=settings.shutdown_grace_seconds,
    )
    # uvicorn raises the signal that stopped it once more when it is done; an orderly stop is exit code 0.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _exit)
    uvicorn.Server(config).run(sockets=[sock])


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
