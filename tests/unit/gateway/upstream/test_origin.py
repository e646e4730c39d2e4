from __future__ import annotations

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


@pytest.mark.parametrize("url", ["https://x", "http://x/path", "x:80", "", "http://u@x", "http://x?y", "http://"])
def test_anything_else_is_refused(url: str) -> None:
    """An address with another scheme, a path, a query or a user, or without a host, is refused."""
    with pytest.raises(ValueError, match="expected http"):
        Origin.of(url)
