"""What the workers of one gateway ask each other, so that any of them can speak for all.

Each worker answers for itself on an abstract unix socket (unix(7)) that is named after its gateway and its number. Such
a name needs no file and is free as soon as its process has ended, however it ended. In a rolling restart the old worker
keeps the name until its last request is done, so that nothing it counts is lost, and its successor takes it then. Both
ends look at whose process the other one is: another user's is neither answered nor believed. It may take a name that is
free, though, so the names are told to nobody in advance, and a worker that cannot have its own speaks for itself alone.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import os
import socket
import struct
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

METRICS: Final = "metrics"
HEALTH: Final = "health"

_ANSWER_SECONDS: Final = 0.5
"""Half of the time that a Kubernetes probe waits by default; an answer takes milliseconds."""

_LOOK_SECONDS: Final = 0.05
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid (struct ucred)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Place:
    """Which worker of a gateway this is: from 0, of how many, and the name that the gateway's sockets begin with."""

    index: int = 0
    count: int = 1
    name: str = ""


ALONE: Final = Place()


class Peers:
    """This worker and the others.

    Args:
        place: Which worker this is.
        answers: What each question is answered with, for this worker alone.
        patience_seconds: How long a predecessor may keep this worker's name.
    """

    def __init__(self, place: Place, answers: Mapping[str, Callable[[], bytes]], *, patience_seconds: float) -> None:
        self.place = place
        self._answers = answers
        self._patience_seconds = patience_seconds
        self._holds_name = False

    async def ask(self, question: str) -> list[bytes | None]:
        """Return what each worker answers, in their order; None of one that does not within half a second."""
        return list(await asyncio.gather(*(self._ask(index, question) for index in range(self.place.count))))

    async def run(self) -> None:
        """Answer the others, until cancelled."""
        with socket.socket(socket.AF_UNIX) as sock:
            await self._bind(sock)
            sock.setblocking(False)
            self._holds_name = True
            try:
                async with await asyncio.start_unix_server(self._serve, sock=sock) as server:
                    await server.serve_forever()
            finally:
                self._holds_name = False

    async def _bind(self, sock: socket.socket) -> None:
        """Take this worker's name as soon as it is free; say once when nobody of ours can have it any more."""
        warn_at = time.monotonic() + self._patience_seconds
        while not _bound(sock, _address(self.place, self.place.index)):
            if time.monotonic() >= warn_at:
                warn_at = float("inf")
                fields = {"worker": self.place.index, "seconds": self._patience_seconds}
                log.warning("another process keeps this worker's socket name", extra={"fields": fields})
            await asyncio.sleep(_LOOK_SECONDS)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                _check_own(writer.get_extra_info("socket"))
                answer = self._answers[(await reader.readuntil()).decode().strip()]()
                writer.write(b"%d\n%b" % (len(answer), answer))
                await writer.drain()
        except (TimeoutError, OSError, EOFError, asyncio.LimitOverrunError):
            pass  # who asks sees that there is no answer, and says so
        finally:
            writer.close()

    def _has_predecessor(self) -> bool:
        """Tell whether a process of this user has this worker's name: the worker that this one replaces."""
        if self.place.count == 1 or self._holds_name:
            return False
        try:
            _connected(_address(self.place, self.place.index)).close()
        except OSError:
            return False
        return True

    async def _ask(self, index: int, question: str) -> bytes | None:
        if index == self.place.index and not self._has_predecessor():
            return self._answers[question]()
        try:
            async with asyncio.timeout(_ANSWER_SECONDS):
                while True:
                    try:
                        return await _answer_of(_address(self.place, index), question)
                    except (OSError, EOFError):  # between one worker's end and the next one's start
                        await asyncio.sleep(_LOOK_SECONDS)
        except TimeoutError:
            return None


async def _answer_of(address: str, question: str) -> bytes:
    reader, writer = await asyncio.open_unix_connection(sock=_connected(address))
    try:
        writer.write(f"{question}\n".encode())
        return await reader.readexactly(int(await reader.readuntil()))
    finally:
        writer.close()


def _connected(address: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(address)  # a unix socket connects at once or not at all
        _check_own(sock)
    except BaseException:
        sock.close()
        raise
    return sock


def _address(place: Place, index: int) -> str:
    return f"\0{place.name}-{index}"


def _bound(sock: socket.socket, address: str) -> bool:
    try:
        sock.bind(address)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        return False
    return True


def _check_own(sock: socket.socket) -> None:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(raw)[1]
    if uid != os.geteuid():
        raise PermissionError(f"expected a process of user {os.geteuid()}; got one of user {uid}")
