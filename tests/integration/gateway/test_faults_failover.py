"""A real primary and its replica behind one address that moves: what a failover costs, and what it must not."""

from __future__ import annotations

import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from serving.contracts import metric_names as names
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import SHORT_LEASE, FullGateway, KeyedLoad, keyed_policy
from tests.fakes.moving_address import MovingAddress
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]

COST = 12
"""Tokens of an answer of five, as the fake engine counts them."""
BUDGET = 40_000
CLIENTS = 4


class Pair(NamedTuple):
    primary: RedisProcess
    replica: RedisProcess
    address: MovingAddress


@pytest.fixture
def pair() -> Iterator[Pair]:
    with RedisProcess() as primary:
        follow = ("--replicaof", "127.0.0.1", str(primary.port), "--repl-diskless-sync-delay", "0")
        with RedisProcess(*follow) as replica, MovingAddress(primary.port) as address:
            wait_until(lambda: replica.client.info("replication")["master_link_status"] == "up")
            yield Pair(primary, replica, address)


def day_tokens(redis: RedisProcess) -> int:
    """Tokens that the tenant's counter has of today."""
    raw = redis.client.get("{nexus}:limit:day:tenant:acme")
    assert isinstance(raw, bytes), redis.client.keys("{nexus}:limit:*")
    return int(struct.unpack("<12d", raw)[6])


def booked(redis: RedisProcess) -> int:
    """Requests that its spend has."""
    packed = [value for key in redis.client.keys("{nexus}:spend:*") for value in redis.client.hvals(key)]
    return int(sum(struct.unpack("<4d", value)[0] for value in packed))


def connected(redis: RedisProcess) -> list[str]:
    """Names of the gateway's connections."""
    return [one["name"] for one in redis.client.client_list() if one["name"].startswith("nexus-gateway")]


def key_id(gateway: FullGateway, name: str) -> str:
    listed = gateway.admin("GET", "/admin/v1/keys")[1]["keys"]
    return next(str(key["id"]) for key in listed if key["name"] == name)


@pytest.mark.parametrize("old", ["killed", "demoted"])
def test_a_failover_under_load_keeps_keys_and_budgets_and_needs_no_restart(
    tmp_path: Path, engine: FakeUpstream, pair: Pair, old: str
) -> None:
    """Refused while away as the policy says, served by the new primary, to its budget; nobody stays at the old one."""
    primary, replica, address = pair
    day = {"name": "day", "scope": "tenant", "tokens_per_day": BUDGET, "concurrent_requests": 100}
    policy = keyed_policy(day, limits={"redis_failure": "deny"})
    gateway = FullGateway(tmp_path, engine, primary, REDIS_URL=address.url)
    gateway.command = [sys.executable, "-c", SHORT_LEASE]
    gateway.configure(**policy)
    try:
        gateway.start()
        ended = gateway.issue(name="ended")
        assert gateway.admin("POST", f"/admin/v1/keys/{key_id(gateway, 'ended')}/revoke")[0] == 200
        with KeyedLoad(gateway, {"max_tokens": 5}, clients=CLIENTS, pause=0.002) as load:
            wait_until(lambda: load.outcomes["200"] > 50)
            if old == "killed":
                primary.kill()
                wait_until(lambda: load.outcomes["503"] > 5)
            replica.client.replicaof("NO", "ONE")
            replicated = booked(replica)
            lost = load.outcomes["200"] + CLIENTS - replicated
            if old == "demoted":  # its connections stay open, as they do when nobody cuts them
                primary.client.replicaof("127.0.0.1", str(replica.port))
                wait_until(lambda: load.outcomes["503"] > 5)
            assert gateway.post({}, authorization=f"Bearer {ended}")[0] == 401
            address.target = replica.port
            served = load.outcomes["200"]
            wait_until(lambda: load.outcomes["200"] > served + 50)
            assert gateway.post({}, authorization=f"Bearer {ended}")[0] == 401
            wait_until(lambda: old == "killed" or not connected(primary))
            fresh = gateway.issue(name="fresh")
            assert gateway.post({"max_tokens": 5}, authorization=f"Bearer {fresh}")[0] == 200
            wait_until(lambda: load.outcomes["429"] > 20, seconds=30)
        assert set(load.outcomes) == {"200", "503", "429"}
        assert load.slowest < 5
        assert set(connected(replica)) == {"nexus-gateway", "nexus-gateway-limits"}
        gateway.redis = replica
        wait_until(lambda: gateway.held() == 0)  # what the new primary held under a name that was given up, too
        assert BUDGET - (2 + CLIENTS) * 2 * COST < day_tokens(replica) <= BUDGET
        answered = load.outcomes["200"] + 1
        assert answered * COST <= BUDGET + lost * COST
        assert gateway.metric(names.GATEWAY_LIMITS_REDIS_FAILURES) > 0
        log = gateway.log.read_text()
        assert (
            log.count("limits cannot be shared") == log.count("limits are shared again") > 0
        )  # a busy machine has more
        assert "API keys follow Redis again" in log
    finally:
        gateway.stop()


def test_a_cluster_is_refused_at_the_start(tmp_path: Path, engine: FakeUpstream) -> None:
    """A node of a Redis Cluster ends the start, and the reason says what to do."""
    with RedisProcess("--cluster-enabled", "yes") as redis:
        gateway = FullGateway(tmp_path, engine, redis)
        done = subprocess.run(
            gateway.command, env=gateway.environment(), capture_output=True, text=True, timeout=60, check=False
        )
    assert done.returncode == 3
    assert "a node of a Redis Cluster, which is not supported" in done.stderr
