"""batch.lua and memory.py decide and count alike, whatever comes when: the one is the other's reference."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from gateway.auth.principal import Principal
from gateway.errors import LimitExceededError
from gateway.limits import limiter as limiter_module
from gateway.limits.calendar import DAY_US
from gateway.limits.memory import Hold, MemoryCounters
from gateway.limits.reservation import Reservation
from serving.contracts.limits import LimitScope
from serving.contracts.route import Price
from tests.fakes.limits import CLOCK_KEY, FAKE_TIME, PricedRoute, TestLimiter, counter, rule, settled, shared_counters
from tests.fakes.redis_process import RedisProcess

pytestmark = pytest.mark.integration

START_US = 20_000 * DAY_US + 5  # 2024-10-04
RULES = (
    rule("keys", requests_per_minute=7, burst_requests=3, tokens_per_minute=700, concurrent_requests=3),
    rule("tenants", LimitScope.TENANT, tokens_per_day=2_000, usd_per_month=0.004, requests_per_minute=20,
         burst_requests=2),
    rule("models", LimitScope.MODEL, tokens_per_month=5_000, usd_per_day=0.002, tokens_per_minute=1_500),
)  # fmt: skip
ROUTE = PricedRoute(price=Price(input_usd_per_million_tokens=0.15, output_usd_per_million_tokens=0.6))

STEPS = st.one_of(
    st.tuples(
        st.just("wait"), st.sampled_from([1, 999_983, 1_700_000, 8_571_429, 20_000_000, DAY_US // 3, 31 * DAY_US])
    ),
    st.tuples(st.just("reserve"), st.integers(0, 1), st.integers(1, 600), st.integers(1, 300)),
    st.tuples(st.just("reserve"), st.just(0), st.integers(1, 60), st.integers(1, 30)),
    st.tuples(st.just("settle"), st.integers(0, 9), st.integers(0, 900), st.booleans()),
)


@pytest.fixture(scope="module")
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as server:
        yield server


class Twins:
    """The same steps on both, each with the same clock."""

    def __init__(self, redis: RedisProcess, limiter: TestLimiter) -> None:
        self.redis = redis
        self.limiter = limiter
        self.memory = MemoryCounters()
        self.now = START_US
        self.held: list[tuple[Reservation, Hold]] = []
        self.wait(0)

    def wait(self, microseconds: int) -> None:
        self.now += microseconds
        self.redis.client.set(CLOCK_KEY, self.now)

    async def reserve(self, asker: int, body_bytes: int, max_tokens: int, said: list[Any]) -> None:
        plan = self.limiter.plan_of(Principal("bank", key_id=f"key{asker}"), route=ROUTE)
        prompt, output = plan.estimate.prompt_tokens(body_bytes), plan.estimate.output_tokens(max_tokens)
        expected, hold = self.memory.reserve(plan.counters, prompt + output, plan.nano(prompt, output), self.now)
        try:
            reservation = await self.limiter.reserve(plan, body_bytes, max_tokens)
        except LimitExceededError:
            assert hold is None
        else:
            assert hold is not None
            self.held.append((reservation, hold))
        assert said.pop() == expected

    async def settle(self, place: int, tokens: int, *, failed: bool) -> None:
        if not self.held:
            return
        reservation, hold = self.held.pop(place % len(self.held))
        used = None if failed else tokens
        self.limiter.settle(reservation, used, used, failed=failed)
        nano = reservation.plan.nano(used or 0, used or 0)
        self.memory.settle(hold, 2 * (used or 0), nano, self.now, refund=failed)
        await settled(self.limiter)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(STEPS, min_size=15, max_size=60))
def test_both_say_and_count_the_same(redis: RedisProcess, monkeypatch: pytest.MonkeyPatch, steps: list[Any]) -> None:
    """Every answer, number by number, and every counter's state in the end are equal."""
    redis.client.flushall()
    said: list[Any] = []
    shared = shared_counters(redis, lease=3600, script=FAKE_TIME)
    take_in = shared._take_in
    monkeypatch.setattr(limiter_module, "denial", lambda *_: LimitExceededError("refused"))

    def listen(flight: Any, reply: bytes) -> None:
        waiting = [reservation.future for reservation in flight.reserved]
        take_in(flight, reply)
        said.extend(future.result() for future in waiting if future is not None)

    shared._take_in = listen  # type: ignore[method-assign]

    async def run() -> None:
        limiter = TestLimiter(shared, *RULES)
        twins = Twins(redis, limiter)
        await limiter.open()
        for kind, *values in steps:
            if kind == "wait":
                twins.wait(values[0])
            elif kind == "reserve":
                await twins.reserve(*values, said)
            else:
                await twins.settle(values[0], values[1], failed=values[2])
        compare(redis, twins)
        await limiter.close()

    asyncio.run(run())


def compare(redis: RedisProcess, twins: Twins) -> None:
    for key, state in twins.memory._states.items():
        name = key.decode().removeprefix("{nexus}:limit:")
        if redis.client.exists(key):
            stored = counter(redis, name)
            for period, amounts in (("day", ("d_tokens", "d_nano")), ("month", ("m_tokens", "m_nano"))):
                if stored[period] < getattr(state, period):  # a refused request looks, but writes nothing
                    stored |= {period: getattr(state, period)} | dict.fromkeys(amounts, 0.0)
            for field in ("r_back", "t_back", "used", "day", "d_tokens", "d_nano", "month", "m_tokens", "m_nano"):
                assert stored[field] == getattr(state, field), (name, field)
            for field in ("r_tat", "t_tat"):
                assert max(stored[field], twins.now) == max(getattr(state, field), twins.now), (name, field)
        else:  # only ever refused: nothing is written
            assert (state.used, state.d_tokens, state.m_tokens, state.r_tat) == (0, 0, 0, 0)


@pytest.mark.parametrize(
    ("limits", "until_us"),
    [
        pytest.param({"tokens_per_day": 100}, 20_001 * DAY_US, id="day"),
        pytest.param({"tokens_per_month": 100}, 20_028 * DAY_US, id="month"),  # 2024-11-01
        pytest.param({"usd_per_month": 0.0001}, 20_028 * DAY_US, id="usd"),
    ],
)
def test_budgets_begin_anew_at_the_boundary_and_not_before(
    redis: RedisProcess, limits: dict[str, Any], until_us: int
) -> None:
    """A microsecond before the period ends the budget is used up; at its end it is whole, and what was reserved before
    is settled with the old period."""
    redis.client.flushall()

    async def run() -> None:
        limiter = TestLimiter(shared_counters(redis, lease=3600, script=FAKE_TIME), rule(**limits))
        redis.client.set(CLOCK_KEY, START_US)
        await limiter.open()
        plan = limiter.plan_of(
            route=PricedRoute(price=Price(input_usd_per_million_tokens=1, output_usd_per_million_tokens=1))
        )
        old = await limiter.reserve(plan, 200, 20)
        redis.client.set(CLOCK_KEY, until_us - 1)
        with pytest.raises(LimitExceededError) as refused:
            await limiter.reserve(plan, 200, 20)
        assert refused.value.retry_after_seconds == 1
        redis.client.set(CLOCK_KEY, until_us)
        new = await limiter.reserve(plan, 200, 20)
        limiter.settle(old, 0, 1, failed=False)
        await settled(limiter)
        state = counter(redis, "limit:key:key1")
        reserved = new.prompt_tokens + new.output_tokens
        assert state["d_tokens"] == reserved
        if "tokens_per_day" not in limits:
            assert state["m_tokens"] == reserved
        await limiter.close()

    asyncio.run(run())
