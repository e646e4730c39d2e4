"""The limiter where there is no Redis, or none that answers: decided at once, by the policy."""

from __future__ import annotations

import pytest

from gateway.errors import LimiterUnavailableError, LimitExceededError
from gateway.limits.limiter import Limiter
from gateway.limits.redis_link import RedisAddress
from gateway.limits.shared import SharedCounters
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.limits import Limits, RedisFailure
from tests.fakes.limits import ASKER, ROUTE, TestLimiter, rule


def without_redis(failure: RedisFailure) -> TestLimiter:
    address = RedisAddress(path="/nonexistent/redis.sock")
    shared = SharedCounters(address, timeout_seconds=1, lease_seconds=10, metrics=GatewayMetrics())
    return TestLimiter(shared, rule(concurrent_requests=2, requests_per_minute=60, burst_requests=4), failure=failure)


async def test_allow_lets_requests_through_unasked() -> None:
    """No headers, no limit; counted."""
    limiter = without_redis(RedisFailure.ALLOW)
    for _ in range(5):
        assert (await limiter.reserve(limiter.plan_of(), 10, 10)).headers == b""
    assert limiter.metric("nexus_gateway_limited_without_redis_total{") == 5


async def test_deny_refuses() -> None:
    """Requests with limits get a 503; requests without any pass."""
    limiter = without_redis(RedisFailure.DENY)
    with pytest.raises(LimiterUnavailableError):
        await limiter.reserve(limiter.plan_of(), 10, 10)
    limiter.use(Limits(redis_failure=RedisFailure.DENY))
    await limiter.reserve(limiter.plan_of(), 10, 10)


async def test_a_local_share_is_held_and_given_back() -> None:
    """Half of two is one at a time; a failed request gives its place and its request back."""
    limiter = without_redis(RedisFailure.LOCAL_SHARE)
    for _ in range(5):
        held = await limiter.reserve(limiter.plan_of(), 10, 10)
        with pytest.raises(LimitExceededError):
            await limiter.reserve(limiter.plan_of(), 10, 10)
        limiter.settle(held, None, None, failed=True)
        limiter.settle(held, None, None, failed=True)
    assert limiter.metric("nexus_gateway_limit_denials_total{") == 5


async def test_a_limiter_without_a_redis_limits_nothing() -> None:
    """A gateway that has no Redis has no limits, and no counters to book."""
    limiter = Limiter(None, GatewayMetrics())
    limiter.use(Limits(rules=(rule(concurrent_requests=1),)))
    await limiter.open()
    plan = limiter.plan(ASKER, None, ROUTE)
    for _ in range(3):
        limiter.settle(await limiter.reserve(plan, 10, 10), 3, 3, failed=False)
    await limiter.close()


@pytest.mark.parametrize(
    ("prompt", "output", "failed", "learned"),
    [
        (100, 20, False, True),
        (100, 0, False, True),
        (0, 0, False, False),
        (100, 20, True, False),
        (None, 20, False, False),
    ],
)
async def test_only_whole_answers_are_learned_from(
    prompt: int | None, output: int | None, failed: bool, learned: bool
) -> None:
    """Refusals, failures and unknown use leave the estimate as it was."""
    limiter = Limiter(None, GatewayMetrics())
    plan = limiter.plan(ASKER, None, ROUTE)
    limiter.settle(await limiter.reserve(plan, 10, 10), prompt, output, failed=failed)
    assert plan.estimate.learned is learned
