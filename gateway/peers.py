"""What the workers of one gateway ask each other, so that any of them can speak for all.

Each worker answers for itself on an abstract unix socket (unix(7)) that is named after its gateway and its number. Such
a name needs no file and is free as soon as its process has ended, however it ended. In a rolling restart the old worker
keeps the name until its last request is done, so that nothing it counts is lost, and its successor takes it then. Both
ends look at whose process the other one is: another user's is neither answered nor believed.
"""

from __future__ import annotations

import asyncio
import os
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

METRICS: Final = "metrics"
HEALTH: Final = "health"

_ANSWER_SECONDS: Final = 0.5
"""Half of the time that a Kubernetes probe waits by default; an answer takes milliseconds."""

_LOOK_SECONDS: Final = 0.05
_CREDENTIALS: Final = struct.Struct("3i")  # pid, uid, gid (struct ucred)


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
    """

    def __init__(self, place: Place, answers: Mapping[str, Callable[[], bytes]]) -> None:
        self.place = place
        self._answers = answers
        self._holds_name = False

    async def ask(self, question: str) -> list[bytes | None]:
        """Return what each worker answers, in their order; None of one that does not within half a second."""
        return list(await asyncio.gather(*(self._ask(index, question) for index in range(self.place.count))))

    async def run(self) -> None:
        """Answer the others, until cancelled."""
        place = self.place
        with socket.socket(socket.AF_UNIX) as sock:
            while not _bound(sock, _address(place, place.index)):  # noqa: ASYNC110 - a predecessor's end sets no event
                await asyncio.sleep(_LOOK_SECONDS)
            sock.setblocking(False)
            self._holds_name = True
            try:
                async with await asyncio.start_unix_server(self._serve, sock=sock) as server:
                    await server.serve_forever()
            finally:
                self._holds_name = False

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

    async def _ask(self, index: int, question: str) -> bytes | None:
        if self.place.count == 1 or (self._holds_name and index == self.place.index):
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
    sock = socket.socket(socket.AF_UNIX)
    try:
        sock.setblocking(False)
        sock.connect(address)  # a unix socket connects at once or not at all
        _check_own(sock)
        reader, writer = await asyncio.open_unix_connection(sock=sock)
    except BaseException:
        sock.close()
        raise
    try:
        writer.write(f"{question}\n".encode())
        return await reader.readexactly(int(await reader.readuntil()))
    finally:
        writer.close()


def _address(place: Place, index: int) -> str:
    return f"\0{place.name}-{index}"


def _bound(sock: socket.socket, address: str) -> bool:
    try:
        sock.bind(address)
    except OSError:
        return False
    return True


def _check_own(sock: socket.socket) -> None:
    raw = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    uid: int = _CREDENTIALS.unpack(raw)[1]
    if uid != os.geteuid():
        raise PermissionError(f"expected a process of user {os.geteuid()}; got one of user {uid}")
