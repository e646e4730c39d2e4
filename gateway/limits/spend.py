"""SpendReader: what tenants, keys and models have used, day by day; for the admin API."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Final

from gateway.errors import NotReadyError
from gateway.limits.calendar import day_number
from gateway.limits.counter import NANO
from gateway.redis_connection import KEY_PREFIX, RedisConnection, RedisUnavailableError
from serving.contracts.admin_api import SpendRow

_AMOUNTS: Final = struct.Struct("<4d")
_PAGE: Final = "1000"


class SpendReader:
    """Reads what batch.lua has summed up; days are kept for 400 days.

    Args:
        redis: The connection that no request waits for.
    """

    def __init__(self, redis: RedisConnection) -> None:
        self._redis = redis

    async def spend(self, first: date, last: date) -> Sequence[SpendRow]:
        """Return what was used in these calendar days (UTC), both included, by day, tenant, key and model.

        Raises:
            NotReadyError: Redis does not answer.
        """
        rows: list[SpendRow] = []
        try:
            for offset in range((last - first).days + 1):
                rows += await self._day(first + timedelta(days=offset))
        except RedisUnavailableError as exc:
            raise NotReadyError(
                f"expected Redis to tell the spend; it does not ({exc}): try again later", retry_after_seconds=1
            ) from exc
        return rows

    async def _day(self, day: date) -> list[SpendRow]:
        key = f"{KEY_PREFIX}spend:{day_number(day)}"
        cursor, found = b"0", dict[bytes, bytes]()
        while True:
            cursor, fields = await self._redis.command("HSCAN", key, cursor, "COUNT", _PAGE)
            found.update(fields)  # a scan may give a field twice
            if int(cursor) == 0:
                return [_row(day, label, packed) for label, packed in sorted(found.items())]


def _row(day: date, label: bytes, packed: bytes) -> SpendRow:
    tenant, key_id, model = label.decode().split("\0")
    requests, prompt, output, nano = _AMOUNTS.unpack(packed)
    return SpendRow(
        day=day,
        tenant=tenant,
        key_id=key_id or None,
        model=model,
        requests=int(requests),
        prompt_tokens=int(prompt),
        output_tokens=int(output),
        usd=nano / NANO,
    )
