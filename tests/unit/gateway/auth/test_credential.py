from __future__ import annotations

import pytest

from gateway.auth.credential import credential_headers, credential_of
from gateway.auth.refusals import WrongCredentialError


@pytest.mark.parametrize(
    ("authorization", "api_key", "expected"),
    [
        (None, None, None),
        (b"Bearer abc", None, b"abc"),
        (b"bearer abc", None, b"abc"),
        (b"BEARER abc", None, b"abc"),
        (None, b"abc", b"abc"),
        (b"Bearer abc", b"abc", b"abc"),
    ],
)
def test_the_credential_is_found(authorization: bytes | None, api_key: bytes | None, expected: bytes | None) -> None:
    """Either header may hold it, or both the same one."""
    assert credential_of(authorization, api_key) == expected


@pytest.mark.parametrize(
    ("authorization", "api_key"),
    [
        (b"", None),
        (b"abc", None),
        (b"Bearer", None),
        (b"Bearer ", None),
        (b"Bearerabc", None),
        (b"Basic abc", None),
        (b"Token abc", None),
        (b"Bearer a" + b"b" * 8192, None),
        (None, b""),
        (None, b"a" * 8193),
        (b"Bearer abc", b"abd"),
        (b"Bearer abc", b""),
        (b"Basic abc", b"abc"),
    ],
)
def test_a_malformed_or_second_credential_is_refused(authorization: bytes | None, api_key: bytes | None) -> None:
    """Another scheme, nothing behind it, too much of it, or two different ones: refused, never taken for none."""
    with pytest.raises(WrongCredentialError):
        credential_of(authorization, api_key)


def test_headers_are_found_among_others() -> None:
    """Only the two headers count."""
    headers = [(b"host", b"x"), (b"authorization", b"Bearer a"), (b"x-api-key", b"a"), (b"cookie", b"b")]
    assert credential_headers(headers) == (b"Bearer a", b"a")
    assert credential_headers(headers[:1]) == (None, None)


@pytest.mark.parametrize("name", [b"authorization", b"x-api-key"])
def test_a_header_that_stands_twice_is_refused(name: bytes) -> None:
    """Two headers are refused even with the same value: readers differ in which one they take."""
    with pytest.raises(WrongCredentialError, match="got several"):
        credential_headers([(name, b"Bearer a"), (b"x", b"y"), (name, b"Bearer a")])
