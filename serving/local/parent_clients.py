"""One client of the engine parent: its unread bytes and its leases. Standard library only."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from serving.local.parent_protocol import MAX_LINE_BYTES, StartRequest, encode

_SEND_SECONDS = 1.0  # a client that does not read its answers must not hold up the others


class Client:
    """A connection and the tokens of what it leased."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self.connection = connection
        self.leases: set[str] = set()
        self._buffer = b""

    def receive(self) -> list[Mapping[str, Any]] | None:
        """Return the whole messages that have come; None when the client is gone or does not speak the protocol."""
        try:
            data = self.connection.recv(65536)
        except BlockingIOError:
            return []
        except OSError:
            return None
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        if not data or len(self._buffer) > MAX_LINE_BYTES:
            return None
        try:
            messages = [json.loads(line) for line in lines]
        except ValueError:
            return None
        return messages if all(isinstance(message, dict) for message in messages) else None

    def send(self, message: Mapping[str, Any]) -> None:
        """Answer; a client that is gone is noticed when it is read next."""
        self.connection.settimeout(_SEND_SECONDS)
        try:
            self.connection.sendall(encode(message))
        except OSError:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)
        self.connection.setblocking(False)


def remove_files(request: StartRequest) -> None:
    """Remove the temporary files of an engine that has ended, and the file it identified itself by."""
    shutil.rmtree(request.scratch, ignore_errors=True)
    Path(request.identity_path).unlink(missing_ok=True)
