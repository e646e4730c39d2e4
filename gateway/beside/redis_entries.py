"""Idempotency entries in Redis, shared by all workers. Off the hot path: only requests with a key come here."""

from __future__ import annotations

from typing import Any, Final

from gateway.beside.idempotency import Entry
from gateway.errors import NotReadyError
from gateway.redis_connection import KEY_PREFIX, RedisConnection, RedisUnavailableError

_FINGERPRINT_BYTES: Final = 16

_CLAIM: Final = """
if redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return false end
return redis.call('GET', KEYS[1])
"""
_REPLACE: Final = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])"
_REMOVE: Final = "redis.call('DEL', KEYS[1])"


class RedisStore:
    """Keeps entries in Redis.

    While Redis does not answer, requests with a key are refused: what the key promises could not be kept.

    Args:
        redis: Where to keep them.
    """

    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis

    async def claim(self, key: bytes, entry: Entry, seconds: float) -> Entry | None:
        """See `EntryStore`."""
        kept = await self._run(_CLAIM, key, _pack(entry), int(seconds * 1000))
        return _unpack(kept) if isinstance(kept, bytes) else None

    async def replace(self, key: bytes, entry: Entry, seconds: float) -> None:
        """See `EntryStore`."""
        await self._run(_REPLACE, key, _pack(entry), int(seconds * 1000))

    async def remove(self, key: bytes) -> None:
        """See `EntryStore`."""
        await self._run(_REMOVE, key)

    async def _run(self, script: str, key: bytes, *args: bytes | float) -> Any:
        try:
            return await self._redis.run(script, [f"{KEY_PREFIX}idempotency:{key.decode()}"], args)
        except RedisUnavailableError as exc:
            raise NotReadyError(
                "expected to look the Idempotency-Key up; its store does not answer: try again, or send the request "
                "without it",
                retry_after_seconds=1,
            ) from exc


def _pack(entry: Entry) -> bytes:
    content_type = entry.content_type
    return b"%b%d\n%d\n%b%b" % (entry.fingerprint, entry.status, len(content_type), content_type, entry.body)


def _unpack(kept: bytes) -> Entry:
    fingerprint, rest = kept[:_FINGERPRINT_BYTES], kept[_FINGERPRINT_BYTES:]
    status, length, rest = rest.split(b"\n", 2)
    size = int(length)
    return Entry(fingerprint, int(status), rest[:size], rest[size:])
