"""Redis for what no request waits for: API keys, drained services. Requests' limits have a connection of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any

from pydantic import SecretStr

from gateway.redis_server import HELLO, NotPrimaryError, RedisClusterError, check_server

KEY_PREFIX = "{nexus}:"
"""All keys share one hash slot. A cluster is refused all the same: nobody here follows its redirections."""


class RedisUnavailableError(Exception):
    """Redis did not answer, or answered with an error; the message holds no credential."""


class RedisConnection:
    """A client that connects when it is used and reports failures soon: callers decide when to try again.

    After a failure, also one that Redis answers with (READONLY, LOADING, MASTERDOWN, MOVED), the next command goes over
    a new connection: the address may lead to another server meanwhile, and the old one may keep connections open.

    What is sent may be done twice when the connection breaks meanwhile, so callers send only what may be.

    redis-py is imported by the first of these objects, because a gateway without Redis should not pay its 20 MB.

    Args:
        url: `redis://`, `rediss://` or `unix://` address; may hold a password.
        timeout_seconds: To connect, and for the answer to a command.
    """

    def __init__(self, url: SecretStr, timeout_seconds: float) -> None:
        from redis.asyncio import Redis  # noqa: PLC0415
        from redis.asyncio.retry import Retry  # noqa: PLC0415
        from redis.backoff import NoBackoff  # noqa: PLC0415
        from redis.exceptions import ConnectionError as RedisConnectionError  # noqa: PLC0415
        from redis.exceptions import RedisError  # noqa: PLC0415

        self._failures = (RedisError, OSError, TimeoutError)
        self._client: Any = Redis.from_url(
            url.get_secret_value(),
            socket_connect_timeout=timeout_seconds,
            socket_timeout=timeout_seconds,
            # Once more and at once: connections that are kept break when Redis restarts.
            retry=Retry(NoBackoff(), 1, supported_errors=(RedisConnectionError,)),
            client_name="nexus-gateway",
        )
        self._scripts: dict[str, Any] = {}

    @asynccontextmanager
    async def _reported(self) -> AsyncIterator[None]:
        """Translate failures; a cancellation that redis-py has swallowed is raised after all.

        Python 3.11's `asyncio.wait_for`, in which redis-py writes, returns normally when it is cancelled at the moment
        that what it waits for is done (https://github.com/python/cpython/issues/86296).
        """
        failure: BaseException | None = None
        try:
            yield
        except self._failures as exc:
            failure = exc
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise asyncio.CancelledError
        if failure is not None:
            await self._leave()
            raise RedisUnavailableError(f"{type(failure).__name__}: {failure}") from None

    async def _leave(self) -> None:
        """Close the connections that nobody uses at this moment."""
        with suppress(*self._failures):
            await self._client.connection_pool.disconnect(inuse_connections=False)

    async def expect_primary(self) -> None:
        """Ask who is at the other end: a server that was failed over answers reads with what it has, for ever.

        Raises:
            RedisUnavailableError: It is not the primary, or does not answer.
        """
        answer = await self.command(HELLO)
        try:
            check_server(answer)
        except (NotPrimaryError, RedisClusterError) as exc:
            await self._leave()
            raise RedisUnavailableError(str(exc)) from None

    async def run(self, script: str, keys: Sequence[str], args: Sequence[str | bytes | float]) -> Any:
        """Run a Lua script; it is sent whole only where Redis does not know it yet.

        Raises:
            RedisUnavailableError: It has no answer; whether the script ran is not known.
        """
        known = self._scripts.get(script)
        if known is None:
            known = self._scripts[script] = self._client.register_script(script)
        async with self._reported():
            return await known(keys=keys, args=args)

    async def command(self, *parts: str | bytes | float) -> Any:
        """Run one command and return redis-py's form of its answer.

        Raises:
            RedisUnavailableError: It has no answer.
        """
        async with self._reported():
            return await self._client.execute_command(*parts)

    @asynccontextmanager
    async def subscribed(self, channel: str) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        """Listen to a channel; gives a function that waits for a message, so many seconds at most.

        Raises:
            RedisUnavailableError: It cannot be listened to, or the connection has ended.
        """
        async with self._reported():
            messages = self._client.pubsub(ignore_subscribe_messages=True)
            try:
                await messages.subscribe(channel)

                async def wait(seconds: float) -> None:
                    async with self._reported():
                        await messages.get_message(timeout=seconds)

                yield wait
            finally:
                await messages.aclose()

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()
