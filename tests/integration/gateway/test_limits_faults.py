"""Limits while Redis fails, on a real one: bounded waiting, the policy's answer, recovery by itself, exact books."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import pytest
import uvloop

from gateway.errors import GatewayError, LimiterUnavailableError, LimitExceededError
from serving.contracts.limits import LimitScope, RedisFailure
from tests.fakes.limits import TestLimiter, counter, rule, running, settled, shared_counters
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

TIMEOUT = 0.3
LIMIT = rule(tokens_per_day=1_000_000, tokens_per_month=10_000_000, concurrent_requests=100)


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with RedisProcess(persistent=True) as server:
        yield server


def limiter_on(redis: RedisProcess, *rules: Any, failure: RedisFailure = RedisFailure.ALLOW) -> TestLimiter:
    return TestLimiter(shared_counters(redis, timeout=TIMEOUT), *(rules or (LIMIT,)), failure=failure)


async def ask(limiter: TestLimiter, tokens: int = 10) -> None:
    """One request that uses so many prompt tokens and as many output tokens."""
    reservation = await limiter.reserve(limiter.plan_of(), 100, 100)
    await asyncio.sleep(0.001)
    limiter.settle(reservation, tokens, tokens, failed=False)


class Load:
    """Twenty clients that ask again and again until they are stopped; counts what they really used."""

    def __init__(self, limiter: TestLimiter) -> None:
        self.limiter = limiter
        self.served = self.refused = 0
        self.slowest = 0.0
        self._end = False

    async def __aenter__(self) -> Load:
        self._tasks = asyncio.TaskGroup()
        await self._tasks.__aenter__()
        for _ in range(20):
            self._tasks.create_task(self._client())
        await asyncio.sleep(0.05)
        return self

    async def __aexit__(self, *failure: Any) -> None:
        self._end = True
        await self._tasks.__aexit__(*failure)

    async def _client(self) -> None:
        while not self._end:
            begun = time.monotonic()
            try:
                await ask(self.limiter)
                self.served += 1
            except GatewayError:
                self.refused += 1
            self.slowest = max(self.slowest, time.monotonic() - begun)
            await asyncio.sleep(0.002)

    @property
    def tokens(self) -> int:
        return 20 * self.served


async def assert_books(redis: RedisProcess, limiter: TestLimiter, load: Load) -> None:
    """What the counters say is what was used: nothing twice, nothing lost, nothing still held."""
    await settled(limiter)
    state = counter(redis, "limit:key:key1")
    assert (state["used"], state["d_tokens"], state["m_tokens"]) == (0, load.tokens, load.tokens)
    spend = [value for key in redis.client.keys("{nexus}:spend:*") for value in redis.client.hvals(key)]
    assert len(spend) == 1


@pytest.mark.parametrize("failure", [RedisFailure.ALLOW, RedisFailure.LOCAL_SHARE, RedisFailure.DENY])
async def test_a_redis_that_stands_still_costs_one_timeout_and_no_token(
    redis: RedisProcess, failure: RedisFailure, caplog: pytest.LogCaptureFixture
) -> None:
    """Under load: SIGSTOP, then SIGCONT. Batches of unknown fate, sent again, are counted once; one line is logged."""
    caplog.set_level(logging.WARNING)
    async with running(limiter_on(redis, failure=failure)) as limiter:
        async with Load(limiter) as load:
            redis.pause()
            await until(lambda: not limiter.shared.up)
            before = load.served
            begun = time.monotonic()
            with suppress(LimiterUnavailableError):
                await ask(limiter)
                load.served += 1
            assert time.monotonic() - begun < TIMEOUT / 2  # nobody else waits for what is known not to answer
            await asyncio.sleep(0.4)
            assert (load.served > before + 20) == (failure is not RedisFailure.DENY)
            assert (load.refused > 20) == (failure is RedisFailure.DENY)
            redis.resume()
            await until(lambda: limiter.shared.up)
            since = load.served
            await until(lambda: load.served > since + 50)
        await assert_books(redis, limiter, load)
    assert load.slowest < 3 * TIMEOUT
    assert limiter.metric("nexus_gateway_limited_without_redis_total{") > 0
    lines = [record.message for record in caplog.records if record.name == "gateway.limits.shared"]
    assert lines == ["limits cannot be shared: Redis does not serve them", "limits are shared again"]


async def test_an_answer_that_is_lost_is_not_counted_twice(redis: RedisProcess) -> None:
    """The batch was carried out, its answer never arrives: requests go on, and the same batch is asked about again."""
    async with running(limiter_on(redis, failure=RedisFailure.LOCAL_SHARE)) as limiter:
        await ask(limiter)
        await settled(limiter)
        assert limiter.shared._link is not None
        limiter.shared._link.data_received = lambda _: None  # type: ignore[method-assign]
        load = Load(limiter)
        async with load:
            await until(lambda: not limiter.shared.up)
            await until(lambda: limiter.shared.up)
        load.served += 1
        await assert_books(redis, limiter, load)
        assert limiter.metric("nexus_gateway_limits_begun_anew_total") == 0


async def test_a_crash_with_its_data_kept_loses_nothing(redis: RedisProcess) -> None:
    """kill -9 and restart with an append-only file: reservations from before are settled after."""
    async with running(limiter_on(redis, failure=RedisFailure.ALLOW)) as limiter:
        async with Load(limiter) as load:
            held = await limiter.reserve(limiter.plan_of(), 100, 100)
            redis.kill()
            await until(lambda: not limiter.shared.up)
            await asyncio.sleep(0.1)
            redis.start()
            await until(lambda: limiter.shared.up)
            limiter.settle(held, 10, 10, failed=False)
            load.served += 1
            await asyncio.sleep(0.1)
        await assert_books(redis, limiter, load)
    assert limiter.metric("nexus_gateway_limits_begun_anew_total") == 0


async def test_a_redis_that_comes_back_empty_is_not_settled_into_the_red() -> None:
    """What was reserved in the lost data set is booked as used, not taken off; nothing stays held."""
    with RedisProcess() as redis:
        async with running(limiter_on(redis)) as limiter:
            held = [await limiter.reserve(limiter.plan_of(), 100, 100) for _ in range(10)]
            redis.kill()
            await until(lambda: not limiter.shared.up)
            redis.start()
            await until(lambda: limiter.shared.up)
            for reservation in held:
                limiter.settle(reservation, 10, 10, failed=False)
            await ask(limiter)
            await settled(limiter)
            state = counter(redis, "limit:key:key1")
            assert (state["used"], state["d_tokens"]) == (0, 11 * 20)
            assert limiter.metric("nexus_gateway_limits_begun_anew_total") == 1


async def test_an_older_data_set_is_noticed_and_its_reservations_are_given_back(redis: RedisProcess) -> None:
    """A failover to a replica that was behind: what it holds of this process is settled by nobody, so it is freed."""
    async with running(TestLimiter(shared_counters(redis, lease=0.3), LIMIT)) as limiter:
        held = [await limiter.reserve(limiter.plan_of(), 100, 100) for _ in range(3)]
        older = {key: redis.client.dump(key) for key in redis.client.keys("*")}
        for reservation in held[:2]:
            limiter.settle(reservation, 10, 10, failed=False)
        await settled(limiter)
        await ask(limiter)
        await settled(limiter)
        redis.client.flushall()
        for key, dumped in older.items():
            assert isinstance(dumped, bytes)
            redis.client.restore(key, 0, dumped)
        await ask(limiter)
        limiter.settle(held[2], 10, 10, failed=False)
        await settled(limiter)
        await until(lambda: counter(redis, "limit:key:key1")["used"] == 0)
        assert counter(redis, "limit:key:key1")["d_tokens"] == 2 * 20
        assert limiter.metric("nexus_gateway_limits_begun_anew_total") == 1


async def test_a_process_that_stood_still_itself_does_not_blame_redis(redis: RedisProcess) -> None:
    """An answer that lay in the socket while this process had no CPU counts, on the loop that the gateway uses, too."""

    async def stall() -> None:
        async with running(limiter_on(redis, failure=RedisFailure.DENY)) as limiter:
            request = asyncio.ensure_future(limiter.reserve(limiter.plan_of(), 100, 100))
            while limiter.shared._flight is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
            time.sleep(2 * TIMEOUT)  # noqa: ASYNC251 - the stall
            await request
            assert limiter.shared.up

    await stall()
    await asyncio.to_thread(uvloop.run, stall())


async def test_data_lost_without_a_broken_connection_is_noticed(redis: RedisProcess) -> None:
    """FLUSHALL under load: requests that wait are asked again under a new name, none is let through unasked."""
    async with running(limiter_on(redis, failure=RedisFailure.DENY)) as limiter:
        async with Load(limiter) as load:
            redis.client.flushall()
            await until(lambda: limiter.metric("nexus_gateway_limits_begun_anew_total"))
            since = load.served
            await until(lambda: load.served > since + 50)
            assert load.refused == 0
        await settled(limiter)
    state = counter(redis, "limit:key:key1")
    assert state["used"] == 0
    assert 0 < state["d_tokens"] <= load.tokens


async def test_a_redis_that_became_a_replica_is_left_and_found_again(redis: RedisProcess) -> None:
    """Read-only: nothing is written, the policy answers; as a primary again it gets all that was used."""
    async with running(limiter_on(redis)) as limiter:
        async with Load(limiter) as load:
            redis.client.replicaof("127.0.0.1", "1")
            await until(lambda: not limiter.shared.up)
            await asyncio.sleep(0.1)
            redis.client.replicaof("NO", "ONE")
            await until(lambda: limiter.shared.up)
            await asyncio.sleep(0.1)
        await assert_books(redis, limiter, load)


async def test_forgotten_scripts_are_sent_again(redis: RedisProcess) -> None:
    """SCRIPT FLUSH under load: nobody notices."""
    async with running(limiter_on(redis, failure=RedisFailure.DENY)) as limiter:
        async with Load(limiter) as load:
            for _ in range(5):
                redis.client.script_flush()
                await asyncio.sleep(0.02)
            assert load.refused == 0
        await assert_books(redis, limiter, load)
    assert limiter.metric("nexus_gateway_limits_redis_failures_total") == 0


async def test_a_full_redis_is_a_failed_one(redis: RedisProcess) -> None:
    """Out of memory: a batch changes nothing, the policy answers, and it recovers."""
    async with running(limiter_on(redis)) as limiter:
        async with Load(limiter) as load:
            redis.client.config_set("maxmemory", "1")
            await until(lambda: not limiter.shared.up)
            redis.client.config_set("maxmemory", "0")
            await until(lambda: limiter.shared.up)
            await asyncio.sleep(0.05)
        await assert_books(redis, limiter, load)


async def test_a_process_alone_applies_its_share(redis: RedisProcess) -> None:
    """Local share 0.5 of five requests at once is two; denials say the same as with Redis."""
    limit = rule("few", LimitScope.TENANT, requests_per_minute=60, burst_requests=5)
    limiter = limiter_on(redis, limit, failure=RedisFailure.LOCAL_SHARE)
    redis.kill()
    await limiter.open()
    for _ in range(2):
        assert b"x-ratelimit-limit-requests: 60\r\n" in (await limiter.reserve(limiter.plan_of(), 10, 10)).headers
    with pytest.raises(LimitExceededError) as refused:
        await limiter.reserve(limiter.plan_of(), 10, 10)
    assert refused.value.retry_after_seconds == 2
    await limiter.close()


async def test_requests_behind_cancelled_ones_are_not_forgotten(redis: RedisProcess) -> None:
    """Clients that leave while Redis is slow make way for those behind them, however many they are."""
    limits = rule(requests_per_minute=60_000, burst_requests=5_000)
    async with running(TestLimiter(shared_counters(redis, lease=120), limits)) as limiter:
        redis.pause()
        first = asyncio.ensure_future(limiter.reserve(limiter.plan_of(), 10, 10))
        await asyncio.sleep(0.01)
        rest = [asyncio.ensure_future(limiter.reserve(limiter.plan_of(), 10, 10)) for _ in range(300)]
        await asyncio.sleep(0.01)
        for task in rest[:256]:
            task.cancel()
        await asyncio.sleep(0.01)
        redis.resume()
        async with asyncio.timeout(10):
            await asyncio.gather(first, *rest[256:])


async def test_use_that_cannot_be_sent_at_the_end_is_told(
    redis: RedisProcess, caplog: pytest.LogCaptureFixture
) -> None:
    """Closing while Redis is away ends in bounded time, logs and counts what is lost."""
    limiter = limiter_on(redis)
    await limiter.open()
    redis.kill()
    await until(lambda: not limiter.shared.up)
    await ask(limiter)
    await limiter.close()
    assert limiter.metric("nexus_gateway_limits_unsettled_total") == 1
    assert "use of limits is lost" in caplog.text


async def test_what_was_only_held_ahead_is_no_loss(redis: RedisProcess, caplog: pytest.LogCaptureFixture) -> None:
    """Closing while Redis is away tells of no lost use when nothing was used."""
    limiter = TestLimiter(shared_counters(redis, timeout=0.2), rule(concurrent_requests=100_000))
    await limiter.open()
    for _ in range(4):
        limiter.settle(await limiter.reserve(limiter.plan_of(), 10, 10), 1, 1, failed=False)
    await settled(limiter)
    redis.kill()
    await until(lambda: not limiter.shared.up)
    await limiter.close()
    assert limiter.metric("nexus_gateway_limits_unsettled_total") == 0
    assert "use of limits is lost" not in caplog.text
