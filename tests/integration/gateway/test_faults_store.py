"""Redis, policy documents and the spool's disk fail under load, and a gateway is killed; keys and limits are on."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import SHORT_LEASE, FullGateway, KeyedLoad, full_gateway, keyed_policy, policy_text
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(60)]

KEY = {"name": "key", "scope": "key", "tokens_per_day": 100_000_000, "concurrent_requests": 1_000}
TENANT = {"name": "tenant", "scope": "tenant", "requests_per_minute": 10_000_000, "burst_requests": 100_000}


@pytest.fixture
def redis() -> Iterator[RedisProcess]:
    with RedisProcess(persistent=True) as server:
        yield server


def served(gateway: FullGateway) -> int:
    return sum(line["outcome"] == "ok" for line in gateway.observations())


def test_redis_slow_gone_and_read_only_under_load(tmp_path: Path, engine: FakeUpstream, redis: RedisProcess) -> None:
    """Deny while Redis fails: nobody waits long, keys still count, and in the end the books say what was served."""
    policy = keyed_policy(KEY, TENANT, limits={"redis_failure": "deny"})
    with full_gateway(tmp_path, engine, redis, **policy) as gateway:
        with KeyedLoad(gateway, {}, clients=4, pause=0.005) as load:

            def fails_and_recovers() -> None:
                refused = load.outcomes["503"]
                wait_until(lambda: load.outcomes["503"] > refused + 5)
                assert gateway.post({}, authorization="Bearer wrong")[0] == 401

            def serves_again() -> None:
                answered = load.outcomes["200"]
                wait_until(lambda: load.outcomes["200"] > answered + 20)

            serves_again()
            redis.pause()
            fails_and_recovers()
            redis.resume()
            serves_again()
            redis.kill()
            fails_and_recovers()
            redis.start()
            serves_again()
            redis.client.replicaof("127.0.0.1", "1")
            fails_and_recovers()
            redis.client.replicaof("NO", "ONE")
            serves_again()
        assert set(load.outcomes) == {"200", "503"}
        assert load.slowest < 2  # 0.1 s is what a request waits for Redis
        wait_until(lambda: gateway.held() == 0 and gateway.spent()["requests"] == load.outcomes["200"])
        wait_until(lambda: served(gateway) == load.outcomes["200"])
        assert gateway.metric(names.GATEWAY_LIMITS_UNSETTLED) == 0


def test_policy_broken_deleted_and_swapped_under_load(
    tmp_path: Path, engine: FakeUpstream, redis: RedisProcess
) -> None:
    """A hundred swaps of limits, every tenth broken, then no folder at all: no request fails, no budget is lost."""
    with full_gateway(tmp_path, engine, redis, **keyed_policy(KEY, TENANT)) as gateway:
        with KeyedLoad(gateway, {}, clients=4) as load:
            for number in range(100):
                old = (gateway.root / "current").resolve()
                if number % 10 == 9:
                    gateway.policy = policy_text(**keyed_policy(KEY)) + "}"
                    gateway.commit({"stable": 100})
                else:
                    gateway.configure(**keyed_policy(KEY | {"tokens_per_day": 10_000_000 + number}, TENANT))
                shutil.rmtree(old)
                time.sleep(0.02)
            (gateway.root / "current").unlink()
            wait_until(lambda: json.loads(gateway.get("/health/ready")[2])["reasons"])
            answered = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > answered + 50)
            last = gateway.configure(**keyed_policy(KEY | {"tokens_per_day": 1}, TENANT))
            wait_until(lambda: json.loads(gateway.get("/health/ready")[2])["revision"] == last)
            wait_until(lambda: load.outcomes["429"])  # the load has met the new limit, not another request alone
        assert set(load.outcomes) == {"200", "429"}
        wait_until(lambda: gateway.held() == 0 and gateway.spent()["requests"] == load.outcomes["200"])


def test_a_full_disk_costs_observations_and_no_request(
    tmp_path: Path, engine: FakeUpstream, redis: RedisProcess
) -> None:
    """Files cannot grow: requests go on, what fits in memory is kept and written later, the rest is counted."""
    settings = {"SPOOL_QUEUE_BYTES": "20000", "LOG_LEVEL": "ERROR"}
    with full_gateway(tmp_path, engine, redis, settings=settings, **keyed_policy(KEY)) as gateway:
        assert gateway.process is not None
        limit = resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, (100, limit[1]))
        assert all(gateway.post({})[0] == 200 for _ in range(150))
        wait_until(lambda: gateway.metric(names.GATEWAY_SPOOL_WRITE_FAILURES) > 0)
        dropped = gateway.metric(names.GATEWAY_SPOOL_DROPPED)
        assert 50 < dropped < 150
        assert gateway.observations() == []
        resource.prlimit(gateway.process.pid, resource.RLIMIT_FSIZE, limit)
        wait_until(lambda: gateway.metric(names.GATEWAY_SPOOL_QUEUED) == 0)
        assert gateway.post({})[0] == 200
        wait_until(lambda: len(gateway.observations()) == 151 - dropped)
        assert gateway.spent()["requests"] <= 151
        wait_until(lambda: gateway.spent()["requests"] == 151)


def test_a_killed_gateway_gives_its_reservations_back_and_no_budget_is_overshot(
    tmp_path: Path, engine: FakeUpstream, redis: RedisProcess
) -> None:
    """`kill -9` of one of two under load: only what it had in flight fails, the other goes on to the exact budget."""
    clients, budget, cost = 8, 12_000, 12
    policy = keyed_policy({"name": "day", "scope": "tenant", "tokens_per_day": budget, "concurrent_requests": 100})
    one, two = (FullGateway(tmp_path / name, engine, redis) for name in ("one", "two"))
    body = {"max_tokens": 5, "pause": 0.02}
    try:
        for gateway in (one, two):
            gateway.command = [sys.executable, "-c", SHORT_LEASE]
            gateway.configure(**policy)
            gateway.start()
        two.headers = one.headers
        wait_until(lambda: two.post({})[0] == 200)
        before = 1
        with KeyedLoad(one, body, clients=clients, ports=(one.port, two.port)) as load:
            wait_until(lambda: load.outcomes["200"] > 100)
            assert one.process is not None
            os.kill(one.process.pid, signal.SIGKILL)
            one.process.wait()
            wait_until(lambda: load.outcomes["429"] > 20, seconds=30)
        answered = load.outcomes["200"] + before
        lost = load.outcomes["RemoteDisconnected"] + load.outcomes["ConnectionResetError"]
        assert lost <= clients, load.outcomes
        wait_until(lambda: two.held() == 0, seconds=15)
        booked = two.spent()
        assert booked["prompt"] + booked["output"] <= budget
        assert answered - clients <= booked["requests"] <= answered
        assert answered * cost <= budget + clients * cost  # what the dead one had answered and not booked yet
        one.start()
        assert one.post({})[0] == 429
    finally:
        one.stop()
        two.stop()
