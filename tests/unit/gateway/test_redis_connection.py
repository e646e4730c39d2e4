from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic import SecretStr

from gateway.redis_connection import RedisConnection, RedisUnavailableError


class Swallowing:
    """A client that answers, or fails, although it is cancelled, as redis-py does at some moments."""

    def __init__(self, failure: Exception | None) -> None:
        self.failure = failure
        self.asked = asyncio.Event()

    async def execute_command(self, *_: Any) -> bytes:
        self.asked.set()
        try:
            await asyncio.sleep(10)
        except asyncio.CancelledError:
            if self.failure is not None:
                raise self.failure from None
        return b"done"


@pytest.mark.parametrize("failure", [None, ConnectionResetError()])
async def test_a_cancellation_that_the_client_swallows_is_one_all_the_same(failure: Exception | None) -> None:
    """Whoever cancels a task that asks Redis ends it, whatever the client makes of the cancellation."""
    connection = RedisConnection(SecretStr("redis://127.0.0.1:1/0"), 0.1)
    connection._client = client = Swallowing(failure)
    task = asyncio.ensure_future(connection.command("GET", "x"))
    await client.asked.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_redis_that_is_not_there_is_unavailable() -> None:
    """A refused connection is this module's own error, for commands, scripts and subscriptions."""
    connection = RedisConnection(SecretStr("redis://127.0.0.1:1/0"), 0.5)
    with pytest.raises(RedisUnavailableError, match="ConnectionError"):
        await connection.command("GET", "x")
    with pytest.raises(RedisUnavailableError, match="ConnectionError"):
        await connection.run("return 1", [], [])
    with pytest.raises(RedisUnavailableError, match="ConnectionError"):
        async with connection.subscribed("x"):
            pass
    await connection.close()


class Server:
    """A Redis that lets everybody in and answers `GET` with one error; counts the connections that asked."""

    def __init__(self, error: bytes, role: bytes = b"master") -> None:
        self.error = error
        self.role = role
        self.asked: list[int] = []
        self._connections = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections += 1
        number = self._connections
        while (head := await reader.readline()).startswith(b"*"):
            parts = []
            for _ in range(int(head[1:])):
                size = int((await reader.readline())[1:])
                parts.append((await reader.readexactly(size + 2))[:-2])
            if parts[0] == b"GET":
                self.asked.append(number)
                writer.write(b"-" + self.error + b"\r\n")
            elif parts[0] == b"HELLO":
                writer.write(b"%3\r\n+proto\r\n:3\r\n$4\r\nmode\r\n$10\r\nstandalone\r\n")
                writer.write(b"$4\r\nrole\r\n$%d\r\n%b\r\n" % (len(self.role), self.role))
            else:
                writer.write(b"+OK\r\n")
        writer.close()


@pytest.mark.parametrize(
    "error",
    [
        b"READONLY You can't write against a read only replica.",
        b"LOADING Redis is loading the dataset in memory",
        b"MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'.",
        b"MOVED 3999 127.0.0.1:6381",
        b"CLUSTERDOWN The cluster is down",
        b"ERR Error running script: -READONLY You can't write against a read only replica.",
    ],
)
async def test_a_server_that_is_no_use_is_not_asked_again_over_the_same_connection(error: bytes) -> None:
    """Each such answer means unavailable, and the next command connects anew: the address may have moved."""
    server = Server(error)
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        connection = RedisConnection(SecretStr(f"redis://127.0.0.1:{port}"), 1.0)
        for _ in range(2):
            with pytest.raises(RedisUnavailableError, match=error.split()[0].decode() + "|Error"):
                await connection.command("GET", "x")
        await connection.close()
    assert server.asked[0] != server.asked[-1]


async def test_a_primary_that_became_a_replica_is_left() -> None:
    """It is noticed without a write, and the next command connects anew."""
    server = Server(b"ERR x")
    async with await asyncio.start_server(server, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        connection = RedisConnection(SecretStr(f"redis://127.0.0.1:{port}"), 1.0)
        await connection.expect_primary()
        server.role = b"replica"
        with pytest.raises(RedisUnavailableError, match="expected the primary"):
            await connection.expect_primary()
        server.role = b"master"
        await connection.expect_primary()
        await connection.close()
    assert server._connections == 2
