"""Limiters on a real Redis, and what its counters hold, for tests of limits."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

from gateway.auth.principal import Principal
from gateway.limits.limiter import Limiter
from gateway.limits.plan import LimitPlan
from gateway.limits.redis_link import RedisAddress
from gateway.limits.shared import SCRIPT, SharedCounters
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.limits import LimitRule, Limits, LimitScope, RedisFailure
from serving.contracts.route import Price
from tests.fakes.redis_process import RedisProcess

CLOCK_KEY = "{nexus}:test-clock"
FAKE_TIME = SCRIPT.replace(
    b"local time = call('TIME')",
    b"local clock = tonumber(call('GET', '%b'))\nlocal time = { floor(clock / 1000000), clock %% 1000000 }"
    % CLOCK_KEY.encode(),
)
"""batch.lua with a clock that a test sets."""
assert FAKE_TIME != SCRIPT

FIELDS = (
    "r_tat",
    "r_back",
    "t_tat",
    "t_back",
    "used",
    "day",
    "d_tokens",
    "d_nano",
    "month",
    "m_tokens",
    "m_nano",
    "kept",
)


@dataclass(frozen=True)
class PricedRoute:
    """A model and its price."""

    model: str = "m"
    price: Price | None = None


ASKER = Principal("bank", key_id="key1")
ROUTE = PricedRoute()


def rule(name: str = "limit", scope: LimitScope = LimitScope.KEY, **limits: Any) -> LimitRule:
    return LimitRule(name=name, scope=scope, **limits)


def shared_counters(
    redis: RedisProcess, *, timeout: float = 2.0, lease: float = 60.0, script: bytes = SCRIPT
) -> SharedCounters:
    address = RedisAddress.parse(redis.unix_url)
    return SharedCounters(
        address, timeout_seconds=timeout, lease_seconds=lease, metrics=GatewayMetrics(), script=script
    )


class TestLimiter(Limiter):
    """A limiter whose shared counters and metrics a test may look at."""

    __test__ = False

    def __init__(self, shared: SharedCounters, *rules: LimitRule, failure: RedisFailure = RedisFailure.DENY) -> None:
        self.metrics = shared._metrics
        super().__init__(shared, self.metrics)
        self.shared = shared
        self.use(Limits(rules=rules, redis_failure=failure, local_share_fraction=0.5))

    def plan_of(self, principal: Principal = ASKER, user: bytes | None = None, route: PricedRoute = ROUTE) -> LimitPlan:
        return self.plan(principal, user, route)

    def metric(self, name: str) -> float:
        lines = [line for line in self.metrics.render().decode().splitlines() if line.startswith(name)]
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


@asynccontextmanager
async def running(limiter: TestLimiter) -> AsyncIterator[TestLimiter]:
    """Run a limiter as the gateway does, and close it."""
    async with asyncio.TaskGroup() as tasks:
        await limiter.open()
        task = tasks.create_task(limiter.run())
        try:
            yield limiter
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            await limiter.close()


async def settled(limiter: TestLimiter) -> None:
    """Wait until everything that was settled is in Redis."""
    shared = limiter.shared
    async with asyncio.timeout(15):
        while not shared.up or shared._flight is not None or waiting(shared):  # noqa: ASYNC110
            await asyncio.sleep(0.002)


def waiting(shared: SharedCounters) -> bool:
    """Tell whether anything is still to be sent."""
    return bool(shared._queue or shared._ahead or shared._ended or shared._debts)


def counter(redis: RedisProcess, key: str) -> dict[str, float]:
    """Return what a counter holds; the key without its common prefix."""
    raw = redis.client.get("{nexus}:limit:" + key)
    assert isinstance(raw, bytes), f"no counter {key}"
    return dict(zip(FIELDS, struct.unpack("<12d", raw), strict=True))
