"""A request to a hot path without a connection: what a handler sends is kept for the test to look at."""

from __future__ import annotations

import json
from typing import Any, cast

from gateway.errors import ClientGoneError
from gateway.exchange import Exchange
from gateway.http_protocol import GuardedProtocol
from serving.contracts.gateway_policy import RequestLimits


class Answer:
    """What a client got."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = False

    @property
    def body(self) -> bytes:
        return b"".join(self.pieces)

    @property
    def error(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.body)["error"]
        return found


class FakeExchange(Exchange):
    """An exchange whose body has arrived and whose answer is kept in `got`."""

    __slots__ = ("got",)

    def __init__(self, path: str, body: bytes, headers: dict[str, str] | None = None) -> None:
        pairs = [(name.lower().encode(), value.encode()) for name, value in (headers or {}).items()]
        pairs.append((b"content-length", b"%d" % len(body)))
        protocol = cast("GuardedProtocol", _Client())
        super().__init__(protocol, path, pairs, keep_alive=True, expects_continue=False)
        self.got = Answer()
        self.feed(body)
        self.fed()

    async def read_body(self, limits: RequestLimits) -> bytes:
        if self.disconnected:
            raise ClientGoneError("the client left before the end of its request")
        return await super().read_body(limits)

    def answer(self, status: int, headers: bytes, body: bytes) -> None:
        self._head_of(status, headers)
        self.got.headers["content-length"] = str(len(body))
        self.end(body)

    def start(self, status: int, headers: bytes, data: bytes = b"") -> None:
        self._head_of(status, headers)
        if data:
            self.got.pieces.append(data)

    def _head_of(self, status: int, headers: bytes) -> None:
        assert not self.response_started
        if self.disconnected:
            return
        self.response_started = True
        self.got.status = status
        lines = headers.decode().removesuffix("\r\n").split("\r\n")
        self.got.headers = dict(line.split(": ", 1) for line in lines)

    async def send(self, data: bytes) -> None:
        if not self.disconnected:
            self.got.pieces.append(data)

    def end(self, data: bytes = b"") -> None:
        if self.disconnected:
            return
        if data:
            self.got.pieces.append(data)
        self.got.ended = self.response_complete = True
        self.on_gone = None


class _Client:
    """A connection whose client is always read from."""

    client = ("10.0.0.9", 1)

    def __init__(self) -> None:
        self.flow = self

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return
