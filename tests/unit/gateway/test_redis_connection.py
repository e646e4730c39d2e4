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
