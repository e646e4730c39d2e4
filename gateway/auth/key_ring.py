"""KeyRing: every API key in memory, so that a request costs one dictionary look-up and one HMAC."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator

from pydantic import SecretStr

from gateway.auth.key_format import key_digest, key_id_of
from gateway.auth.key_record import KeyRecord

_NOBODY = bytes(32)
"""Compared with for ids that do not exist, so that they take as long as wrong secrets do."""


class KeyRing:
    """The set of keys that this process knows. A key that has been put in never leaves: it can only end.

    Args:
        pepper: Secret that keys are hashed with.
    """

    __slots__ = ("_keys", "_listeners", "_pepper")

    def __init__(self, pepper: SecretStr) -> None:
        self._pepper = pepper.get_secret_value().encode()
        self._keys: dict[str, tuple[bytes, KeyRecord]] = {}
        self._listeners: list[Callable[[], None]] = []

    def __repr__(self) -> str:
        return f"KeyRing({len(self._keys)} keys)"

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[KeyRecord]:
        return (record for _, record in self._keys.values())

    def get(self, key_id: str) -> KeyRecord | None:
        """Return the record of a key."""
        entry = self._keys.get(key_id)
        return None if entry is None else entry[1]

    def listen(self, on_change: Callable[[], None]) -> None:
        """Let somebody know of each change: whoever remembers verified credentials has to forget them."""
        self._listeners.append(on_change)

    def put(self, records: Iterable[KeyRecord]) -> None:
        """Add or replace keys. What has ended a key stays: an older record never brings one back."""
        changed = False
        for record in records:
            known = self.get(record.key_id)
            new = record if known is None else record.merged(known)
            if new != known:
                self._keys[record.key_id] = (bytes.fromhex(new.digest), new)
                changed = True
        if changed:
            for on_change in self._listeners:
                on_change()

    def digest(self, credential: str) -> str:
        """Return what is kept of a new key."""
        return key_digest(credential.encode(), self._pepper).hex()

    def fingerprint(self) -> str:
        """Return what tells one pepper from another and nothing else about it."""
        return hmac.digest(self._pepper, b"nexus key pepper", "sha256").hex()[:16]

    def verify(self, credential: bytes, now: float) -> KeyRecord | None:
        """Return the key's record when the credential is right and the key has not ended.

        Args:
            credential: The whole key.
            now: Seconds since 1970.
        """
        key_id = key_id_of(credential)
        if key_id is None:
            return None
        entry = self._keys.get(key_id)
        known = entry[0] if entry is not None else _NOBODY
        right = hmac.compare_digest(known, key_digest(credential, self._pepper))
        if entry is None or not right or now >= entry[1].ends:
            return None
        return entry[1]
