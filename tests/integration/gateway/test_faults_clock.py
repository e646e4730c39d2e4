"""The machine's clock jumps by hours under load, the gateway's or Redis': nothing fails, is lost, or is let in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from gateway.errors import LimitExceededError
from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, KeyedLoad, keyed_policy
from tests.fakes.jwks_server import JwksServer
from tests.fakes.limits import CLOCK_KEY, FAKE_TIME, TestLimiter, counter, rule, running, settled, shared_counters
from tests.fakes.redis_process import RedisProcess
from tests.fakes.shifted_clock import ClockFile
from tests.fakes.token_issuer import AUDIENCE, ISSUER, TokenIssuer
from tests.fakes.waiting import until, wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

HOUR = 3600.0
HOUR_US = 3_600_000_000
NOON_US = 20_000 * 24 * HOUR_US + 12 * HOUR_US
DAY = {"name": "day", "scope": "key", "tokens_per_day": 10_000_000, "tokens_per_minute": 100_000_000}
KEY = {
    "name": "key",
    "scope": "key",
    "requests_per_minute": 10_000_000,
    "burst_requests": 100_000,
    "concurrent_requests": 1_000,
}


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with RedisProcess() as server:
        yield server


@pytest.fixture
def issuer() -> TokenIssuer:
    return TokenIssuer()


class ClockedGateway(FullGateway):
    """A gateway whose wall clock is set by `clock`, with keys, tokens, limits and a short breaker."""

    def __init__(self, root: Path, engine: FakeUpstream, redis: RedisProcess, jwks_url: str) -> None:
        super().__init__(root, engine, redis)
        self.clock = ClockFile(root / "clock")
        self.command = self.clock.command()
        jwt = {"issuer": ISSUER, "audience": AUDIENCE, "algorithms": ["ES256"], "jwks_url": f"{jwks_url}/jwks"}
        self.configure(**keyed_policy(DAY, KEY, authentication={"required": True, "jwt": [jwt]}))

    def asked_with(self, credential: str) -> int:
        return self.post({}, authorization=f"Bearer {credential}")[0]


@pytest.fixture
def gateway(tmp_path: Path, engine: FakeUpstream, redis: RedisProcess, issuer: TokenIssuer) -> Iterator[ClockedGateway]:
    with JwksServer(issuer.jwks) as jwks:
        clocked = ClockedGateway(tmp_path, engine, redis, jwks.url)
        try:
            clocked.start()
            yield clocked
        finally:
            clocked.stop()


def issue(gateway: FullGateway, **order: Any) -> tuple[str, str]:
    status, answer = gateway.admin("POST", "/admin/v1/keys", {"tenant": "acme", "name": "k"} | order)
    assert status == 201, answer
    return answer["credential"], answer["key"]["id"]


def test_jumps_under_load_fail_nothing_and_count_everything(gateway: ClockedGateway) -> None:
    """Six hours and a month ahead and back while requests run, streamed and not: all answered, each booked once."""
    with (
        KeyedLoad(gateway, {"max_tokens": 3, "stream": True, "pause": 0.002}, clients=3) as streams,
        KeyedLoad(gateway, {"max_tokens": 3}, clients=3, pause=0.002) as load,
    ):
        for hours in (6, -6, 30 * 24, 0, -48, 0):
            gateway.clock.set(hours * HOUR)
            answered = load.outcomes["200"], streams.outcomes["200"]
            wait_until(lambda seen=answered: load.outcomes["200"] > seen[0] + 40)  # type: ignore[misc]
            wait_until(lambda seen=answered: streams.outcomes["200"] > seen[1] + 10)  # type: ignore[misc]
    assert set(load.outcomes) == set(streams.outcomes) == {"200"}
    total = load.outcomes["200"] + streams.outcomes["200"]
    wait_until(lambda: gateway.held() == 0 and gateway.spent()["requests"] == total)
    assert len(list(gateway.redis.client.scan_iter("{nexus}:spend:*"))) == 1  # all of the day that Redis has
    wait_until(lambda: len(gateway.observations()) == total)
    assert {line["outcome"] for line in gateway.observations()} == {"ok"}
    for name in (names.GATEWAY_LIMITS_REDIS_FAILURES, names.GATEWAY_KEY_REFRESH_FAILURES):
        assert gateway.metric(name) == 0


def test_credentials_end_when_they_say_and_not_otherwise(gateway: ClockedGateway, issuer: TokenIssuer) -> None:
    """Past its expiry a credential is refused, before it accepted; one without an expiry, or revoked, never changes."""
    for_ever = gateway.headers["authorization"].removeprefix("Bearer ")
    hour, _ = issue(gateway, lasts_seconds=3600)
    token = issuer.mint(exp=time.time() + 2 * HOUR)
    later = issuer.mint(nbf=time.time() + 2 * HOUR, exp=time.time() + 9 * HOUR)
    gone, gone_id = issue(gateway)
    everybody = (for_ever, hour, token, later, gone)
    wait_until(lambda: gateway.asked_with(token) == 200)  # the issuer's keys are there

    def answers(hours: float) -> list[int]:
        gateway.clock.set(hours * HOUR)
        return [gateway.asked_with(one) for one in everybody]

    assert answers(0) == [200, 200, 200, 401, 200]
    assert answers(1.5) == [200, 401, 200, 401, 200]
    assert answers(3) == [200, 401, 401, 200, 200]
    assert gateway.admin("POST", f"/admin/v1/keys/{gone_id}/revoke")[0] == 200
    assert answers(3)[-1] == 401
    assert answers(0) == [200, 200, 200, 401, 401]  # revoked by a clock that was ahead, and for good
    assert answers(-5) == [200, 200, 200, 401, 401]


def test_idempotent_repeats_and_issuers_keys_outlive_a_jump(
    gateway: ClockedGateway, issuer: TokenIssuer, engine: FakeUpstream
) -> None:
    """A repeat half a day later on the wall clock is replayed; nobody fetches key sets because a clock jumped."""
    token = issuer.mint(exp=time.time() + 1000 * HOUR)
    wait_until(lambda: gateway.asked_with(token) == 200)
    first = gateway.post({}, idempotency_key="one")
    asked = len(engine.requests)
    fetched = gateway.metric(names.GATEWAY_JWKS_FETCHES)
    for hours in (12, -12, 500):
        gateway.clock.set(hours * HOUR)
        again = gateway.post({}, idempotency_key="one")
        assert (again[0], again[2]) == (200, first[2])
        assert gateway.asked_with(token) == 200
    assert len(engine.requests) == asked + 3
    assert gateway.metric(names.GATEWAY_JWKS_FETCHES) == fetched


async def test_redis_own_clock_jumps_and_no_budget_opens(redis: RedisProcess) -> None:
    """Two days ahead and back: what was used on the day that never was counts for today, and no more can be used."""
    redis.client.set(CLOCK_KEY, NOON_US)
    limits = rule(tokens_per_day=100, concurrent_requests=10)
    async with running(TestLimiter(shared_counters(redis, script=FAKE_TIME), limits)) as limiter:

        async def use(tokens: int) -> None:
            reservation = await limiter.reserve(limiter.plan_of(), 1, tokens - 1)
            limiter.settle(reservation, 1, tokens - 1, failed=False)
            await settled(limiter)

        await use(60)
        redis.client.set(CLOCK_KEY, NOON_US + 48 * HOUR_US)
        await use(60)
        redis.client.set(CLOCK_KEY, NOON_US)
        await use(30)
        with pytest.raises(LimitExceededError):
            await use(30)
        state = counter(redis, "limit:key:key1")
        assert (state["used"], state["d_tokens"]) == (0, 90)
        assert limiter.metric("nexus_gateway_limits_begun_anew_total") == 0


@pytest.mark.parametrize("hours", [6, -6])
async def test_redis_own_clock_jumps_and_lost_processes_are_still_given_up(redis: RedisProcess, hours: int) -> None:
    """Who lives is not given up because the clock jumped; who died before it did is, a lease later."""
    redis.client.set(CLOCK_KEY, NOON_US)
    lease_us = 60_000_000
    limit = rule(concurrent_requests=10)
    dead = TestLimiter(shared_counters(redis, script=FAKE_TIME), limit)
    await dead.open()
    await dead.reserve(dead.plan_of(), 1, 1)
    assert dead.shared._link is not None
    dead.shared._link.close()
    async with running(TestLimiter(shared_counters(redis, script=FAKE_TIME), limit)) as limiter:
        mine = await limiter.reserve(limiter.plan_of(), 1, 1)
        assert counter(redis, "limit:key:key1")["used"] == 2
        redis.client.set(CLOCK_KEY, NOON_US + hours * HOUR_US)

        async def hear() -> None:
            limiter.shared._sweep = True
            limiter.shared._soon()
            await until(lambda: not limiter.shared._sweep)
            await settled(limiter)

        await hear()
        assert counter(redis, "limit:key:key1")["used"] == 2
        for step in (0.4, 0.8, 1.2):
            redis.client.set(CLOCK_KEY, int(NOON_US + hours * HOUR_US + step * lease_us))
            await hear()
        assert counter(redis, "limit:key:key1")["used"] == 1
        limiter.settle(mine, 1, 1, failed=False)
        await settled(limiter)
        assert counter(redis, "limit:key:key1")["used"] == 0
        assert limiter.metric("nexus_gateway_limits_begun_anew_total") == 0
