"""A transport that sends an answer's head together with what follows it.

uvicorn writes head and body one after the other, and uvloop hands each write to the kernel at once: two system calls,
two packets, and a client that wakes twice. Joined, a short answer costs one of each.
"""

from __future__ import annotations

import asyncio
from typing import Any, Final

_MAX_JOINED_BYTES: Final = 65_536
"""Above this, copying the body costs more than a second write."""

_CONTINUE: Final = b"HTTP/1.1 100 Continue\r\n\r\n"


class HeldTransport:
    """Wraps a connection's transport; everything but `write` and `close` goes straight to it."""

    __slots__ = ("_held", "_in_body", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._in_body = False

    def write(self, data: bytes) -> None:
        """Hold an answer's head until its body's first piece, then write both; later pieces at once."""
        if self._in_body or data == _CONTINUE:
            self._transport.write(data)
        elif not self._held:
            self._held = data
        else:
            held, self._held, self._in_body = self._held, b"", True
            if len(data) > _MAX_JOINED_BYTES:
                self._transport.write(held)
                self._transport.write(data)
            else:
                self._transport.write(held + data)

    def end_answer(self) -> None:
        """Write a head that no body followed; what is written next is another answer's head."""
        if self._held:
            held, self._held = self._held, b""
            self._transport.write(held)
        self._in_body = False

    def close(self) -> None:
        """Write what is held, then close."""
        self.end_answer()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)
