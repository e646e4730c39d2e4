"""Counter: what one rule counts for one key, user, tenant or model, with the rule's limits in the counters' units.

Rates are in microseconds (GCRA): a request, or a token, moves the counter's theoretical arrival time on by what it
takes to earn another one. Money is in whole nano-USD, so that sums are exact.
"""

from __future__ import annotations

import math
import struct
from enum import IntEnum
from typing import Final

from serving.contracts.limits import LimitRule

MINUTE_US: Final = 60_000_000
NANO: Final = 1_000_000_000

_PARAMETERS: Final = struct.Struct("<9d")
_DAY_SECONDS: Final = 86_400
_SHORT_SECONDS: Final = 3_600
_LONG_SECONDS: Final = 21_600
"""Rates are full again, and requests have ended, long before their counters are forgotten."""


class Limit(IntEnum):
    """Which limit of a rule; the numbers are those of batch.lua."""

    REQUESTS = 1
    TOKENS = 2
    CONCURRENT = 3
    DAY_TOKENS = 4
    MONTH_TOKENS = 5
    DAY_USD = 6
    MONTH_USD = 7


LIMIT_FIELDS: Final = {
    Limit.REQUESTS: "requests_per_minute",
    Limit.TOKENS: "tokens_per_minute",
    Limit.CONCURRENT: "concurrent_requests",
    Limit.DAY_TOKENS: "tokens_per_day",
    Limit.MONTH_TOKENS: "tokens_per_month",
    Limit.DAY_USD: "usd_per_day",
    Limit.MONTH_USD: "usd_per_month",
}
"""Names as the policy document has them."""


class Counter:
    """One counter. Limits are 0 where the rule has none.

    Args:
        key: Redis key of its state.
        rule: Its limits.
        share: Part of every limit that is applied, in (0, 1]; whole things stay at least 1.

    Attributes:
        interval_us: Microseconds to earn one request.
        burst_us: Microseconds of requests that may be taken at once.
        token_us: Microseconds to earn one token; not whole.
        counted: Whether requests under way are counted.
        kept_seconds: How long an untouched state is kept.
        booked: Whether a killed process' reservations have to be given back: rates heal by themselves.
        packed: The limits for batch.lua.
    """

    __slots__ = (
        "_share", "_texts", "booked", "burst_us", "concurrent", "counted", "day_nano", "day_tokens", "interval_us",
        "kept_seconds", "key", "month_nano", "month_tokens", "packed", "rule", "token_us",
    )  # fmt: skip

    def __init__(self, key: bytes, rule: LimitRule, share: float = 1.0) -> None:
        self.key = key
        self.rule = rule
        self._share: Counter | None = None
        self._texts: dict[int, bytes] = {}
        rate = rule.requests_per_minute
        self.interval_us = float(math.ceil(MINUTE_US / (rate * share))) if rate else 0.0
        self.burst_us = self.interval_us * max(1, math.floor(rule.burst_requests * share))
        self.token_us = MINUTE_US / (rule.tokens_per_minute * share) if rule.tokens_per_minute else 0.0
        self.concurrent = _part(rule.concurrent_requests, share)
        self.day_tokens = _part(rule.tokens_per_day, share)
        self.month_tokens = _part(rule.tokens_per_month, share)
        self.day_nano = _part(_nano(rule.usd_per_day), share)
        self.month_nano = _part(_nano(rule.usd_per_month), share)
        self.counted = self.concurrent > 0
        by_month, by_day = bool(self.month_tokens or self.month_nano), bool(self.day_tokens or self.day_nano)
        self.booked = by_month or by_day or self.counted
        if by_month:
            self.kept_seconds = 33 * _DAY_SECONDS
        elif by_day:
            self.kept_seconds = 2 * _DAY_SECONDS
        else:
            self.kept_seconds = _LONG_SECONDS if self.counted or self.token_us else _SHORT_SECONDS
        self.packed = _PARAMETERS.pack(
            self.interval_us, self.burst_us, self.token_us, self.concurrent, self.day_tokens, self.month_tokens,
            self.day_nano, self.month_nano, self.kept_seconds,
        )  # fmt: skip

    def share(self, fraction: float) -> Counter:
        """Return this counter with a part of its limits."""
        if self._share is None:
            self._share = Counter(self.key, self.rule, fraction)
        return self._share

    def rule_limit(self, limit: Limit) -> float:
        """Return a limit as the policy has it."""
        value: float = getattr(self.rule, LIMIT_FIELDS[limit])
        return value

    def limit_text(self, limit: Limit) -> bytes:
        """Return a limit in requests or tokens as a header's value."""
        text = self._texts.get(limit)
        if text is None:
            text = self._texts[limit] = b"%d" % self.rule_limit(limit)
        return text


def _part(limit: int | None, share: float) -> float:
    return float(max(1, math.floor(limit * share))) if limit else 0.0


def _nano(usd: float | None) -> int | None:
    return None if usd is None else max(1, round(usd * NANO))
