"""Limits on a real Redis: all or nothing, exact under concurrency, given back, named, and read as spend."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from pydantic import SecretStr

from gateway.auth.principal import Principal
from gateway.errors import BudgetExceededError, LimitExceededError, NotReadyError
from gateway.limits.spend import SpendReader
from gateway.redis_connection import RedisConnection
from serving.contracts.limits import LimitScope
from serving.contracts.route import Price
from tests.fakes.limits import ASKER, PricedRoute, TestLimiter, counter, rule, running, settled, shared_counters
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import until

pytestmark = pytest.mark.integration


def fields(lines: bytes) -> dict[bytes, bytes]:
    return dict(line.split(b": ") for line in lines.splitlines())


@pytest.fixture(scope="module")
def server() -> Iterator[RedisProcess]:
    with RedisProcess() as redis:
        yield redis


@pytest.fixture
def redis(server: RedisProcess) -> RedisProcess:
    server.client.flushall()
    return server


async def test_two_processes_with_200_requests_never_overshoot_a_budget(redis: RedisProcess) -> None:
    """Whatever 200 concurrent requests on two workers use, the budget holds, and less than one estimate is unused."""
    budget, max_tokens, body = 20_000, 200, 100
    limits = rule(scope=LimitScope.TENANT, tokens_per_day=budget)
    chance = random.Random(1)
    used = denied = 0

    async def request(limiter: TestLimiter) -> None:
        nonlocal used, denied
        try:
            reservation = await limiter.reserve(limiter.plan_of(), body, max_tokens)
        except BudgetExceededError:
            denied += 1
            return
        await asyncio.sleep(chance.random() * 0.005)
        prompt = chance.randint(1, reservation.prompt_tokens)
        output = chance.randint(1, reservation.output_tokens)
        used += prompt + output
        limiter.settle(reservation, prompt, output, failed=False)

    async with (
        running(TestLimiter(shared_counters(redis), limits)) as one,
        running(TestLimiter(shared_counters(redis), limits)) as two,
    ):
        while denied < 200:  # in one round: nothing is under way, and still nothing passes
            denied = 0
            async with asyncio.TaskGroup() as tasks:
                for number in range(200):
                    tasks.create_task(request((one, two)[number % 2]))
            await settled(one)
            await settled(two)
    assert budget - (body + max_tokens) < used <= budget
    assert counter(redis, "limit:tenant:bank")["d_tokens"] == used


async def test_a_refused_request_takes_nothing_from_any_counter(redis: RedisProcess) -> None:
    """When one of four rules refuses, the others' counters stay as they were, byte for byte."""
    limits = (
        rule("keys", requests_per_minute=600, burst_requests=50, tokens_per_minute=100_000),
        rule("tenants", LimitScope.TENANT, usd_per_month=100, tokens_per_day=100_000),
        rule("models", LimitScope.MODEL, concurrent_requests=1),
        rule("users", LimitScope.USER, requests_per_minute=600, burst_requests=50),
    )
    async with running(TestLimiter(shared_counters(redis), *limits)) as limiter:
        plan = limiter.plan_of(user=b"ann", route=PricedRoute(price=_price()))
        held = await limiter.reserve(plan, 100, 10)
        before = {key: redis.client.get(key) for key in redis.client.keys("{nexus}:limit:*")}
        assert len(before) == 4
        with pytest.raises(LimitExceededError) as refused:
            await limiter.reserve(plan, 100, 10)
        assert "concurrent_requests 1 of the rule 'models' (for each model)" in refused.value.message
        assert refused.value.retry_after_seconds == 1
        assert set(fields(refused.value.headers)) >= {
            b"x-ratelimit-limit-requests", b"x-ratelimit-remaining-tokens", b"x-ratelimit-reset-tokens"
        }  # fmt: skip
        assert before == {key: redis.client.get(key) for key in redis.client.keys("{nexus}:limit:*")}
        limiter.settle(held, 5, 5, failed=False)
        await limiter.reserve(plan, 100, 10)


async def test_a_failed_request_is_given_back_exactly(redis: RedisProcess) -> None:
    """After reserve and a failed settle nothing is used, and as many requests pass as before."""
    limits = rule(requests_per_minute=1, burst_requests=2, tokens_per_minute=60_000, tokens_per_day=1_000,
                  usd_per_month=1, concurrent_requests=1)  # fmt: skip
    async with running(TestLimiter(shared_counters(redis), limits)) as limiter:
        plan = limiter.plan_of(route=PricedRoute(price=_price()))
        for _ in range(5):
            limiter.settle(await limiter.reserve(plan, 100, 10), None, None, failed=True)
        await settled(limiter)
        state = counter(redis, "limit:key:key1")
        names = ("used", "d_tokens", "d_nano", "m_tokens", "m_nano")
        assert [state[name] for name in names] == [0] * len(names)
        for _ in range(2):
            limiter.settle(await limiter.reserve(plan, 100, 10), 5, 5, failed=False)
        with pytest.raises(LimitExceededError) as refused:
            await limiter.reserve(plan, 100, 10)
        assert "requests_per_minute 1 " in refused.value.message
        assert 55 <= (refused.value.retry_after_seconds or 0) <= 60


async def test_headers_tell_the_tightest_rule(redis: RedisProcess) -> None:
    """Limit, rest and reset are those of the rule that has the least left, on success."""
    limits = (
        rule("wide", LimitScope.TENANT, requests_per_minute=6_000, burst_requests=100, tokens_per_minute=1_000_000),
        rule("narrow", requests_per_minute=60, burst_requests=10, tokens_per_day=5_000),
    )
    async with running(TestLimiter(shared_counters(redis), *limits)) as limiter:
        reservation = await limiter.reserve(limiter.plan_of(), 100, 70)
        headers = fields(reservation.headers)
    assert headers[b"x-ratelimit-limit-requests"] == b"60"
    assert headers[b"x-ratelimit-remaining-requests"] == b"9"
    assert headers[b"x-ratelimit-reset-requests"] == b"1s"
    assert headers[b"x-ratelimit-limit-tokens"] == b"5000"
    assert headers[b"x-ratelimit-remaining-tokens"] == b"%d" % (5_000 - 30 - 70)


async def test_a_request_that_leaves_while_it_waits_holds_nothing(redis: RedisProcess) -> None:
    """A task that is cancelled before, or while, its batch is under way leaves no reservation."""
    async with running(TestLimiter(shared_counters(redis), rule(concurrent_requests=10, tokens_per_day=10**6))) as one:
        for turns in range(4):
            async with asyncio.TaskGroup() as tasks:
                task = tasks.create_task(one.reserve(one.plan_of(), 100, 10))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
        await settled(one)
        limiter_state = counter(redis, "limit:key:key1")
        assert (limiter_state["used"], limiter_state["d_tokens"]) == (0, 0)


async def test_reservations_of_a_killed_process_are_given_back_by_another(redis: RedisProcess) -> None:
    """What a worker held when it was killed is free again after its lease, and its own late batch begins anew."""
    limits = rule(concurrent_requests=3, tokens_per_day=10_000)
    killed = TestLimiter(shared_counters(redis, lease=0.4), limits)
    await killed.open()
    held = [await killed.reserve(killed.plan_of(), 100, 10) for _ in range(3)]
    async with running(TestLimiter(shared_counters(redis, lease=0.4), limits)) as other:
        with pytest.raises(LimitExceededError):
            await other.reserve(other.plan_of(), 100, 10)
        await until(lambda: not counter(redis, "limit:key:key1")["used"])
        assert counter(redis, "limit:key:key1")["d_tokens"] == 0
        for reservation in held:  # it was only slow, after all
            killed.settle(reservation, 7, 3, failed=False)
        await settled(killed)
        state = counter(redis, "limit:key:key1")
        assert (state["used"], state["d_tokens"]) == (0, 30)
        assert killed.metric("nexus_gateway_limits_begun_anew_total") == 1
    await killed.close()


async def test_a_closed_process_leaves_nothing_behind(redis: RedisProcess) -> None:
    """`close` sends what is left; reservations never settled are given back by the next process that looks."""
    limits = rule(concurrent_requests=5, tokens_per_day=10_000)
    async with running(TestLimiter(shared_counters(redis, lease=0.3), limits)) as one:
        await one.reserve(one.plan_of(), 100, 10)
        one.settle(await one.reserve(one.plan_of(), 100, 10), 7, 3, failed=False)
    async with running(TestLimiter(shared_counters(redis, lease=0.3), limits)):
        await until(lambda: not counter(redis, "limit:key:key1")["used"])
        assert counter(redis, "limit:key:key1")["d_tokens"] == 10
    assert one.metric("nexus_gateway_limits_unsettled_total") == 0


async def test_spend_is_summed_by_tenant_key_and_model(redis: RedisProcess) -> None:
    """Spend holds what was really used, also of requests without any limit, by day."""
    price = _price()
    async with running(TestLimiter(shared_counters(redis), rule(models=("m",), requests_per_minute=6_000,
                                                                burst_requests=100))) as limiter:  # fmt: skip
        for tenant, key, model in (("a", "k1", "m"), ("a", "k1", "m"), ("a", None, "free"), ("b", "k2", "m")):
            plan = limiter.plan_of(Principal(tenant, key_id=key), route=PricedRoute(model, price))
            limiter.settle(await limiter.reserve(plan, 100, 10), 1_000, 500, failed=False)
        limiter.settle(await limiter.reserve(limiter.plan_of(), 100, 10), None, None, failed=True)
        await settled(limiter)
    connection = RedisConnection(SecretStr(redis.url), 0.3)
    reader = SpendReader(connection)
    day = datetime.now(UTC).date()
    lines = {(row.tenant, row.key_id, row.model): row for row in await reader.spend(day - timedelta(days=1), day)}
    assert set(lines) == {("a", "k1", "m"), ("a", None, "free"), ("b", "k2", "m")}
    line = lines["a", "k1", "m"]
    assert (line.requests, line.prompt_tokens, line.output_tokens, line.usd) == (2, 2_000, 1_000, 0.0025)
    redis.pause()
    with pytest.raises(NotReadyError):
        await reader.spend(day, day)
    redis.resume()
    await connection.close()


async def test_a_batch_is_shared_and_long_queues_are_cut(redis: RedisProcess) -> None:
    """600 requests of one loop tick need three calls of the script, not 600."""
    async with running(TestLimiter(shared_counters(redis), rule(concurrent_requests=500))) as limiter:
        before = redis.client.info("commandstats")["cmdstat_evalsha"]["calls"]
        plan = limiter.plan_of()
        results = await asyncio.gather(*(limiter.reserve(plan, 10, 10) for _ in range(600)), return_exceptions=True)
        calls = redis.client.info("commandstats")["cmdstat_evalsha"]["calls"] - before
    assert sum(isinstance(result, LimitExceededError) for result in results) == 100
    assert calls == 3


async def test_both_limits_of_a_key_that_two_policies_name_count_as_the_newer_one_says(redis: RedisProcess) -> None:
    """A request reserved under the old policy is settled while the new one is in force."""
    async with running(TestLimiter(shared_counters(redis), rule(concurrent_requests=5))) as limiter:
        old = await limiter.reserve(limiter.plan_of(), 10, 10)
        limiter.use(limiter._limits.model_copy(update={"rules": (rule(concurrent_requests=1),)}))
        with pytest.raises(LimitExceededError):
            await limiter.reserve(limiter.plan_of(), 10, 10)
        limiter.settle(old, 1, 1, failed=False)
        await limiter.reserve(limiter.plan_of(ASKER), 10, 10)


def _price() -> Price:
    return Price(input_usd_per_million_tokens=0.5, output_usd_per_million_tokens=1.5)
