"""RedisLink: one connection to Redis as an asyncio protocol over hiredis, for the batches that requests wait for.

One command at a time or several: answers come in order, each to its own function, and cost a request nothing but its
share of one write and one read. ADR 0006 says what this buys over redis-py.
"""

from __future__ import annotations

import asyncio
import ssl
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, cast
from urllib.parse import parse_qs, unquote, urlsplit

import hiredis

from gateway.redis_server import HELLO, check_server

_PORT: Final = 6379

_pack = cast("Callable[[tuple[str | bytes | int, ...]], bytes]", hiredis.pack_command)
"""hiredis' own stub takes a tuple of one."""


def pack(*parts: str | bytes | int) -> bytes:
    """Return a command in the protocol of Redis."""
    return _pack(parts)


class RedisAnswerError(Exception):
    """Redis answered with an error."""


@dataclass(frozen=True, slots=True)
class RedisAddress:
    """Where Redis is. `path` is a unix socket; a password never shows in a repr."""

    host: str = "localhost"
    port: int = _PORT
    path: str | None = None
    tls: bool = False
    user: str | None = None
    password: str | None = field(default=None, repr=False)
    database: int = 0

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read `redis://`, `rediss://` (both `[user:password@]host[:port][/database]`) or `unix:///path[?db=0]`.

        Raises:
            ValueError: It is none of these; the message does not hold the address, which may hold a password.
        """
        parts = urlsplit(url)
        query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
        user, password = (unquote(text) if text else None for text in (parts.username, parts.password))
        try:
            if parts.scheme == "unix" and parts.path:
                path, database = unquote(parts.path), int(query.get("db", "0"))
                return cls(path=path, user=user, password=password, database=database)
            if parts.scheme in {"redis", "rediss"} and parts.hostname:
                number = int(query.get("db") or parts.path.strip("/") or "0")
                tls = parts.scheme == "rediss"
                return cls(parts.hostname, parts.port or _PORT, None, tls, user, password, number)
        except ValueError:
            pass
        raise ValueError("expected a Redis address such as redis://host:6379/0, rediss://host:6379 or unix:///path")


class RedisLink(asyncio.Protocol):
    """A connection.

    Args:
        on_lost: Called once when it ends other than by `close`.
    """

    def __init__(self, on_lost: Callable[[str], None]) -> None:
        self._on_lost = on_lost
        self._reader = hiredis.Reader()
        self._waiting: deque[Callable[[object], None]] = deque()
        self._transport: asyncio.Transport | None = None
        self.closed = False

    @classmethod
    async def open(cls, address: RedisAddress, on_lost: Callable[[str], None]) -> Self:
        """Connect and sign in.

        Raises:
            OSError: It cannot be connected to.
            RedisAnswerError: It does not let us in.
            NotPrimaryError: It is a replica.
            RedisClusterError: It is a node of a Redis Cluster.
        """
        loop = asyncio.get_running_loop()
        if address.path is not None:
            _, link = await loop.create_unix_connection(lambda: cls(on_lost), str(Path(address.path)))
        else:
            context = ssl.create_default_context() if address.tls else None
            _, link = await loop.create_connection(lambda: cls(on_lost), address.host, address.port, ssl=context)
        try:
            if address.password is not None:
                who = (address.user,) if address.user else ()
                await link.ask("AUTH", *who, address.password)
            check_server(await link.ask(HELLO))
            if address.database:
                await link.ask("SELECT", str(address.database))
            await link.ask("CLIENT", "SETNAME", "nexus-gateway-limits")
        except BaseException:
            link.close()
            raise
        return link

    def send(self, command: bytes, then: Callable[[object], None]) -> None:
        """Send a packed command; `then` gets its answer (an exception object for an error), or is never called."""
        assert self._transport is not None
        self._waiting.append(then)
        self._transport.write(command)

    async def ask(self, *parts: str | bytes) -> object:
        """Send a command and wait for its answer.

        Raises:
            RedisAnswerError: It is an error.
            OSError: The connection ended.
        """
        future: asyncio.Future[object] = asyncio.get_running_loop().create_future()

        def answered(answer: object) -> None:
            if not future.done():
                future.set_result(answer)

        if self.closed:
            raise ConnectionResetError("Redis closed the connection")
        self.send(pack(*parts), answered)
        answer = await future
        if isinstance(answer, Exception):
            if isinstance(answer, OSError):
                raise answer
            raise RedisAnswerError(str(answer))
        return answer

    def close(self) -> None:
        """End the connection at once; nobody is told."""
        self.closed = True
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Hand out the answers that are complete."""
        try:
            self._reader.feed(data)
            while not self.closed and (answer := self._reader.gets()) is not False:
                self._waiting.popleft()(answer)
        except (hiredis.ProtocolError, IndexError) as exc:  # or an answer that nobody waits for
            self._end(f"not the protocol of Redis: {exc}")

    def connection_lost(self, exc: Exception | None) -> None:
        """Say that it ended."""
        self._end(f"the connection ended: {exc or 'closed by Redis'}")

    def _end(self, reason: str) -> None:
        if self.closed:
            return
        self.closed = True
        waiting, self._waiting = self._waiting, deque()
        if self._transport is not None:
            self._transport.abort()
        for then in waiting:
            then(ConnectionResetError(reason))
        self._on_lost(reason)
