"""Exchanges on a transport that keeps what is written; the connection itself is tested with the real server."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from gateway.errors import BodyTimeoutError, BodyTooLargeError, ClientGoneError, GatewayError
from gateway.exchange import Exchange
from gateway.http_protocol import GuardedProtocol
from serving.contracts.gateway_policy import RequestLimits

pytestmark = pytest.mark.asyncio
LIMITS = RequestLimits(max_body_bytes=1024, body_seconds=0.05)


class Wire:
    """Parser, flow control, transport and protocol of a connection, as far as an exchange uses them."""

    def __init__(self, version: str = "1.1") -> None:
        self.version = version
        self.transport = self.flow = self.parser = self
        self.client = ("10.0.0.9", 1)
        self.loop = asyncio.get_running_loop()
        self.out = b""
        self.closed = self.paused = self.write_paused = False
        self.completed = 0

    def get_http_version(self) -> str:
        return self.version

    def write(self, data: bytes) -> None:
        self.out += data

    def close(self) -> None:
        self.closed = True

    def pause_reading(self) -> None:
        self.paused = True

    def resume_reading(self) -> None:
        self.paused = False

    def date_header(self) -> bytes:
        return b"date: today\r\n"

    def on_response_complete(self) -> None:
        self.completed += 1


def exchange_on(wire: Wire, *headers: tuple[bytes, bytes], **options: Any) -> Exchange:
    options = {"keep_alive": True, "expects_continue": False} | options
    return Exchange(cast("GuardedProtocol", wire), "/v1/x", list(headers), **options)


async def test_a_body_that_is_there_is_joined_from_its_parts() -> None:
    """A body that came in two reads is one body, and an empty one is empty."""
    exchange = exchange_on(Wire())
    exchange.feed(b"ab")
    exchange.feed(b"cd")
    exchange.fed()
    assert await exchange.read_body(LIMITS) == b"abcd"
    empty = exchange_on(Wire())
    empty.fed()
    assert await empty.read_body(LIMITS) == b""


async def test_a_body_that_is_not_there_yet_is_waited_for() -> None:
    """A reader gets the whole body once its last part has come, and the client was asked to continue."""
    wire = Wire()
    exchange = exchange_on(wire, expects_continue=True)
    reading = asyncio.ensure_future(exchange.read_body(LIMITS))
    await asyncio.sleep(0)
    exchange.feed(b"ab")
    await asyncio.sleep(0)
    assert not reading.done()
    exchange.feed(b"c")
    exchange.fed()
    assert await reading == b"abc"
    assert wire.out == b"HTTP/1.1 100 Continue\r\n\r\n"


@pytest.mark.parametrize(
    ("length", "parts", "then", "expected"),
    [
        (b"1025", [], "", BodyTooLargeError),
        (b"9" * 5000, [], "", BodyTooLargeError),
        (b"10", [b"x" * 1025], "end", BodyTooLargeError),
        (None, [b"x" * 1000, b"x" * 100], "", BodyTooLargeError),
        (b"10", [b"x"], "leave", ClientGoneError),
        (b"10", [b"x"], "", BodyTimeoutError),
    ],
)
async def test_bodies_that_cannot_be_had(
    length: bytes | None, parts: list[bytes], then: str, expected: type[GatewayError]
) -> None:
    """A body that is too large, abandoned or too slow has an error of its own."""
    exchange = exchange_on(Wire(), *([(b"content-length", length)] if length else []))
    reading = asyncio.ensure_future(exchange.read_body(LIMITS))
    await asyncio.sleep(0)
    for part in parts:
        exchange.feed(part)
    if then == "end":
        exchange.fed()
    elif then == "leave":
        exchange.lost()
    with pytest.raises(expected):
        await reading


async def test_a_body_nobody_asked_for_yet_is_not_read_without_end() -> None:
    """Above 64 KiB the client is paused until somebody reads the body."""
    wire = Wire()
    exchange = exchange_on(wire)
    exchange.feed(b"x" * 65_537)
    assert wire.paused
    with pytest.raises(BodyTooLargeError):
        await exchange.read_body(LIMITS)


async def test_an_answer_is_one_write_and_ends_the_exchange() -> None:
    """Head and body go out together; a connection that may go on is left open."""
    wire = Wire()
    exchange_on(wire).answer(200, b"x: y\r\n", b"body")
    assert wire.out == b"HTTP/1.1 200 OK\r\ndate: today\r\ncontent-length: 4\r\nx: y\r\n\r\nbody"
    assert (wire.completed, wire.closed) == (1, False)


async def test_the_last_answer_says_close_and_closes() -> None:
    """Without keep-alive the answer says so and the connection is closed."""
    wire = Wire()
    exchange_on(wire, keep_alive=False).answer(404, b"", b"")
    assert b"connection: close\r\n" in wire.out
    assert wire.closed


@pytest.mark.parametrize(
    ("version", "expected"),
    [
        ("1.1", b"transfer-encoding: chunked\r\nx: y\r\n\r\n3\r\none\r\n3\r\ntwo\r\n5\r\nthree\r\n0\r\n\r\n"),
        ("1.0", b"x: y\r\n\r\nonetwothree"),
    ],
)
async def test_a_stream_is_framed_by_the_clients_version(version: str, expected: bytes) -> None:
    """HTTP/1.1 gets chunks and their end, HTTP/1.0 the bare bytes until the connection closes."""
    wire = Wire(version)
    exchange = exchange_on(wire, keep_alive=version == "1.1")
    exchange.start(200, b"x: y\r\n", b"one")
    await exchange.send(b"two")
    exchange.end(b"three")
    assert wire.out.endswith(expected)
    assert wire.closed == (version == "1.0")


async def test_an_empty_piece_never_ends_a_stream() -> None:
    """A piece without bytes is not framed: as a chunk it would be the end."""
    wire = Wire()
    exchange = exchange_on(wire)
    exchange.start(200, b"")
    await exchange.send(b"")
    exchange.end()
    assert wire.out.endswith(b"\r\n\r\n0\r\n\r\n")
    assert wire.out.count(b"0\r\n\r\n") == 1


async def test_a_client_that_leaves_is_told_once_and_gets_nothing_more() -> None:
    """The handler hears of the disconnect once; what it sends afterwards goes nowhere."""
    wire, gone = Wire(), []
    exchange = exchange_on(wire)
    exchange.on_gone = lambda: gone.append(1)
    exchange.start(200, b"", b"one")
    sent = wire.out
    exchange.lost()
    exchange.lost()
    await exchange.send(b"two")
    exchange.end(b"three")
    exchange.answer(200, b"", b"")
    assert gone == [1]
    assert wire.out == sent


async def test_a_disconnect_after_the_answer_is_nobodys_business() -> None:
    """Once the answer is complete, a client that closes its connection is not reported."""
    gone: list[int] = []
    exchange = exchange_on(Wire())
    exchange.on_gone = lambda: gone.append(1)
    exchange.answer(200, b"", b"")
    exchange.lost()
    assert gone == []
