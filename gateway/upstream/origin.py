"""Address of an engine: host and port, as a cheap dictionary key."""

from __future__ import annotations

from typing import NamedTuple
from urllib.parse import urlsplit


class Origin(NamedTuple):
    """Where to connect to. A named tuple because it is hashed once a request."""

    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """Parse `http://host[:port]`.

        Raises:
            ValueError: It is anything else.
        """
        parts = urlsplit(url)
        if parts.scheme != "http" or not parts.hostname or parts.path not in {"", "/"} or parts.query or parts.username:
            raise ValueError(f"expected http://host[:port]; got {url!r}: correct the endpoint's url")
        return cls(parts.hostname, parts.port if parts.port is not None else 80)

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"
