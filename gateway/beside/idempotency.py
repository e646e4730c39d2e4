"""`Idempotency-Key`: the same key and the same request get the same answer, however often and however many at once.

The first request with a key claims it; repeats wait for its answer and get that. Another request with it is refused. An
answer that is worth a new try (5xx, 429, a client that left) frees the key. Keys belong to a credential, so nobody can
ask for another's answer.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import time
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

from gateway.errors import ClientGoneError, IdempotencyConflictError, InvalidRequestError, NotReadyError
from gateway.exchange import AnswerCopy

_POLL_SECONDS: Final = 0.05
_MAX_POLL_SECONDS: Final = 0.5
_MAX_KEY_BYTES: Final = 255

log = logging.getLogger(__name__)


class Entry(NamedTuple):
    """What is known of a key. `status` is 0 while the first request is under way, -1 when its answer was too long."""

    fingerprint: bytes
    status: int
    content_type: bytes = b""
    body: bytes = b""


class EntryStore(Protocol):
    """Where entries are kept; operations on one key are atomic."""

    async def claim(self, key: bytes, entry: Entry, seconds: float) -> Entry | None:
        """Put an entry where there is none and return None, or return the one that is there."""

    async def replace(self, key: bytes, entry: Entry, seconds: float) -> None:
        """Put an entry in the place of this process's own claim."""

    async def remove(self, key: bytes) -> None:
        """Free a key."""


class MemoryStore:
    """Entries of one process, for a gateway without Redis.

    Args:
        max_entries: Most keys kept; above it the oldest goes.
    """

    def __init__(self, max_entries: int = 4_096) -> None:
        self._entries: dict[bytes, tuple[Entry, float]] = {}
        self._max_entries = max_entries

    async def claim(self, key: bytes, entry: Entry, seconds: float) -> Entry | None:
        """See `EntryStore`."""
        found = self._entries.get(key)
        if found is not None and found[1] > time.monotonic():
            return found[0]
        await self.replace(key, entry, seconds)
        return None

    async def replace(self, key: bytes, entry: Entry, seconds: float) -> None:
        """See `EntryStore`."""
        self._entries.pop(key, None)
        while len(self._entries) >= self._max_entries:
            del self._entries[next(iter(self._entries))]
        self._entries[key] = (entry, time.monotonic() + seconds)

    async def remove(self, key: bytes) -> None:
        """See `EntryStore`."""
        self._entries.pop(key, None)


class UnsharedStore(MemoryStore):
    """For several workers without a Redis: a repeat may reach another worker, so nothing is promised."""

    async def claim(self, key: bytes, entry: Entry, seconds: float) -> Entry | None:
        """Refuse it.

        Raises:
            NotReadyError: Always.
        """
        raise NotReadyError(
            "expected a Redis, by which the gateway's workers know each other's Idempotency-Keys; there is none: send "
            "the request without one, or have NEXUS_GATEWAY_REDIS_URL set"
        )


class Idempotency:
    """Claims keys and answers repeats.

    Args:
        store: Where entries are kept.
    """

    def __init__(self, store: EntryStore) -> None:
        self._store = store

    async def claim(
        self, key: bytes, fingerprint: bytes, seconds: float, gone: Callable[[], bool] = lambda: False
    ) -> Entry | None:
        """Claim a key for a request, or wait for the answer of the one that has it.

        Args:
            key: From `key_of`.
            fingerprint: From `fingerprint_of`.
            seconds: Longest time that the first request may take, and that this one waits.
            gone: Tells whether the client has left.

        Returns:
            None when this request is the first and has to be answered; else the answer to repeat.

        Raises:
            IdempotencyConflictError: The key came with another request, its answer was not kept, or did not come.
            ClientGoneError: The client left while it waited.
        """
        end, pause = time.monotonic() + seconds, _POLL_SECONDS
        while True:
            found = await self._store.claim(key, Entry(fingerprint, 0), seconds)
            if found is None:
                return None
            if found.fingerprint != fingerprint:
                raise IdempotencyConflictError(
                    "expected the same request as before with this Idempotency-Key; got another: use a new key"
                )
            if found.status > 0:
                return found
            if found.status < 0:
                raise IdempotencyConflictError(
                    "the first request with this Idempotency-Key was answered, but its answer was too long to keep: "
                    "use a new key to ask again"
                )
            if time.monotonic() + pause > end:
                raise IdempotencyConflictError(
                    "the first request with this Idempotency-Key is still under way: repeat this one later"
                )
            await asyncio.sleep(pause)
            if gone():
                raise ClientGoneError("the client left while it waited for another request's answer")
            pause = min(_MAX_POLL_SECONDS, pause * 2)

    async def finish(self, key: bytes, fingerprint: bytes, copy: AnswerCopy, keep_seconds: float) -> None:
        """Keep the first request's answer for its repeats, or free the key where a repeat should try again.

        A store that does not answer changes nothing for the request, which has been served: its claim ends by itself.
        """
        try:
            await self._keep(key, fingerprint, copy, keep_seconds)
        except NotReadyError:
            log.warning("an answer is not kept for repeats: the store of Idempotency-Keys does not answer")

    async def _keep(self, key: bytes, fingerprint: bytes, copy: AnswerCopy, keep_seconds: float) -> None:
        if not copy.ended or copy.status >= 500 or copy.status == 429:
            await self._store.remove(key)
        elif copy.whole:
            await self._store.replace(key, Entry(fingerprint, copy.status, copy.content_type, copy.body), keep_seconds)
        else:
            await self._store.replace(key, Entry(fingerprint, -1), keep_seconds)


def key_of(owner: str, given: bytes) -> bytes:
    """Name an entry by the credential that owns it and the key that the client gave.

    Raises:
        InvalidRequestError: The key is empty or too long.
    """
    if not 0 < len(given) <= _MAX_KEY_BYTES:
        raise InvalidRequestError(f"expected an Idempotency-Key of 1 to {_MAX_KEY_BYTES} bytes; got {len(given)}")
    return hashlib.blake2b(owner.encode() + b"\0" + given, digest_size=20).hexdigest().encode()


def fingerprint_of(path: str, body: bytes) -> bytes:
    """Tell requests apart: a digest of path and body."""
    return hashlib.blake2b(path.encode() + b"\0" + body, digest_size=16).digest()
