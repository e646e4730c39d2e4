from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.auth.key_format import KEY_PATTERN, checksum, key_digest, key_id_of, new_key


def test_a_new_key_has_its_form_and_enough_secret() -> None:
    """A key fits the scanners' pattern, holds its id, and its secret has at least 160 bits of 62 characters."""
    key = new_key()
    assert re.fullmatch(KEY_PATTERN, key.credential)
    assert key_id_of(key.credential.encode()) == key.key_id
    secret = key.credential.split("_")[2][:30]
    assert 62 ** len(secret) >= 2**160


def test_keys_differ() -> None:
    """Of a thousand keys no two share an id or a secret."""
    keys = [new_key() for _ in range(1000)]
    assert len({key.key_id for key in keys}) == len({key.credential.split("_")[2] for key in keys}) == 1000


@pytest.mark.parametrize(
    "spoil",
    [
        lambda key: key[:-1],
        lambda key: key + "0",
        lambda key: key.upper(),
        lambda key: key.replace("nx_", "sk_"),
        lambda key: key.replace("_", "-"),
        lambda key: f" {key}",
        lambda key: f"{key}\n",
        lambda key: key[:20] + ("a" if key[20] != "a" else "b") + key[21:],
        lambda key: key[:5] + ("a" if key[5] != "a" else "b") + key[6:],
        lambda key: key[:20] + key[21] + key[20] + key[22:] if key[20] != key[21] else "",
        lambda key: key[:-6] + "000000",
        lambda key: key.replace("n", "\uff4e", 1),
        lambda _: "",
    ],
)
def test_a_typo_is_known_without_a_look_up(spoil: object) -> None:
    """A key with one character changed, swapped, missing or added has no id."""
    key = new_key().credential
    assert key_id_of(spoil(key).encode()) is None  # type: ignore[operator]


@given(st.binary(max_size=80))
def test_any_bytes_are_judged(raw: bytes) -> None:
    """Whatever comes, it is told not to be a key, or is one with the right checksum."""
    assert key_id_of(raw) is None or raw.endswith(checksum(raw[:-6]))


def test_the_checksum_is_crc32_in_base_62() -> None:
    """The known CRC-32 of `123456789`, cbf43926 in hex, is 3jZUBG in base 62."""
    number = 0xCBF43926
    out = ""
    while number:
        number, digit = divmod(number, 62)
        out = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"[digit] + out
    assert checksum(b"123456789").decode() == out.rjust(6, "0")


def test_the_digest_needs_the_pepper() -> None:
    """The same key has other digests under other peppers."""
    assert key_digest(b"key", b"one") != key_digest(b"key", b"two")
    assert len(key_digest(b"key", b"one")) == 32
