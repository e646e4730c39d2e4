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
    assert Origin.of(url) == expected


@pytest.mark.parametrize("url", ["https://x", "http://x/path", "x:80", "", "http://u@x", "http://x?y", "http://"])
def test_anything_else_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="expected http"):
        Origin.of(url)
