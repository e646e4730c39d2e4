"""An address that leads to one server now and to another later, like a Kubernetes Service or a Sentinel-aware proxy."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from tests.fakes.thread_server import ThreadServer


class MovingAddress(ThreadServer):
    """Forwards connections to `target`, a port of the loopback address; those that are open stay where they are."""

    def __init__(self, target: int) -> None:
        super().__init__()
        self.target = target

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

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
