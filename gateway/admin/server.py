"""The admin API's server: a second port in the gateway's process and event loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import uvicorn
from fastapi import FastAPI

from gateway.http_protocol import protocol_for
from gateway.settings import GatewaySettings

_GRACE_SECONDS: Final = 3
"""For admin requests in flight at the end; each takes milliseconds."""


class _AdminServer(uvicorn.Server):
    """uvicorn's server without its signal handlers: the main server's stop ends both."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone."""
        yield


def _no_hot_path(_: object) -> None:
    """Let every path of this port go to the application: its gate is the only way in."""


async def serve_admin(app: FastAPI, settings: GatewaySettings, sock: socket.socket) -> None:
    """Serve until cancelled; then let requests in flight finish, and close the socket.

    Args:
        app: What `create_admin_app` made.
        settings: Limits of connections.
        sock: Listening socket; closed at the end.
    """
    config = uvicorn.Config(
        app,
        http=type("AdminProtocol", (protocol_for(settings),), {"_hot_path": _no_hot_path}),
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=settings.keep_alive_seconds,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    server = _AdminServer(config)
    async with asyncio.TaskGroup() as tasks:
        serving = tasks.create_task(server.serve(sockets=[sock]))
        try:
            await asyncio.shield(serving)
        except asyncio.CancelledError:
            server.should_exit = True
            await serving
            raise
