"""Pipelined requests on the real protocol and event loop, before a handler that answers at once."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import suppress
from typing import Any

import pytest
import uvloop
from uvicorn.config import Config
from uvicorn.server import ServerState

from gateway.exchange import Exchange
from gateway.http_protocol import GuardedProtocol

pytestmark = pytest.mark.integration

HOT = b"POST /v1/chat/completions HTTP/1.1\r\n\r\n"
COLD = b"GET /health/live HTTP/1.1\r\n\r\n"
ONE_READ = 262_144 // len(COLD) + 1


class Protocol(GuardedProtocol):
    max_headers, max_header_bytes, head_timeout_seconds = 100, 32_768, 10.0


class Refusing:
    async def hot(self, exchange: Exchange) -> None:
        exchange.answer(401, b"content-type: application/json\r\n", b"{}")


async def slow_app(_scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await asyncio.sleep(0.001)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body"})


def send_all(port: int, data: bytes) -> None:
    """Send as fast as it is taken, and read all answers; ends when nothing is taken for a moment."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as sock:
        reading = threading.Thread(target=read_all, args=(sock,), daemon=True)
        reading.start()
        with suppress(OSError):
            sock.sendall(data)
            sock.shutdown(socket.SHUT_WR)
        reading.join(1)


def read_all(sock: socket.socket) -> None:
    with suppress(OSError):
        while sock.recv(65_536):
            pass


async def flood(request: bytes, total_bytes: int) -> tuple[int, Protocol]:
    """Send that much in one connection; returns the longest line of waiting requests, and the connection's end."""
    config = Config(app=slow_app, log_level="critical", timeout_keep_alive=5, interface="asgi3", lifespan="off")
    config.load()
    loop, made = asyncio.get_running_loop(), list[Protocol]()

    def make() -> Protocol:
        made.append(Protocol(config, ServerState(), {"gateway": Refusing()}))
        return made[-1]

    server = await loop.create_server(make, "127.0.0.1", 0)
    client = threading.Thread(
        target=send_all, args=(server.sockets[0].getsockname()[1], request * (total_bytes // len(request)))
    )
    client.start()
    longest = 0
    while client.is_alive():
        await asyncio.sleep(0.001)
        longest = max([longest, *(len(protocol.pipeline) for protocol in made)])
    server.close()
    return longest, made[0]


@pytest.mark.parametrize("request_bytes", [HOT, COLD], ids=["hot", "cold"])
def test_a_client_that_floods_fills_no_memory(request_bytes: bytes) -> None:
    """However much a client pipelines, what waits is bounded: it is not read from, or its connection ends."""
    longest, _ = uvloop.run(flood(request_bytes, 3_000_000))
    assert 100 < longest <= 2 * ONE_READ


def test_a_connection_that_ended_keeps_nothing() -> None:
    """When its connection is lost, a protocol refers to no exchange any more, nor to any that waited."""

    async def run() -> Protocol:
        _, protocol = await flood(HOT, 1_000)
        async with asyncio.timeout(5):
            while protocol.cycle is not None:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        return protocol

    protocol = uvloop.run(run())
    assert (protocol._hot, len(protocol.pipeline)) == (None, 0)
