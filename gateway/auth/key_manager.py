"""KeyManager: issues, rotates and revokes API keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from gateway.auth.key_format import NewKey, new_key
from gateway.auth.key_record import BrokenRecordError, KeyRecord
from gateway.auth.key_store import Change, KeyStore, WriteConflictError
from gateway.errors import InvalidRequestError, NotFoundError, NotReadyError
from serving.contracts.admin_api import IssueKey, KeyState

_TRIES: Final = 5
"""Of a change that meets another one to the same key."""


class KeyManager:
    """Changes keys for operators.

    Args:
        store: Where keys are.
        clock: Seconds since 1970.
    """

    def __init__(self, store: KeyStore, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._clock = clock

    def list(self) -> list[KeyRecord]:
        """Return all keys, the newest first."""
        return sorted(self._store.ring, key=lambda record: (-record.created, record.key_id))

    def get(self, key_id: str) -> KeyRecord:
        """Return a key.

        Raises:
            NotFoundError: There is none of this id.
        """
        record = self._store.ring.get(key_id)
        if record is None:
            raise _unknown()
        return record

    async def issue(self, order: IssueKey) -> tuple[KeyRecord, NewKey]:
        """Make a key. The credential exists only in what is returned.

        Raises:
            NotReadyError: Redis does not answer.
        """
        key, now = new_key(), self._clock()
        expires = None if order.lasts_seconds is None else now + order.lasts_seconds
        record = KeyRecord(
            key_id=key.key_id,
            tenant=order.tenant,
            name=order.name,
            digest=self._store.ring.digest(key.credential),
            created=now,
            scopes=order.scopes,
            family=key.key_id,
            expires=expires,
            models=order.models,
            pepper=self._store.ring.pepper,
        )
        try:
            await self._store.write([Change(b"", record)])
        except WriteConflictError:  # sent twice over a broken connection, and done the first time; or nearly impossible
            if await self._store.raw(key.key_id) != record.dump():
                raise NotReadyError("expected to draw a key id that is free; it was taken: try again") from None
            await self._store.start()
        return record, key

    async def rotate(self, key_id: str, overlap_seconds: float) -> tuple[KeyRecord, NewKey]:
        """Make a key that replaces another, which is accepted for so many seconds more.

        Raises:
            NotFoundError: There is none of this id.
            InvalidRequestError: It has ended, or was rotated already.
            NotReadyError: Redis does not answer.
        """
        key = new_key()

        def change(old: KeyRecord) -> Sequence[KeyRecord]:
            now = self._clock()
            state = old.state(now)
            if state is not KeyState.ACTIVE:
                raise InvalidRequestError(f"expected an active key to rotate; got {key_id}, which is {state}")
            new = replace(
                old,
                key_id=key.key_id,
                digest=self._store.ring.digest(key.credential),
                created=now,
                rotated_from=old.key_id,
                pepper=self._store.ring.pepper,
            )
            return new, replace(old, overlap_ends=now + overlap_seconds)

        return (await self._change(key_id, change))[0], key

    async def revoke(self, key_id: str) -> KeyRecord:
        """End a key at once and for good; one that was revoked before stays as it is.

        Raises:
            NotFoundError: There is none of this id.
            NotReadyError: Redis does not answer.
        """

        def change(old: KeyRecord) -> Sequence[KeyRecord]:
            return [old if old.revoked is not None else replace(old, revoked=self._clock())]

        return (await self._change(key_id, change))[0]

    def outdated(self, record: KeyRecord) -> bool:
        """Tell whether a key was made with another pepper than new ones are."""
        return self._store.ring.is_outdated(record)

    async def restore(self) -> int:
        """Write this process's keys into a Redis that has lost them; see `KeyStore.restore`."""
        try:
            return await self._store.restore()
        except WriteConflictError as exc:
            raise NotReadyError("expected keys to stay as they are meanwhile; one was changed: try again") from exc

    async def _change(self, key_id: str, change: Callable[[KeyRecord], Sequence[KeyRecord]]) -> Sequence[KeyRecord]:
        for _ in range(_TRIES):
            raw = await self._store.raw(key_id)
            if raw is None:
                raise _unknown()
            new = change(self._read(key_id, raw))
            try:
                await self._store.write([Change(raw if record.key_id == key_id else b"", record) for record in new])
            except WriteConflictError:
                continue
            return new
        raise NotReadyError(f"expected key {key_id} to stay as it is meanwhile; it was changed: try again")

    def _read(self, key_id: str, raw: bytes) -> KeyRecord:
        """Read a record; in the place of one that is broken, the last good one, which is in force here."""
        try:
            return KeyRecord.parse(raw)
        except BrokenRecordError as exc:
            known = self._store.ring.get(key_id)
            if known is None:
                raise NotReadyError(f"{exc}, of key {key_id}: restore it from a backup of Redis") from exc
            return known


def _unknown() -> NotFoundError:
    # What came is not repeated: it may be a whole key, pasted where its id belongs.
    return NotFoundError(
        "expected the id of an API key, the 12 characters in its middle; no key has this one: list them"
    )
