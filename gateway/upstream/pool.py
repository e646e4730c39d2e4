"""Connections to all engines: reuse, time limits, and what ends them early."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, cast

from gateway.errors import StaleConnectionError, UpstreamConnectError, UpstreamTimeoutError
from gateway.upstream.connection import Connection

if TYPE_CHECKING:
    from gateway.upstream.origin import Origin
    from serving.contracts.gateway_policy import Timeouts

TICK_SECONDS: Final = 0.04
"""How often deadlines are looked at: a limit is kept to this."""

log = logging.getLogger(__name__)


class UpstreamPool:
    """Keeps idle connections by origin, newest first; unbounded in number, bounded in idle time.

    Args:
        idle_seconds: Age at which an idle connection is closed; below the engine's own limit, so that a request
            seldom meets a connection that the engine is just closing.
        max_answer_bytes: Largest answer that is not a stream.
        on_stale_retry: Called for each request that is sent again on a fresh connection.
    """

    def __init__(
        self, *, idle_seconds: float, max_answer_bytes: int, on_stale_retry: Callable[[], None] = lambda: None
    ) -> None:
        self._idle_seconds = idle_seconds
        self._max_answer_bytes = max_answer_bytes
        self._on_stale_retry = on_stale_retry
        self._idle: dict[Origin, deque[Connection]] = {}
        self._active: set[Connection] = set()
        self._loop = asyncio.get_running_loop()

    async def exchange(
        self,
        origin: Origin,
        request: bytes,
        timeouts: Timeouts,
        on_start: Callable[[Connection], None] | None = None,
        *,
        deadline: float = math.inf,
    ) -> Connection:
        """Send a request and wait until it is answered (see `Connection.answered`).

        A reused connection that ends before a byte of answer is tried once more on a fresh one: the engine had closed
        it for idleness while the request was on its way, and inference may be repeated (RFC 9110, 9.2.2). The caller
        gives the connection back with `release`.

        Args:
            origin: Where the engine answers.
            request: The whole request, head and body.
            timeouts: Limits in seconds.
            on_start: Called with the connection once the request is on it; what ends the exchange early needs it.
            deadline: When the request has to be answered whole, by the loop's clock; the limits hold besides.

        Raises:
            UpstreamConnectError: Refused, or not connected within the limit.
            UpstreamError: The engine or its answer failed, or a time limit or the deadline passed.
        """
        connection = self._take(origin) or await self._connect(origin, timeouts.connect_seconds, deadline)
        try:
            return await self._answered(connection, request, timeouts, on_start, deadline)
        except StaleConnectionError:
            self._on_stale_retry()
        connection = await self._connect(origin, timeouts.connect_seconds, deadline)
        return await self._answered(connection, request, timeouts, on_start, deadline)

    async def _answered(
        self,
        connection: Connection,
        request: bytes,
        timeouts: Timeouts,
        on_start: Callable[[Connection], None] | None,
        deadline: float,
    ) -> Connection:
        self._active.add(connection)
        connection.start(request, timeouts, deadline)
        if on_start is not None:
            on_start(connection)
        try:
            await connection.answered()
        except BaseException:
            self.release(connection)
            raise
        return connection

    def release(self, connection: Connection) -> None:
        """Give a connection back: kept when its answer was read whole, closed otherwise."""
        self._active.discard(connection)
        connection.running = False
        if not (connection.complete and connection.reusable) or connection.closed:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        idle = self._idle.get(connection.origin)
        if idle is None:
            idle = self._idle[connection.origin] = deque()
        idle.append(connection)

    def _take(self, origin: Origin) -> Connection | None:
        idle = self._idle.get(origin)
        oldest = self._loop.time() - self._idle_seconds
        while idle:
            connection = idle.pop()
            transport = connection.transport
            if connection.closed or transport is None or transport.is_closing() or connection.idle_since < oldest:
                connection.abort()
                continue
            return connection
        return None

    async def _connect(self, origin: Origin, limit: float, deadline: float) -> Connection:
        seconds = min(limit, deadline - self._loop.time())
        if seconds <= 0:
            raise UpstreamTimeoutError("expected time left to ask an engine; there is none: try again later")

        connection = Connection(
            origin, self._loop, max_answer_bytes=self._max_answer_bytes, on_closed_idle=self._forget
        )
        protocol = cast("Callable[[], asyncio.Protocol]", lambda: connection)
        try:
            async with asyncio.timeout(seconds):
                if origin.port:
                    await self._loop.create_connection(protocol, origin.host, origin.port)
                else:
                    await self._loop.create_unix_connection(protocol, origin.host)
        except TimeoutError as exc:
            raise UpstreamConnectError(
                f"expected the engine to accept a connection within {seconds:g} s; it did not: try again later",
                retry_after_seconds=1,
            ) from exc
        except OSError as exc:
            raise UpstreamConnectError(
                "expected the engine to accept a connection; it refused: try again later", retry_after_seconds=1
            ) from exc
        return connection

    def _forget(self, connection: Connection) -> None:
        idle = self._idle.get(connection.origin)
        if idle is not None:
            try:
                idle.remove(connection)
            except ValueError:
                return
            if not idle:
                del self._idle[connection.origin]

    async def run(self) -> None:
        """Keep the time limits, until cancelled."""
        while True:
            await asyncio.sleep(TICK_SECONDS)
            now = self._loop.time()
            for connection in tuple(self._active):
                if connection.deadline <= now and not connection.complete:
                    connection.expire(now)
            self._close_idle(now - self._idle_seconds)

    def _close_idle(self, oldest: float) -> None:
        for origin, idle in tuple(self._idle.items()):
            while idle and idle[0].idle_since < oldest:
                idle.popleft().abort()
            if not idle:
                del self._idle[origin]

    def close(self) -> None:
        """Close every connection."""
        for idle in self._idle.values():
            for connection in idle:
                connection.abort()
        self._idle.clear()
        for connection in tuple(self._active):
            connection.abort()
