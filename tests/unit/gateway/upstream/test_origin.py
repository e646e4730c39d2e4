from __future__ import annotations

from pathlib import Path

import pytest

from gateway.upstream.origin import Origin


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("http://127.0.0.1:9101", ("127.0.0.1", 9101)),
        ("http://engine.models.svc/", ("engine.models.svc", 80)),
    ],
)
def test_an_address_is_host_and_port(url: str, expected: tuple[str, int]) -> None:
    """A plain HTTP address gives its host and port, which is 80 when none is given."""
    assert Origin.of(url) == expected


@pytest.mark.parametrize(
    "url", ["https://x", "http://x/path", "x:80", "", "http://u@x", "http://x?y", "http://", "http://x:0"]
)
def test_anything_else_is_refused(url: str) -> None:
    """An address with another scheme, a path, a query or a user, or without a host, is refused."""
    with pytest.raises(ValueError, match="expected http"):
        Origin.of(url)


def test_a_unix_socket_has_a_path_and_the_local_hosts_name() -> None:
    """A socket's origin is told from every address by port 0, and the host header never holds a path."""
    origin = Origin.unix(Path("/run/adapter.sock"))
    assert (origin.host, origin.port, origin.authority) == ("/run/adapter.sock", 0, "localhost")
    assert str(origin) == "unix:/run/adapter.sock"
    assert Origin("engine", 80).authority == "engine:80"
