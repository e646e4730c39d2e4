"""KeyRecord: all that is kept of an API key. Its secret is not among it."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from typing import Any

import orjson

from serving.contracts.admin_api import KeyScope, KeyState


class BrokenRecordError(Exception):
    """What Redis holds under a key's id is no record."""


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key; times are seconds since 1970.

    Attributes:
        key_id: Public id, the middle of the key.
        tenant: Who owns it.
        name: What people call it.
        digest: HMAC-SHA256 of the key, hex.
        created: When it was issued.
        scopes: What it may be used for.
        family: Id of the first key of its rotations: limits and spend are counted by it.
        expires: When it ends; None for never.
        models: What it may ask for; empty for all that its tenant may.
        rotated_from: Id of the key that it replaces.
        overlap_ends: When it ends because another has replaced it.
        revoked: When it was revoked; final.
        pepper: Fingerprint of the pepper that `digest` was made with; empty when nobody wrote it down.
    """

    key_id: str
    tenant: str
    name: str
    digest: str = field(repr=False)
    created: float
    scopes: tuple[KeyScope, ...]
    family: str
    expires: float | None = None
    models: tuple[str, ...] = ()
    rotated_from: str | None = None
    overlap_ends: float | None = None
    revoked: float | None = None
    pepper: str = ""

    @property
    def ends(self) -> float:
        """When it stops being accepted; infinity for never.

        A revoked key has ended at any time: the clock of whoever revoked it may have been ahead of ours.
        """
        if self.revoked is not None:
            return float("-inf")
        ends = _earlier(self.expires, self.overlap_ends)
        return float("inf") if ends is None else ends

    def state(self, now: float) -> KeyState:
        """Say what the key is at a moment."""
        if self.revoked is not None:
            return KeyState.REVOKED
        if now >= self.ends:
            return KeyState.EXPIRED
        return KeyState.ACTIVE if self.overlap_ends is None else KeyState.REPLACED

    def merged(self, other: KeyRecord) -> KeyRecord:
        """Return the stricter of two states of one key: what ended it on either side ends it."""
        return replace(
            self,
            expires=_earlier(self.expires, other.expires),
            overlap_ends=_earlier(self.overlap_ends, other.overlap_ends),
            revoked=_earlier(self.revoked, other.revoked),
        )

    def dump(self) -> bytes:
        """Return the record as JSON, the same bytes for the same record."""
        return orjson.dumps(asdict(self), option=orjson.OPT_SORT_KEYS)

    @classmethod
    def parse(cls, raw: bytes) -> KeyRecord:
        """Read a record; keys that a newer gateway has added are ignored.

        Raises:
            BrokenRecordError: It is no record.
        """
        try:
            data: dict[str, Any] = orjson.loads(raw)
            known = {name: data[name] for name in cls.__slots__ if name in data}
            known["scopes"] = tuple(KeyScope(scope) for scope in known["scopes"])
            known["models"] = tuple(known.get("models", ()))
            record = cls(**known)
            times = (record.expires, record.overlap_ends, record.revoked)
            sound = len(bytes.fromhex(record.digest)) == 32 and all(isinstance(t, float | int | None) for t in times)
        except (ValueError, TypeError, KeyError) as exc:
            raise BrokenRecordError(f"expected an API key's record; got {type(exc).__name__}: {exc}") from None
        names = (record.key_id, record.tenant, record.name, record.family, record.pepper, *record.models)
        if not sound or not all(isinstance(name, str) for name in names):
            raise BrokenRecordError("expected an API key's record; got a field of the wrong type or length")
        return record


def _earlier(one: float | None, other: float | None) -> float | None:
    times = [time for time in (one, other) if time is not None]
    return min(times, default=None)
