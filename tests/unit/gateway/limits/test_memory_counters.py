"""Counters in memory against independent references; batch.lua is compared with them on a real Redis."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from hypothesis import example, given, settings
from hypothesis import strategies as st

from gateway.limits.calendar import DAY_US
from gateway.limits.counter import Counter
from gateway.limits.memory import Hold, MemoryCounters
from serving.contracts.limits import LimitRule, LimitScope

START = 20_000 * DAY_US


def counter(**limits: Any) -> Counter:
    return Counter(b"k", LimitRule(name="r", scope=LimitScope.KEY, **limits))


class LeakyBucket:
    """GCRA as its other definition (ITU-T I.371, annex A): a bucket that leaks one request an interval."""

    def __init__(self, interval_us: int, burst: int) -> None:
        self.interval = Fraction(interval_us)
        self.size = burst
        self.level = Fraction(0)
        self.at = 0

    def admit(self, now: int) -> bool:
        self.level = max(Fraction(0), self.level - (now - self.at) / self.interval)
        self.at = now
        if self.level + 1 > self.size:
            return False
        self.level += 1
        return True


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 100_000),
    st.integers(1, 20),
    st.lists(st.one_of(st.just(0), st.integers(0, 2_000_000), st.integers(0, 90_000_000)), min_size=10, max_size=40),
)
def test_rates_admit_what_a_leaky_bucket_admits(rate: int, burst: int, waits: list[int]) -> None:
    """Request by request, at any times, GCRA and the leaky bucket decide alike."""
    limit = counter(requests_per_minute=rate, burst_requests=burst)
    counters, bucket, now = MemoryCounters(), LeakyBucket(int(limit.interval_us), burst), 0
    for wait in waits:
        now += wait
        answer, hold = counters.reserve([limit], 1, 0, START + now)
        assert (hold is not None) == bucket.admit(now)
        if hold is None:  # the time that is told is the first at which it passes
            assert counters.reserve([limit], 1, 0, START + now + answer[6] - 1)[1] is None


@settings(deadline=None, max_examples=50)
@given(
    st.integers(1, 4),
    st.lists(
        st.tuples(
            st.sampled_from(["ask", "ask", "back", "keep"]), st.sampled_from([0, 0, 100_000, 900_000, 1_500_000])
        ),
        min_size=15,
        max_size=60,
    ),
)
@example(2, [("ask", 0), ("ask", 0), ("back", 0), ("ask", 900_000), ("back", 50_000), ("ask", 0), ("ask", 0)])
def test_giving_back_never_lets_more_requests_through_than_the_rate(burst: int, steps: list[tuple[str, int]]) -> None:
    """Between any two requests that count there are at most the burst and what was earned since the first."""
    limit = counter(requests_per_minute=60, burst_requests=burst)
    counters, now = MemoryCounters(), START
    held: list[tuple[int, Hold]] = []
    kept: list[int] = []
    for step, wait in steps:
        now += wait
        if step == "ask":
            hold = counters.reserve([limit], 1, 0, now)[1]
            if hold is not None:
                held.append((now, hold))
        elif held:
            begun, hold = held.pop(0)
            counters.settle(hold, 1, 0, now, refund=step == "back")
            if step == "keep":
                kept.append(begun)
    kept = sorted(kept + [begun for begun, _ in held])
    for first, begun in enumerate(kept):
        for last in range(first, len(kept)):
            assert (last - first + 1 - burst) * 1_000_000 <= kept[last] - begun


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 4), st.integers(0, 3_000_000), st.integers(0, 9_000_000))
def test_what_is_given_back_alone_leaves_no_trace(before: int, held_us: int, later_us: int) -> None:
    """With nothing else between, reserve and give back is as if it had not been, whenever it is looked at."""
    limit = counter(requests_per_minute=60, burst_requests=6, tokens_per_minute=600, concurrent_requests=50,
                    tokens_per_day=10_000, usd_per_month=1)  # fmt: skip
    one, other = MemoryCounters(), MemoryCounters()
    for _ in range(before):
        for counters in (one, other):
            counters.reserve([limit], 10, 5, START)
    hold = one.reserve([limit], 50, 7, START)[1]
    assert hold is not None
    one.settle(hold, 0, 0, START + held_us, refund=True)
    end = START + held_us + later_us
    assert one.reserve([limit], 1, 1, end)[0] == other.reserve([limit], 1, 1, end)[0]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(1, 50), st.integers(0, 100), st.booleans()), max_size=60), st.integers(10, 300))
def test_budgets_hold_whatever_is_under_way(requests: list[tuple[int, int, bool]], budget: int) -> None:
    """Used and reserved together never exceed a budget while requests use at most what was reserved."""
    limit = counter(tokens_per_day=budget)
    counters = MemoryCounters()
    held: list[tuple[Hold, int]] = []
    used = 0
    for tokens, percent, ends in requests:
        hold = counters.reserve([limit], tokens, 0, START)[1]
        assert (hold is not None) == (used + sum(h.tokens for h, _ in held) + tokens <= budget)
        if hold is not None:
            held.append((hold, tokens * percent // 100))
        if ends and held:
            done, actual = held.pop(0)
            counters.settle(done, actual, 0, START, refund=False)
            used += actual


def test_a_request_larger_than_a_minutes_tokens_waits_for_a_full_bucket() -> None:
    """It is not locked out for ever; what it really used beyond is owed by the next ones."""
    limit = counter(tokens_per_minute=600)
    counters = MemoryCounters()
    hold = counters.reserve([limit], 5_000, 0, START)[1]
    assert hold is not None
    counters.settle(hold, 1_200, 0, START, refund=False)
    answer, denied = counters.reserve([limit], 1, 0, START)
    assert denied is None
    assert answer[6] == 60_100_000


def test_a_clock_that_goes_back_locks_nobody_out() -> None:
    """After a step back of a day a burst passes again at once."""
    limit = counter(requests_per_minute=1, burst_requests=2)
    counters = MemoryCounters()
    assert counters.reserve([limit], 1, 0, START + DAY_US)[1] is not None
    assert [counters.reserve([limit], 1, 0, START)[1] is not None for _ in range(2)] == [False, False]
    assert counters.reserve([limit], 1, 0, START + 60_000_000)[1] is not None


def test_a_clock_that_goes_back_opens_no_budget() -> None:
    """What was used on the day that never was counts for today; so does what is used from now on."""
    limit = counter(tokens_per_day=100, tokens_per_month=1_000)
    counters = MemoryCounters()
    for now in (START + DAY_US, START + 40 * DAY_US):
        assert counters.reserve([limit], 60, 0, now)[1] is not None
    assert counters.reserve([limit], 60, 0, START)[1] is None
    hold = counters.reserve([limit], 40, 0, START)[1]
    assert hold is not None
    counters.settle(hold, 0, 0, START, refund=True)
    assert counters.reserve([limit], 40, 0, START)[1] is not None
    assert counters.reserve([limit], 1, 0, START)[1] is None


def test_the_least_used_counters_are_forgotten() -> None:
    """Memory is bounded by the number of counters."""
    counters = MemoryCounters(size=2)
    for name in (b"a", b"b", b"a", b"c"):
        one = Counter(name, LimitRule(name="r", scope=LimitScope.KEY, concurrent_requests=5))
        counters.reserve([one], 1, 0, START)
    assert list(counters._states) == [b"a", b"c"]
