"""Address of an engine: host and port, or a unix socket, as a cheap dictionary key."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit


class Origin(NamedTuple):
    """Where to connect to. A named tuple because it is hashed once a request. Port 0: `host` is a socket's path."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Parse `http://host[:port]`.

        Raises:
            ValueError: It is anything else.
        """
        parts = urlsplit(url)
        port = parts.port if parts.port is not None else 80
        plain = parts.scheme == "http" and parts.path in {"", "/"} and not parts.query and not parts.username
        if not plain or not parts.hostname or not port:
            raise ValueError(f"expected http://host[:port]; got {url!r}: correct the endpoint's url")
        return cls(parts.hostname, port)

    @classmethod
    def unix(cls, path: Path) -> Origin:
        """Return the origin of a unix socket."""
        return cls(str(path), 0)

    @property
    def authority(self) -> str:
        """What the `host` header says."""
        return str(self) if self.port else "localhost"

    def __str__(self) -> str:
        return f"{self.host}:{self.port}" if self.port else f"unix:{self.host}"
