"""What an API key looks like: `nx_<12 public>_<30 secret><6 checksum>`, letters and digits only.

The prefix lets secret scanners find a leaked key, and the checksum lets them and us tell a key from a typo without
asking anybody. The secret is drawn from 62 characters, so it has 178 bits.
"""

from __future__ import annotations

import hmac
import re
import secrets
import string
import zlib
from typing import Final, NamedTuple

PREFIX: Final = "nx_"
KEY_PATTERN: Final = r"nx_[0-9A-Za-z]{12}_[0-9A-Za-z]{36}"
"""For secret scanners; the last six characters are CRC-32 of all before them, in base 62."""

_ALPHABET: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_ID_CHARACTERS: Final = 12
_SECRET_CHARACTERS: Final = 30
_CHECKSUM_CHARACTERS: Final = 6  # 62 ** 6 > 2 ** 32
_KEY: Final = re.compile(rb"nx_([0-9A-Za-z]{12})_[0-9A-Za-z]{36}")
_SUM_AT: Final = len(PREFIX) + _ID_CHARACTERS + 1 + _SECRET_CHARACTERS


class NewKey(NamedTuple):
    """A key just made. `credential` is shown once and never kept."""

    key_id: str
    credential: str

    def __repr__(self) -> str:
        return f"NewKey(key_id={self.key_id!r})"


def new_key() -> NewKey:
    """Make a key from the operating system's random numbers."""
    key_id = _draw(_ID_CHARACTERS)
    body = f"{PREFIX}{key_id}_{_draw(_SECRET_CHARACTERS)}"
    return NewKey(key_id, body + checksum(body.encode()).decode())


def key_id_of(credential: bytes) -> str | None:
    """Return the public id of what looks like a key; None when its form or checksum is wrong."""
    match = _KEY.fullmatch(credential)
    if match is None or credential[_SUM_AT:] != checksum(credential[:_SUM_AT]):
        return None
    return match[1].decode()


def checksum(body: bytes) -> bytes:
    """Return CRC-32 of the key's start as six characters of base 62, most significant first."""
    number = zlib.crc32(body)
    out = bytearray()
    for _ in range(_CHECKSUM_CHARACTERS):
        number, digit = divmod(number, 62)
        out.append(_BYTES[digit])
    out.reverse()
    return bytes(out)


def key_digest(credential: bytes, pepper: bytes) -> bytes:
    """Return what is kept of a key: HMAC-SHA256 of all of it, 32 bytes."""
    return hmac.digest(pepper, credential, "sha256")


def _draw(count: int) -> str:
    return "".join(secrets.choice(_ALPHABET) for _ in range(count))


_BYTES: Final = _ALPHABET.encode()
