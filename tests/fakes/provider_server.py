"""What the fakes of external providers share: HTTP/1.1 on loopback, scripted faults, and a record of every request."""

from __future__ import annotations

import asyncio
import json
import threading
from abc import abstractmethod
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.fakes.thread_server import ThreadServer


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


class ProviderServer(ThreadServer):
    """A provider."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Asked] = []
        self.faults: deque[Fault] = deque()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

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
