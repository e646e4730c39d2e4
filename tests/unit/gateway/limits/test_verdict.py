"""Verdicts: errors and headers as clients read them."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.api.errors import render
from gateway.errors import BudgetExceededError, LimitExceededError
from gateway.limits.calendar import DAY_US, day_of, first_day, month_of
from gateway.limits.counter import Counter
from gateway.limits.memory import MemoryCounters
from gateway.limits.verdict import denial, duration, headers_of
from serving.contracts.limits import LimitRule, LimitScope


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (0, b"0ms"), (1, b"1ms"), (17_000, b"17ms"), (999_001, b"1s"), (1_000_000, b"1s"), (8_640_000, b"8.64s"),
        (59_999_900, b"1m0s"), (360_000_000, b"6m0s"), (86_399_000_000, b"23h59m59s"), (DAY_US * 2, b"48h0m0s"),
    ],
)  # fmt: skip
def test_durations_are_written_as_openai_writes_them(microseconds: float, text: bytes) -> None:
    """Milliseconds, seconds, minutes, hours; rounded up."""
    assert duration(microseconds) == text


@pytest.mark.parametrize(
    ("limits", "tokens", "kind", "field", "seconds"),
    [
        ({"requests_per_minute": 40}, 1, LimitExceededError, "requests_per_minute 40 ", 2),
        ({"tokens_per_minute": 600}, 590, LimitExceededError, "tokens_per_minute 600 ", 58),
        ({"concurrent_requests": 1}, 1, LimitExceededError, "concurrent_requests 1 ", 1),
        ({"tokens_per_day": 10}, 10, BudgetExceededError, "tokens_per_day 10 ", 86_400),
        ({"tokens_per_month": 10}, 10, BudgetExceededError, "tokens_per_month 10 ", 28 * 86_400),
        ({"usd_per_day": 1.5}, 1, BudgetExceededError, "usd_per_day 1.5 ", 86_400),
        ({"usd_per_month": 1.5}, 1, BudgetExceededError, "usd_per_month 1.5 ", 28 * 86_400),
    ],
)
def test_a_denial_names_rule_and_limit_and_when_to_come_back(
    limits: dict[str, Any], tokens: int, kind: type[LimitExceededError], field: str, seconds: int
) -> None:
    """Rates free a unit after its interval, budgets at the period's end."""
    counter = Counter(b"k", LimitRule(name="bronze", scope=LimitScope.TENANT, **limits))
    counters, now = MemoryCounters(), 20_000 * DAY_US  # 4 October: 28 days left
    assert counters.reserve([counter], tokens, 1_500_000_000, now)[1] is not None
    answer, hold = counters.reserve([counter], tokens, 1_500_000_000, now)
    assert hold is None
    error = denial(answer, [counter], tokens)
    assert type(error) is kind
    assert field in error.message
    assert "'bronze'" in error.message
    assert error.retry_after_seconds == seconds
    answered = render(error)
    assert answered.status == 429
    assert (b"retry-after", b"%d" % seconds) in answered.headers
    assert error.headers == headers_of(answer, [counter])


def test_headers_are_left_out_where_no_rule_limits_it() -> None:
    """A rule of concurrency alone has no x-ratelimit headers."""
    counter = Counter(b"k", LimitRule(name="r", scope=LimitScope.KEY, concurrent_requests=3))
    answer, _ = MemoryCounters().reserve([counter], 1, 0, 20_000 * DAY_US)
    assert headers_of(answer, [counter]) == b""


def test_calendar_numbers_are_those_of_utc() -> None:
    """Days and months turn where the calendar does, leap days included."""
    assert day_of(DAY_US - 1) == 0
    leap = 19_782  # 2024-02-29
    assert month_of(leap) == month_of(leap - 28) == month_of(leap + 1) - 1
    assert first_day(month_of(leap) + 1) == leap + 1
