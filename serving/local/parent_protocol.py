"""How clients talk to the engine parent: JSON lines over a unix socket that only this user may open.

Requests: `ping`, `list`, `start`. There is no `stop`: a leased engine ends with the connection that started it, and a
persistent one outlives the parent, so it is stopped by signal. Standard library only, see `processes`.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

PROTOCOL = 1
MAX_LINE_BYTES = 1 << 20


class ParentError(Exception):
    """The engine parent did not answer, or refused a request."""


@dataclass(frozen=True)
class StartRequest:
    """Start one engine.

    Attributes:
        token: Names this start; asking again with the same token returns the same process.
        argv: Argument vector from the interpreter on.
        env: Variables to add.
        log_path: File that gets its output, appended.
        identity_path: File that the engine writes its process number to before anything else.
        scratch: Folder for its temporary files and sockets; removed when it has ended.
        lease: It ends with the connection that asked for it.
        warm: Fork it from the imports of the parent, in place of starting `argv[0]`.
    """

    token: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    log_path: str
    identity_path: str
    scratch: str
    lease: bool
    warm: bool

    def message(self) -> dict[str, Any]:
        """Return the request as it goes over the socket."""
        return {"op": "start", **asdict(self)}

    @classmethod
    def parse(cls, message: Mapping[str, Any]) -> StartRequest:
        """Read a request.

        Raises:
            ParentError: It has a wrong key or type.
        """
        try:
            fields = {key: value for key, value in message.items() if key != "op"}
            request = cls(**{**fields, "argv": tuple(fields["argv"]), "env": dict(fields["env"])})
        except (TypeError, KeyError, ValueError) as exc:
            raise ParentError(f"expected a start request; got {sorted(message)}: {exc}") from exc
        texts = (request.token, request.log_path, request.identity_path, request.scratch, *request.argv)
        if not request.argv or not all(isinstance(text, str) for text in (*texts, *request.env.values())):
            raise ParentError("expected texts in argv, env and paths; got something else")
        return request


def socket_path(home: Path) -> Path:
    """Socket of the parent of a home."""
    return home / "run" / "engine-parent.sock"


@contextmanager
def short_address(path: Path) -> Iterator[str]:
    """Give an address for a unix socket however long its path is (the kernel's limit is 107 bytes)."""
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield f"/proc/self/fd/{folder}/{path.name}"
    finally:
        os.close(folder)


def encode(message: Mapping[str, Any]) -> bytes:
    """Return a message as one line."""
    return json.dumps(message).encode() + b"\n"


class ParentConnection:
    """One client's connection. Engines leased through it end when it is closed, or when this process dies."""

    def __init__(self, home: Path, timeout_seconds: float = 10.0) -> None:
        """Connect.

        Raises:
            ParentError: Nobody listens.
        """
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._socket.settimeout(timeout_seconds)
        try:
            with short_address(socket_path(home)) as address:
                self._socket.connect(address)
        except OSError as exc:
            self._socket.close()
            raise ParentError(f"the engine parent of {home} does not answer: {exc.strerror or exc}") from exc
        self._file = self._socket.makefile("rb")

    def ask(self, message: Mapping[str, Any]) -> dict[str, Any]:
        """Send a request and return the answer.

        Raises:
            ParentError: The parent refused, went away or took too long.
        """
        try:
            self._socket.sendall(encode(message))
            line = self._file.readline(MAX_LINE_BYTES)
            answer: dict[str, Any] = json.loads(line) if line else {"error": "it closed the connection"}
        except (OSError, ValueError) as exc:
            raise ParentError(f"the engine parent did not answer {message.get('op')!r}: {exc}") from exc
        if "error" in answer:
            raise ParentError(f"the engine parent refused {message.get('op')!r}: {answer['error']}")
        return answer

    def close(self) -> None:
        """Give back every lease of this connection."""
        self._file.close()
        self._socket.close()

    def __enter__(self) -> ParentConnection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
