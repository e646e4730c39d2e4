"""Calendar days and months of UTC as numbers, which budgets are counted by."""

from __future__ import annotations

from datetime import date
from typing import Final

DAY_US: Final = 86_400_000_000
_EPOCH: Final = date(1970, 1, 1).toordinal()


def day_of(now_us: float) -> int:
    """Return the day: whole days since 1970-01-01."""
    return int(now_us // DAY_US)


def month_of(day: int) -> int:
    """Return a day's month: whole months since the year 0."""
    civil = date.fromordinal(_EPOCH + day)
    return civil.year * 12 + civil.month - 1


def first_day(month: int) -> int:
    """Return a month's first day."""
    return date(month // 12, month % 12 + 1, 1).toordinal() - _EPOCH


def day_number(day: date) -> int:
    """Return a date's day."""
    return day.toordinal() - _EPOCH
