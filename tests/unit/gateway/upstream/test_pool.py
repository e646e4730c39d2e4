from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import ClientGoneError, UpstreamConnectError, UpstreamResetError, UpstreamTimeoutError
from gateway.upstream.connection import Connection
from gateway.upstream.origin import Origin
from gateway.upstream.pool import UpstreamPool
from serving.contracts.gateway_policy import Timeouts
from tests.fakes.fake_upstream import STREAM_HEAD, FakeUpstream, chunk, event, head
from tests.fakes.waiting import until

pytestmark = pytest.mark.asyncio

SLOW = Timeouts(first_byte_seconds=5, between_bytes_seconds=5, total_seconds=5)


def request(fake: dict[str, Any] | None = None) -> bytes:
    body = json.dumps({"model": "m"} | ({"fake": fake} if fake else {})).encode()
    return b"POST /v1/x HTTP/1.1\r\nhost: engine\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)


@asynccontextmanager
async def opened(
    retries: Callable[[], None] = lambda: None,
) -> AsyncIterator[tuple[UpstreamPool, FakeUpstream, Origin]]:
    async with FakeUpstream() as engine, asyncio.TaskGroup() as tasks:
        pool = UpstreamPool(idle_seconds=4, max_answer_bytes=100_000, on_stale_retry=retries)
        keeper = tasks.create_task(pool.run())
        yield pool, engine, Origin("127.0.0.1", engine.port)
        keeper.cancel()
        pool.close()


async def finish(pool: UpstreamPool, connection: Connection) -> bytes:
    body = b""
    while data := await connection.read():
        body += data
    pool.release(connection)
    return body


async def test_a_connection_is_used_again() -> None:
    """Three requests, one after the other, use a single connection."""
    async with opened() as (pool, engine, origin):
        for _ in range(3):
            connection = await pool.exchange(origin, request(), SLOW)
            assert json.loads(await finish(pool, connection))["usage"]
        assert (engine.connections, len(engine.requests)) == (1, 3)


async def test_concurrent_requests_have_connections_of_their_own() -> None:
    """Two exchanges that are open at once use two connections."""
    async with opened() as (pool, engine, origin):
        first = await pool.exchange(origin, request(), SLOW)
        second = await pool.exchange(origin, request(), SLOW)
        assert engine.connections == 2
        for connection in (first, second):
            await finish(pool, connection)


async def test_a_request_that_meets_a_closing_connection_is_sent_again_once() -> None:
    """The engine's close and our request cross on the wire; nothing of an answer came, so it is safe."""
    stale: list[int] = []
    async with opened(lambda: stale.append(1)) as (pool, engine, origin):
        await finish(pool, await pool.exchange(origin, request(), SLOW))
        engine.drop_idle()  # the loop has not told the pool yet
        assert json.loads(await finish(pool, await pool.exchange(origin, request(), SLOW)))["usage"]
        assert (engine.connections, len(engine.requests), len(stale)) == (2, 2, 1)


async def test_a_connection_closed_while_idle_is_forgotten() -> None:
    """A connection that the engine closed while idle is replaced, without a stale retry."""
    stale: list[int] = []
    async with opened(lambda: stale.append(1)) as (pool, engine, origin):
        connection = await pool.exchange(origin, request(), SLOW)
        await finish(pool, connection)
        engine.drop_idle()
        await until(lambda: connection.closed)
        await finish(pool, await pool.exchange(origin, request(), SLOW))
        assert (engine.connections, stale) == (2, [])


async def test_an_engine_that_dies_of_a_request_does_not_get_it_a_third_time() -> None:
    """A request that kills the engine on a reused connection is sent once more, and then ends in a reset."""
    async with opened() as (pool, engine, origin):
        await finish(pool, await pool.exchange(origin, request(), SLOW))
        with pytest.raises(UpstreamResetError):
            await pool.exchange(origin, request({"pieces": [], "end": "close"}), SLOW)
        assert len(engine.requests) == 3


async def test_old_idle_connections_are_not_used() -> None:
    """A connection that was idle for longer than the limit is replaced by a new one, and a younger one is used."""
    async with FakeUpstream() as engine:
        pool = UpstreamPool(idle_seconds=60, max_answer_bytes=1000)
        origin = Origin("127.0.0.1", engine.port)
        for age, connections in ((30, 1), (61, 2)):
            connection = await pool.exchange(origin, request(), SLOW)
            await finish(pool, connection)
            connection.idle_since -= age
            await finish(pool, await pool.exchange(origin, request(), SLOW))
            assert engine.connections == connections
        pool.close()


async def test_a_refused_connection_says_when_to_come_back() -> None:
    """A connection that is refused raises an error with a Retry-After of one second."""
    async with FakeUpstream() as engine:
        origin = Origin("127.0.0.1", engine.port)
    pool = UpstreamPool(idle_seconds=4, max_answer_bytes=1000)
    with pytest.raises(UpstreamConnectError) as refused:
        await pool.exchange(origin, request(), SLOW)
    assert refused.value.retry_after_seconds == 1


@pytest.mark.parametrize(
    ("fake", "limits", "what"),
    [
        ({"pieces": [], "end": "hang"}, {"first_byte_seconds": 0.05}, "first byte"),
        ({"pieces": [STREAM_HEAD], "end": "hang"}, {"first_byte_seconds": 0.05}, "first byte"),
        ({"pieces": [head(content_length="9"), "\r\nab"], "end": "hang"}, {"between_bytes_seconds": 0.05}, "next byte"),
        ({"pieces": [], "end": "hang"}, {"total_seconds": 0.05}, "whole answer"),
    ],
)
async def test_each_time_limit_says_which_it_was(fake: dict[str, Any], limits: dict[str, float], what: str) -> None:
    """Each time limit raises a timeout that names it and ends the engine's work."""
    async with opened() as (pool, engine, origin):
        with pytest.raises(UpstreamTimeoutError, match=what):
            await pool.exchange(origin, request(fake), SLOW.model_copy(update=limits))
        assert await asyncio.to_thread(engine.requests[0].client_left.wait, 2)


async def test_a_stall_after_the_first_token_is_cut_off() -> None:
    """A stream that stalls after its first event ends in the timeout between bytes."""
    async with opened() as (pool, _, origin):
        fake = {"pieces": [STREAM_HEAD, chunk(event("a"))], "end": "hang"}
        limits = SLOW.model_copy(update={"between_bytes_seconds": 0.05})
        connection = await pool.exchange(origin, request(fake), limits)
        with pytest.raises(UpstreamTimeoutError, match="next byte"):
            await finish(pool, connection)
        pool.release(connection)


async def test_the_connection_is_handed_over_as_soon_as_the_request_is_on_it() -> None:
    """Whoever may have to end an exchange early gets its connection before the answer, and ends it by that."""
    async with opened() as (pool, engine, origin):
        started: list[Connection] = []
        fake = {"pieces": [], "end": "hang"}
        call = asyncio.ensure_future(pool.exchange(origin, request(fake), SLOW, started.append))
        await until(lambda: engine.requests)
        started[0].fail(ClientGoneError("gone"))
        with pytest.raises(ClientGoneError):
            await call
        assert await asyncio.to_thread(engine.requests[0].client_left.wait, 2)


async def test_a_cancelled_caller_closes_the_connection() -> None:
    """Cancelling a caller who waits for an answer ends the engine's connection."""
    async with opened() as (pool, engine, origin):
        call = asyncio.ensure_future(pool.exchange(origin, request({"pieces": [], "end": "hang"}), SLOW))
        await until(lambda: engine.requests)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        assert await asyncio.to_thread(engine.requests[0].client_left.wait, 2)


async def test_a_unix_socket_is_an_origin_like_any_other(tmp_path: Path) -> None:
    """A request over a unix socket is answered, and its connection is used again."""
    path = tmp_path / "adapter.sock"
    heads: list[bytes] = []
    ended = asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            heads.append(line)
            while await reader.readline() != b"\r\n":
                pass
            await reader.readexactly(len(request()) - request().index(b"{"))
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        writer.close()
        await writer.wait_closed()
        ended.set()

    async with await asyncio.start_unix_server(answer, path):
        pool = UpstreamPool(idle_seconds=4, max_answer_bytes=1000)
        first = await pool.exchange(Origin.unix(path), request(), SLOW)
        assert await finish(pool, first) == b"{}"
        again = await pool.exchange(Origin.unix(path), request(), SLOW)
        assert again is first
        assert await finish(pool, again) == b"{}"
        assert len(heads) == 2
        pool.close()
        await ended.wait()
        with pytest.raises(UpstreamConnectError):
            await pool.exchange(Origin.unix(tmp_path / "nobody.sock"), request(), SLOW)


async def test_a_deadline_bounds_the_exchange_whatever_the_limits() -> None:
    """A silent engine is given up at the deadline, and nothing is sent when it is over already."""
    async with opened() as (pool, engine, origin):
        loop = asyncio.get_running_loop()
        with pytest.raises(UpstreamTimeoutError, match="whole answer"):
            await pool.exchange(origin, request({"pieces": [], "end": "hang"}), SLOW, deadline=loop.time() + 0.2)
        with pytest.raises(UpstreamTimeoutError, match="time left"):
            await pool.exchange(origin, request(), SLOW, deadline=loop.time() - 1)
        assert len(engine.requests) == 1
