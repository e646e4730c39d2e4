"""KeyRing: every API key in memory, so that a request costs one dictionary look-up and an HMAC a pepper."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Iterator, Sequence

from pydantic import SecretStr

from gateway.auth.key_format import key_digest, key_id_of
from gateway.auth.key_record import KeyRecord

_NOBODY = bytes(32)
"""Compared with for ids that do not exist, so that they take as long as wrong secrets do."""


class KeyRing:
    """The set of keys that this process knows. A key that has been put in never leaves: it can only end.

    Args:
        peppers: Secrets that keys are hashed with: new ones with the first, unless a newer one is in use elsewhere.

    Attributes:
        fingerprints: What tells one pepper from another and nothing else about it, in the same order.
        renewals: New digests, under the pepper of new keys, of keys that were right under another; by key id.
    """

    __slots__ = ("_current", "_keys", "_listeners", "_outdated", "_peppers", "_several", "fingerprints", "renewals")

    def __init__(self, *peppers: SecretStr) -> None:
        self._peppers = tuple(pepper.get_secret_value().encode() for pepper in peppers)
        self.fingerprints = tuple(
            hmac.digest(pepper, b"nexus key pepper", "sha256").hex()[:16] for pepper in self._peppers
        )
        self.renewals: dict[str, str] = {}
        self._current = 0
        self._several = len(self._peppers) > 1
        self._keys: dict[str, tuple[bytes, KeyRecord]] = {}
        self._outdated: set[str] = set()
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
                self._note_pepper(new)
                changed = True
        if changed:
            self._tell()

    def follow(self, history: Sequence[str]) -> None:
        """Use the newest of the peppers that were ever the first of a gateway, so that all come to use the same.

        Args:
            history: Their fingerprints, the newest last; it is one of this ring's, or this ring's first is not among
                them and so the newest.
        """
        current = self.fingerprints.index(history[-1]) if self.fingerprints[0] in history else 0
        several = len({*self.fingerprints, *history}) > 1
        if (current, several) != (self._current, self._several):
            self._current, self._several, self.renewals = current, several, {}
            for record in self:
                self._note_pepper(record)
            self._tell()  # keys in use are verified again, and so renewed

    @property
    def pepper(self) -> str:
        """Fingerprint of the pepper that new keys are made with."""
        return self.fingerprints[self._current]

    def digest(self, credential: str) -> str:
        """Return what is kept of a new key."""
        return key_digest(credential.encode(), self._peppers[self._current]).hex()

    def is_outdated(self, record: KeyRecord) -> bool:
        """Tell whether a record's digest was made with another pepper than new keys' are, or may have been."""
        return record.pepper != self.pepper and (record.pepper != "" or self._several)

    def outdated(self, now: float) -> list[KeyRecord]:
        """Return the records of that kind whose keys have not ended."""
        records = (self._keys[key_id][1] for key_id in self._outdated)
        return [record for record in records if now < record.ends]

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
        digests = [key_digest(credential, pepper) for pepper in self._peppers]
        right = [hmac.compare_digest(known, digest) for digest in digests]  # all of them, whichever is right
        if entry is None or not any(right) or now >= entry[1].ends:
            return None
        if key_id in self._outdated:
            self.renewals[key_id] = digests[self._current].hex()
        return entry[1]

    def _note_pepper(self, record: KeyRecord) -> None:
        if self.is_outdated(record):
            self._outdated.add(record.key_id)
        else:
            self._outdated.discard(record.key_id)
            self.renewals.pop(record.key_id, None)

    def _tell(self) -> None:
        for on_change in self._listeners:
            on_change()
