"""What limits cost: microseconds of CPU a request, in the gateway's process and in Redis, each on a core of its own.

Run: `.nexus/envs/core/bin/python -m tests.load.limits_cost [--connections 32] [--tcp] [--pause 0.002]`

A closed loop of connections that only reserve and settle, four scopes, every kind of limit used by one of them. The
same loop without limits is subtracted: what is left is what limits add.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import time
from dataclasses import dataclass

import uvloop

from gateway.auth.principal import Principal
from gateway.limits.limiter import Limiter
from gateway.limits.plan import LimitPlan
from gateway.limits.redis_link import RedisAddress
from gateway.limits.shared import SharedCounters
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.limits import LimitRule, Limits, LimitScope
from serving.contracts.route import Price
from tests.fakes.redis_process import RedisProcess

BODY_BYTES = 900
MAX_TOKENS = 128
PLENTY = 1_000_000_000
RULES = (
    LimitRule(name="per-key", scope=LimitScope.KEY, requests_per_minute=PLENTY // 60, burst_requests=100_000,
              tokens_per_minute=PLENTY, concurrent_requests=1_000),
    LimitRule(name="per-user", scope=LimitScope.USER, requests_per_minute=PLENTY // 60, burst_requests=100_000),
    LimitRule(name="per-tenant", scope=LimitScope.TENANT, usd_per_day=1e6, usd_per_month=1e6, tokens_per_day=PLENTY),
    LimitRule(name="per-model", scope=LimitScope.MODEL, tokens_per_minute=PLENTY, concurrent_requests=10_000),
)  # fmt: skip


@dataclass(frozen=True)
class PricedRoute:
    """A model and its price."""

    model: str
    price: Price | None


@dataclass(frozen=True)
class Cost:
    """Of one round; microseconds of CPU a request."""

    gateway_us: float
    redis_us: float
    requests_per_second: float
    requests_per_batch: float


async def closed_loop(limiter: Limiter | None, plans: list[LimitPlan], options: argparse.Namespace) -> int:
    """Let each connection reserve, answer and settle until the time is over; returns the requests."""
    end = time.monotonic() + options.seconds
    done = 0

    async def connection(number: int) -> None:
        nonlocal done
        plan = plans[number % len(plans)]
        await asyncio.sleep(options.pause * number / options.connections)
        while time.monotonic() < end:
            if limiter is None:
                await asyncio.sleep(options.pause)
            else:
                reservation = await limiter.reserve(plan, BODY_BYTES, MAX_TOKENS)
                _ = reservation.headers
                await asyncio.sleep(options.pause)
                limiter.settle(reservation, 200, 60, failed=False)
            done += 1

    async with asyncio.TaskGroup() as tasks:
        for number in range(options.connections):
            tasks.create_task(connection(number))
    return done


def plans_of(limiter: Limiter, connections: int) -> list[LimitPlan]:
    """Return a plan a connection: a key and user each, four tenants, two models."""
    routes = [PricedRoute(f"model-{n}", Price(input_usd_per_million_tokens=0.5, output_usd_per_million_tokens=1.5))
              for n in range(2)]  # fmt: skip
    return [
        limiter.plan(Principal(f"tenant-{n % 4}", key_id=f"key{n:04d}"), b"user%d" % n, routes[n % 2])
        for n in range(connections)
    ]


async def measure(redis: RedisProcess, url: str, options: argparse.Namespace) -> Cost:
    """Run one round with limits and one without; returns the difference."""
    metrics = GatewayMetrics()
    shared = SharedCounters(RedisAddress.parse(url), timeout_seconds=1.0, lease_seconds=10.0, metrics=metrics)
    limiter = Limiter(shared, metrics)
    limiter.use(Limits(rules=RULES))
    await limiter.open()
    plans = plans_of(limiter, options.connections)

    start = time.process_time()
    done = await closed_loop(None, plans, options)
    baseline = (time.process_time() - start) / done
    before, cpu, begun = redis.client.info("all"), time.process_time(), time.monotonic()
    done = await closed_loop(limiter, plans, options)
    took, cpu, after = time.monotonic() - begun, time.process_time() - cpu, redis.client.info("all")
    await limiter.close()
    redis_cpu = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    calls = [stats.get("cmdstat_evalsha", {"calls": 0})["calls"] for stats in (before, after)]
    return Cost((cpu / done - baseline) * 1e6, redis_cpu / done * 1e6, done / took, done / (calls[1] - calls[0]))


def main() -> None:
    """Print the medians of all rounds as JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--tcp", action="store_true", help="127.0.0.1 instead of a unix socket")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds that an answer takes; spreads requests out")
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0))
    with RedisProcess() as redis:
        if len(cores) > 1:
            os.sched_setaffinity(redis.pid, {cores[1]})
            os.sched_setaffinity(0, {cores[0]})
        url = redis.url if options.tcp else redis.unix_url
        rounds = [uvloop.run(measure(redis, url, options)) for _ in range(options.rounds)]
    names = ("gateway_us", "redis_us", "requests_per_second", "requests_per_batch")
    print(json.dumps({name: round(statistics.median(getattr(one, name) for one in rounds), 1) for name in names}))


if __name__ == "__main__":
    main()
