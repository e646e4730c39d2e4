"""Hides user names in observations: a keyed hash whose key never leaves this installation."""

from __future__ import annotations

import os
import secrets
import tempfile
from hashlib import blake2b
from pathlib import Path
from typing import Final

KEY_FILE: Final = "user-hash.key"
_KEY_BYTES: Final = 32
_REMEMBERED_BYTES: Final = 128
"""Longer names, which anybody may send, would take memory."""


class UserHashKeyError(Exception):
    """The key file cannot be used; a new key would silently cut users' histories in two."""


class UserHasher:
    """Maps user ids to 32 hex digits with keyed BLAKE2b (RFC 7693, 2.9: keyed, it is a MAC).

    Args:
        key: Secret of this installation.
        size: Hashes remembered at most; then all are forgotten.
    """

    def __init__(self, key: bytes, size: int = 4096) -> None:
        self._key = key
        self._size = size
        self._known: dict[bytes, str] = {}

    def __call__(self, user: bytes) -> str:
        """Return the hash of a user id."""
        known = self._known
        found = known.get(user)
        if found is None:
            found = blake2b(user, digest_size=16, key=self._key).hexdigest()
            if len(known) >= self._size:
                known.clear()
            if len(user) <= _REMEMBERED_BYTES:
                known[user] = found
        return found


def load_key(folder: Path) -> bytes:
    """Return the installation's key, made at the first call; safe when several workers start at once.

    Raises:
        UserHashKeyError: The file is not 32 bytes that only its owner can read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / KEY_FILE
    if not path.exists():
        _create(folder, path)
    try:
        mode = path.stat().st_mode & 0o777
        key = path.read_bytes()
    except OSError as exc:
        raise UserHashKeyError(f"expected to read {path}; got {exc}: correct its owner or mode") from exc
    if len(key) != _KEY_BYTES or mode & 0o077:
        raise UserHashKeyError(
            f"expected {path} to hold {_KEY_BYTES} bytes with mode 0600; got {len(key)} with mode {mode:04o}: "
            "restore it from a backup, or remove it and accept that users get new hashes"
        )
    return key


def _create(folder: Path, path: Path) -> None:
    fd, name = tempfile.mkstemp(dir=folder, prefix=f".{KEY_FILE}.")  # mode 0600 by definition
    try:
        with os.fdopen(fd, "wb") as file:
            file.write(secrets.token_bytes(_KEY_BYTES))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(name, path)  # fails when another worker was first, and then its key counts
        except FileExistsError:
            return
    finally:
        Path(name).unlink(missing_ok=True)
