"""An address that leads to one server now and to another later, like a Kubernetes Service or a Sentinel-aware proxy."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import Any, Self


class MovingAddress:
    """Forwards connections to `target`, a port of the loopback address; those that are open stay where they are."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self._ready = threading.Event()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(5)
        return self

    def __exit__(self, *_: Any) -> None:
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
        for task in tuple(self._tasks):
            if task is not None:
                task.cancel()
        await asyncio.sleep(0)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        writers = [writer]
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.target)
            writers.append(back)
            for ended in asyncio.as_completed([_copy(reader, back), _copy(there, writer)]):
                await ended
                break
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self._tasks.discard(asyncio.current_task())
            for one in writers:
                one.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with suppress(ConnectionError):
        while piece := await reader.read(65536):
            writer.write(piece)
            await writer.drain()
