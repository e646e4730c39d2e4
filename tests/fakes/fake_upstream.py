"""A fake engine for the gateway's tests: exact bytes, exact faults, and a record of what it was sent.

By default it answers like an OpenAI-compatible engine. A request's own body says otherwise, which also shows that
unknown fields survive: `"fake": {"pieces": [...], "pause": 0.01, "end": "keep"}` sends these pieces (latin-1 text) and
then keeps the connection, closes it, resets it, or hangs until the client leaves.
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import threading
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Received:
    """One request as it arrived."""

    target: str
    headers: dict[str, str]
    body: bytes
    connection: int
    client_left: threading.Event = field(default_factory=threading.Event)


def head(status: int = 200, content_type: str = "application/json", **headers: str) -> str:
    """Build an answer's head without framing headers."""
    lines = [f"HTTP/1.1 {status} X", f"content-type: {content_type}"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines) + "\r\n"


def whole(body: str, status: int = 200, content_type: str = "application/json", **headers: str) -> str:
    """Build a whole answer with a length."""
    return head(status, content_type, content_length=str(len(body)), **headers) + "\r\n" + body


def chunk(data: str) -> str:
    """Frame one chunk."""
    return f"{len(data):x}\r\n{data}\r\n"


STREAM_HEAD = head(content_type="text/event-stream", transfer_encoding="chunked") + "\r\n"
LAST_CHUNK = "0\r\n\r\n"


def event(content: str | None = None, **extra: Any) -> str:
    """Build one chat event."""
    choice = {"index": 0, "delta": {} if content is None else {"content": content}, "finish_reason": None}
    document = {"id": "x", "object": "chat.completion.chunk", "choices": [choice | extra.pop("choice", {})], **extra}
    return f"data: {json.dumps(document, separators=(',', ':'))}\n\n"


class FakeUpstream:
    """The server; use `async with`, or `start_in_thread` from synchronous tests.

    Args:
        script: Answers every request, whatever its body says; None for what the body says.
        obedient: False to ignore what bodies say, as the engine behind one that is to fail has to.
    """

    def __init__(self, script: dict[str, Any] | None = None, *, obedient: bool = True) -> None:
        self.keeps_requests = True
        self.script = script
        self.obedient = obedient
        self.requests: list[Received] = []
        self.connections = 0
        self.port = 0
        self._server: asyncio.Server | None = None
        self._protocols: set[_Connection] = set()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def __aenter__(self) -> FakeUpstream:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _Connection(self), "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._server is not None
        self._server.close()
        for protocol in tuple(self._protocols):
            await protocol.stop()
        await self._server.wait_closed()

    def drop_idle(self) -> None:
        """Close all connections on which nothing runs, as an engine does after its keep-alive time."""
        for protocol in tuple(self._protocols):
            if protocol.task is None or protocol.task.done():
                protocol.transport.close()

    def start_in_thread(self) -> FakeUpstream:
        """Serve from a thread until `stop_thread`."""
        started = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._stop = asyncio.Event()
            async with self:
                started.set()
                await self._stop.wait()

        self._thread = threading.Thread(target=lambda: asyncio.run(serve()), daemon=True)
        self._thread.start()
        assert started.wait(5)
        return self

    def stop_thread(self) -> None:
        assert self._loop is not None
        assert self._thread is not None
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)


class _Connection(asyncio.Protocol):
    def __init__(self, server: FakeUpstream) -> None:
        self.server = server
        self.buffer = b""
        self.task: asyncio.Task[None] | None = None
        self.current: Received | None = None
        server.connections += 1
        self.number = server.connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self.transport = transport
        self.server._protocols.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self.server._protocols.discard(self)
        if self.current is not None:
            self.current.client_left.set()
        if self.task is not None:
            self.task.cancel()

    async def stop(self) -> None:
        self.transport.abort()
        if self.task is not None:
            await asyncio.gather(self.task, return_exceptions=True)

    def data_received(self, data: bytes) -> None:
        self.buffer += data
        if b"\r\n\r\n" not in self.buffer:
            return
        raw, _, rest = self.buffer.partition(b"\r\n\r\n")
        first, *lines = raw.decode("latin-1").split("\r\n")
        headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
        length = int(headers.get("content-length", "0"))
        if len(rest) < length:
            return
        self.buffer = rest[length:]
        self.current = Received(first, headers, rest[:length], self.number)
        if self.server.keeps_requests:
            self.server.requests.append(self.current)
        self.task = asyncio.get_running_loop().create_task(self._answer(self.current))

    async def _answer(self, request: Received) -> None:
        body = json.loads(request.body)
        told = body.get("fake") if self.server.obedient else None
        script = self.server.script or told or _default_script(body)
        pause = script.get("pause", 0)
        for piece in script["pieces"]:
            if pause:
                await asyncio.sleep(pause)
            self.transport.write(piece.encode("latin-1"))
        end = script.get("end", "keep")
        if end == "close":
            self.transport.close()
        elif end == "reset":
            await asyncio.sleep(0.02)  # what was sent before is to arrive; a reset discards what is on its way
            sock = self.transport.get_extra_info("socket")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.transport.abort()
        elif end == "hang":
            await asyncio.sleep(30)
        else:
            self.current = None


def _default_script(body: dict[str, Any]) -> dict[str, Any]:
    count = int(body.get("max_tokens", 5))
    usage = {
        "prompt_tokens": 7,
        "completion_tokens": count,
        "total_tokens": 7 + count,
        "prompt_tokens_details": {"cached_tokens": 3},
    }
    if not body.get("stream"):
        message = {"role": "assistant", "content": "word " * count}
        choice = {"index": 0, "message": message, "finish_reason": "stop"}
        document = {"id": "x", "object": "chat.completion", "created": 1, "model": body["model"], "choices": [choice]}
        return {"pieces": [whole(json.dumps(document | {"usage": usage}))], "pause": body.get("pause", 0)}
    base = {"created": 1, "model": body["model"]}
    events = [event("", **base), *(event(f"w{i} ", **base) for i in range(count))]
    events.append(event(None, choice={"finish_reason": "stop"}, **base))
    if (body.get("stream_options") or {}).get("include_usage"):
        done = {"id": "x", "object": "chat.completion.chunk", **base, "choices": [], "usage": usage}
        events.append(f"data: {json.dumps(done, separators=(',', ':'))}\n\n")
    pieces = [STREAM_HEAD, *(chunk(piece) for piece in events), chunk("data: [DONE]\n\n") + LAST_CHUNK]
    return {"pieces": pieces, "pause": body.get("pause", 0)}
