"""The HTTP server: uvicorn with httptools and uvloop."""

from __future__ import annotations

import signal
import socket
from collections.abc import Callable
from types import FrameType
from typing import Final

import uvicorn
from fastapi import FastAPI

from gateway.http_protocol import protocol_for
from gateway.settings import GatewaySettings

_BACKLOG: Final = 4096


class ListenError(Exception):
    """The address cannot be listened on."""


def listen(host: str, port: int, *, shared: bool) -> socket.socket:
    """Open a listening socket.

    Args:
        host: Address of this machine.
        port: Port.
        shared: Whether other sockets of this user may listen on the same port (SO_REUSEPORT).

    Raises:
        ListenError: The port is in use, or the address is not of this machine.
    """
    sock = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if shared:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        sock.bind((host, port))
        sock.listen(_BACKLOG)
    except OSError as exc:
        sock.close()
        raise ListenError(
            f"expected to listen on {host}:{port}; got {exc.strerror or exc}: "
            "stop what uses the port, or set NEXUS_GATEWAY_PORT (NEXUS_GATEWAY_ADMIN_PORT)"
        ) from exc
    sock.setblocking(False)
    return sock


class _Server(uvicorn.Server):
    """uvicorn's server, with a call once it accepts connections."""

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then say so."""
        await super().startup(sockets)
        if self.started:
            self._on_ready()


def run_server(
    app: FastAPI, settings: GatewaySettings, sock: socket.socket, on_ready: Callable[[], None] = lambda: None
) -> None:
    """Serve until SIGTERM or SIGINT; then finish what is in flight, within the grace time, and return.

    Args:
        app: The application.
        settings: Limits of connections and of the time to finish.
        sock: Listening socket; closed at the end.
        on_ready: Called once when connections are accepted.
    """
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
    _Server(config, on_ready).run(sockets=[sock])


def _exit(_number: int, _frame: FrameType | None) -> None:
    raise SystemExit(0)
