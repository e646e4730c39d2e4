"""A request to a hot path without a connection: what a handler sends is kept for the test to look at."""

from __future__ import annotations

import json
from typing import Any, cast

from gateway.exchange import Exchange
from gateway.http_protocol import GuardedProtocol


class Answer:
    """What a client of HTTP/1.0 got: a head, then the body in the pieces that were written, until the end."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.pieces: list[bytes] = []
        self.ended = False

    def write(self, data: bytes) -> None:
        """Take what a handler writes: the head with its first piece, then a piece at a time."""
        if not self.status:
            head, _, data = data.partition(b"\r\n\r\n")
            status, *lines = head.decode().split("\r\n")
            self.status = int(status.split(" ")[1])
            self.headers = dict(line.split(": ", 1) for line in lines)
        if data:
            self.pieces.append(data)

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
        self.got = Answer()
        protocol = cast("GuardedProtocol", _Connection(self.got))
        super().__init__(protocol, path, pairs, keep_alive=True, expects_continue=False)
        self.feed(body)
        self.fed()


class _Connection:
    """A connection whose client reads and is read from all the time; it is its own parser, transport and flow."""

    client = ("10.0.0.9", 1)
    write_paused = False

    def __init__(self, answer: Answer) -> None:
        self.parser = self.transport = self.flow = self
        self._answer = answer
        self.write = answer.write

    def get_http_version(self) -> str:
        return "1.0"

    def date_header(self) -> bytes:
        return b""

    def pause_reading(self) -> None:
        return

    def resume_reading(self) -> None:
        return

    def on_response_complete(self) -> None:
        self._answer.ended = True
