"""Reservations made ahead, on a real Redis: nobody waits far from a limit, and no limit is less exact for it."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from contextlib import suppress

import pytest

from gateway.errors import BudgetExceededError, LimitExceededError
from gateway.limits.plan import LimitPlan
from gateway.limits.reservation import Reservation
from gateway.limits.stock import PART
from serving.contracts.limits import LimitRule, Limits, LimitScope
from tests.fakes.limits import TestLimiter, counter, rule, running, settled, shared_counters
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import until

pytestmark = pytest.mark.integration

BODY_BYTES, MAX_TOKENS = 100, 70
NEED = 30 + MAX_TOKENS
FAR = rule(scope=LimitScope.TENANT, tokens_per_day=NEED * PART * 1000, concurrent_requests=PART * 1000)


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with RedisProcess() as redis:
        yield redis


@pytest.fixture
def redis(server: RedisProcess) -> RedisProcess:
    server.client.flushall()
    return server


def at_once(limiter: TestLimiter, plan: LimitPlan, body_bytes: int = BODY_BYTES) -> Reservation | None:
    """Reserve without letting anything else run; None when the request would have to wait."""
    asked = limiter.reserve(plan, body_bytes, MAX_TOKENS)
    try:
        asked.send(None)
    except StopIteration as done:
        reservation: Reservation = done.value
        return reservation
    with suppress(asyncio.CancelledError):
        asked.throw(asyncio.CancelledError())
    return None


async def warm(limiter: TestLimiter, plan: LimitPlan, requests: int = 3) -> None:
    for _ in range(requests):
        limiter.settle(await limiter.reserve(plan, BODY_BYTES, MAX_TOKENS), 20, 50, failed=False)
    await settled(limiter)


def held(redis: RedisProcess, rule_: LimitRule = FAR) -> tuple[float, float]:
    state = counter(redis, f"{rule_.name}:{rule_.scope}:bank")
    return state["used"], state["d_tokens"]


async def test_far_from_its_limits_a_caller_waits_for_no_answer(redis: RedisProcess) -> None:
    """After a few requests the next is granted at once, with the headers of its limits, and is settled like any."""
    async with running(TestLimiter(shared_counters(redis), FAR)) as limiter:
        plan = limiter.plan_of()
        await warm(limiter, plan)
        reservation = at_once(limiter, plan)
        assert reservation is not None
        assert b"x-ratelimit-remaining-tokens" in reservation.headers
        assert held(redis)[1] >= 3 * 70 + NEED  # it was held before it was asked for
        limiter.settle(reservation, 20, 50, failed=False)
    assert held(redis) == (0, 4 * 70)


async def test_a_request_that_needs_more_than_was_made_ahead_asks(redis: RedisProcess) -> None:
    """A larger request waits for its own reservation, and the next one of its size does not."""
    async with running(TestLimiter(shared_counters(redis), FAR)) as limiter:
        plan = limiter.plan_of()
        await warm(limiter, plan)
        assert at_once(limiter, plan, body_bytes=4 * BODY_BYTES) is None
        await limiter.reserve(plan, 4 * BODY_BYTES, MAX_TOKENS)
        await settled(limiter)
        assert at_once(limiter, plan, body_bytes=4 * BODY_BYTES) is not None


async def test_one_request_now_and_then_holds_nothing_ahead(redis: RedisProcess) -> None:
    """A first request makes none ahead: there may be no second."""
    async with running(TestLimiter(shared_counters(redis), FAR)) as limiter:
        await warm(limiter, limiter.plan_of(), requests=1)
        await settled(limiter)
        assert held(redis) == (0, 70)


async def test_what_nobody_takes_is_given_back(redis: RedisProcess) -> None:
    """A caller that asks no more holds nothing after a moment; what it used stays booked."""
    async with running(TestLimiter(shared_counters(redis), FAR)) as limiter:
        await warm(limiter, limiter.plan_of())
        assert held(redis)[0] > 0
        await until(lambda: held(redis) == (0, 3 * 70))


async def test_a_lowered_limit_holds_at_once(redis: RedisProcess) -> None:
    """What was ordered under the old policy does not let the old limits decide about the new one's requests."""
    lowered = rule(scope=LimitScope.TENANT, tokens_per_day=FAR.tokens_per_day, concurrent_requests=3)
    async with running(TestLimiter(shared_counters(redis), FAR)) as limiter:
        await warm(limiter, limiter.plan_of())
        under_way = [await limiter.reserve(limiter.plan_of(), BODY_BYTES, MAX_TOKENS) for _ in range(3)]
        assert limiter.shared._ahead
        limiter.use(Limits(rules=(lowered,)))
        for _ in range(20):
            with pytest.raises(LimitExceededError):
                await limiter.reserve(limiter.plan_of(), BODY_BYTES, MAX_TOKENS)
        for reservation in under_way:
            limiter.settle(reservation, 20, 50, failed=False)
    assert held(redis) == (0, 6 * 70)


async def test_close_to_a_limit_every_request_asks(redis: RedisProcess) -> None:
    """A caller with room for fewer requests than one in stock takes a part of holds none ahead."""
    near = rule(scope=LimitScope.TENANT, tokens_per_day=NEED * PART, concurrent_requests=PART * 1000)
    async with running(TestLimiter(shared_counters(redis), near)) as limiter:
        plan = limiter.plan_of()
        await warm(limiter, plan)
        assert at_once(limiter, plan) is None
        assert held(redis, near) == (0, 3 * 70)


async def test_no_budget_is_overshot_from_far_to_used_up(redis: RedisProcess) -> None:
    """Two processes that begin far from a budget end with less than one estimate of it unused, and none too much."""
    budget = 30 * PART * NEED // 10
    chance = random.Random(5)
    used = denied = ahead = largest = 0
    limits = rule(scope=LimitScope.TENANT, tokens_per_day=budget)

    async def client(limiter: TestLimiter) -> None:
        nonlocal used, denied, ahead, largest
        before = limiter.shared._batches
        try:
            reservation = await limiter.reserve(limiter.plan_of(), BODY_BYTES, MAX_TOKENS)
        except BudgetExceededError:
            denied += 1
            return
        ahead += limiter.shared._batches == before
        largest = max(largest, reservation.tokens)
        await asyncio.sleep(chance.random() * 0.004)
        prompt, output = chance.randint(1, 30), chance.randint(1, MAX_TOKENS)
        used += prompt + output
        assert counter(redis, "limit:tenant:bank")["d_tokens"] <= budget
        limiter.settle(reservation, prompt, output, failed=False)

    async with (
        running(TestLimiter(shared_counters(redis), limits)) as one,
        running(TestLimiter(shared_counters(redis), limits)) as two,
    ):
        while denied < 10:
            denied = 0
            async with asyncio.TaskGroup() as tasks:
                for number in range(10):
                    tasks.create_task(client((one, two)[number % 2]))
            if denied:
                await settled(one)
                await settled(two)
    assert ahead > 20
    assert budget - largest < used <= budget
    assert counter(redis, "limit:tenant:bank")["d_tokens"] == used


async def test_what_a_lost_data_set_held_ahead_is_not_used(redis: RedisProcess) -> None:
    """After Redis lost its data, what was made ahead there is worth nothing: the request asks."""
    async with running(TestLimiter(shared_counters(redis), FAR)) as limiter:
        plan = limiter.plan_of()
        await warm(limiter, plan)
        first = at_once(limiter, plan)
        assert first is not None
        redis.client.flushall()
        limiter.settle(first, 20, 50, failed=False)  # its batch finds the data gone
        await until(lambda: limiter.metric("nexus_gateway_limits_begun_anew_total"))
        assert at_once(limiter, plan) is None
        limiter.settle(await limiter.reserve(plan, BODY_BYTES, MAX_TOKENS), 20, 50, failed=False)
    assert held(redis) == (0, 2 * 70)


async def test_while_redis_is_away_nothing_made_ahead_is_used_or_lost(redis: RedisProcess) -> None:
    """The policy decides meanwhile; afterwards what was held is used or given back."""
    async with running(TestLimiter(shared_counters(redis, timeout=0.1), FAR)) as limiter:
        plan = limiter.plan_of()
        await warm(limiter, plan)
        limiter.shared._fail("for a test")
        assert not limiter.shared.up
        with pytest.raises(Exception, match="limits' store"):
            await limiter.reserve(plan, BODY_BYTES, MAX_TOKENS)
        await until(lambda: limiter.shared.up)
        await until(lambda: held(redis) == (0, 3 * 70))


async def test_what_a_killed_process_held_ahead_is_free_after_its_lease(redis: RedisProcess) -> None:
    """Stock of a process that is gone is given back by another, like its requests."""
    lost = TestLimiter(shared_counters(redis, lease=0.3), FAR)
    await lost.open()
    await warm(lost, lost.plan_of())
    assert held(redis)[0] > 0
    lost.shared._link.close()  # type: ignore[union-attr]
    async with running(TestLimiter(shared_counters(redis, lease=0.3), FAR)):
        await until(lambda: held(redis) == (0, 3 * 70))
