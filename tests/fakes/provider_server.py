"""What the fakes of external providers share: HTTP/1.1 on loopback, scripted faults, and a record of every request."""

from __future__ import annotations

import asyncio
import json
import threading
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass
class Asked:
    """One request as it arrived; `left` is set when its client closed the connection before the answer's end."""

    path: str
    headers: dict[str, str]
    body: dict[str, Any]
    raw: bytes = b""
    left: threading.Event = field(default_factory=threading.Event)


@dataclass
class Reply:
    """An answer: a JSON document, or events of a stream that are sent one by one.

    `cut` closes the connection after so many events; `hang` never sends what comes after them.
    """

    status: int = 200
    document: dict[str, Any] | None = None
    events: Sequence[str | bytes] = ()
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    hang: int | None = None


@dataclass
class Fault:
    """How the next request fails: an error of the provider's own, a cut or hanging stream, or silence."""

    status: int | None = None
    kind: str = ""
    cut: int | None = None
    hang: int | None = None
    silent: bool = False
    retry_after: str | None = None


class ProviderServer(ABC):
    """A provider; `with` starts it in a thread."""

    def __init__(self) -> None:
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()
        self.port = 0
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> ProviderServer:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(5)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._tasks: set[asyncio.Task[Any] | None] = set()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for task in [task for task in self._tasks if task is not None]:
            task.cancel()
        await asyncio.sleep(0)

    @abstractmethod
    def answer(self, asked: Asked, fault: Fault | None) -> Reply:
        """Say what a request is answered with."""

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        self._tasks.add(task)
        asked: Asked | None = None
        try:
            while (asked := await _read(reader)) is not None:
                self.asked.append(asked)
                fault = self.faults.popleft() if self.faults else None
                if not await self._respond(asked, fault, reader, writer):
                    break
        except ConnectionError:
            if asked is not None:
                asked.left.set()
        except asyncio.CancelledError:
            pass
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _respond(
        self, asked: Asked, fault: Fault | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> bool:
        reply = Reply(hang=0) if fault is not None and fault.silent else self.answer(asked, fault)
        if fault is not None and not fault.silent:
            reply.cut, reply.hang = fault.cut, fault.hang
        if reply.document is not None:
            raw = json.dumps(reply.document).encode()
            headers = {"content-type": "application/json", "content-length": str(len(raw))} | reply.headers
            writer.write(_head(reply.status, headers) + raw)
            await writer.drain()
            return True
        if reply.hang != 0 or reply.events:
            headers = {"content-type": "text/event-stream; charset=utf-8", "transfer-encoding": "chunked"}
            writer.write(_head(reply.status, headers | reply.headers))
        for number, event in enumerate(reply.events):
            if number == reply.cut:
                await asyncio.sleep(0.05)  # what was sent before is to arrive
                return False
            if number == reply.hang:
                break
            raw = event.encode() if isinstance(event, str) else event
            writer.write(f"{len(raw):x}\r\n".encode() + raw + b"\r\n")
            await writer.drain()
            await asyncio.sleep(0.002)  # events are to arrive one by one
        if reply.hang is not None:
            if await reader.read(1) == b"":
                asked.left.set()
            return False
        writer.write(b"0\r\n\r\n")
        await writer.drain()
        return True


async def _read(reader: asyncio.StreamReader) -> Asked | None:
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    first, *lines = raw.decode("latin-1").strip().split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in lines)}
    body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Asked(first.split(" ")[1], headers, json.loads(body or b"{}"), body)


def _head(status: int, headers: dict[str, str]) -> bytes:
    lines = [f"HTTP/1.1 {status} X", *(f"{name}: {value}" for name, value in headers.items())]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
