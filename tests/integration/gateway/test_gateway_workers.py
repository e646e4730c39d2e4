from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.full_gateway import KeyedLoad
from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
Build = Callable[..., GatewayProcess]


def workers_of(gateway: GatewayProcess) -> list[int]:
    assert gateway.process is not None
    text = Path(f"/proc/{gateway.process.pid}/task/{gateway.process.pid}/children").read_text()
    return [int(pid) for pid in text.split()]


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def serving(gateway: GatewayProcess, pids: list[int]) -> bool:
    """Whether as many gateways as there are workers have put a snapshot in place since the log began."""
    return gateway.log.read_text().count("snapshot replaced") >= len(pids)


@pytest.fixture
def pair(build: Build) -> Iterator[GatewayProcess]:
    gateway = build(WORKERS="2").start()
    wait_until(lambda: serving(gateway, [1, 2]), seconds=30)
    yield gateway
    pids = workers_of(gateway) if gateway.process is not None and gateway.process.poll() is None else []
    gateway.stop()
    assert not [pid for pid in pids if alive(pid)]


def test_a_rolling_restart_under_load_fails_no_request(pair: GatewayProcess) -> None:
    """SIGHUP replaces both workers while eight clients ask: every answer is a 200."""
    before = workers_of(pair)
    with KeyedLoad(pair, {"messages": []}) as load:
        assert pair.process is not None
        pair.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "all workers are replaced" in pair.log.read_text(), seconds=40)
        time.sleep(0.2)
    assert set(load.outcomes) == {"200"}
    assert not set(before) & set(workers_of(pair))


def test_a_killed_worker_costs_only_its_own_requests(pair: GatewayProcess) -> None:
    """`kill -9` of one of two workers fails at most what it had in flight, and it is replaced."""
    victim = workers_of(pair)[0]
    with KeyedLoad(pair, {"messages": []}, clients=8) as load:
        wait_until(lambda: load.outcomes["200"] > 50)
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(workers_of(pair)) == 2 and victim not in workers_of(pair))
        wait_until(lambda: serving(pair, [1, 2, 3]), seconds=30)
        time.sleep(0.2)
    failed = sum(load.outcomes.values()) - load.outcomes["200"]
    assert failed <= 8, load.outcomes


def test_workers_end_with_their_parent(pair: GatewayProcess) -> None:
    """When the parent is killed, its workers stop by themselves and the port is free."""
    pids = workers_of(pair)
    assert pair.process is not None
    pair.process.kill()
    pair.process.wait()
    wait_until(lambda: not any(alive(pid) for pid in pids), seconds=20)


def test_a_worker_that_cannot_start_leaves_the_old_ones(pair: GatewayProcess) -> None:
    """A rolling restart whose first new worker ends at once keeps every old worker and says so."""
    before = workers_of(pair)
    key = pair.spool / "user-hash.key"
    pair.spool.rename(pair.spool.with_name("away"))
    pair.spool.write_text("a file where a folder has to be")
    assert pair.process is not None
    pair.process.send_signal(signal.SIGHUP)
    wait_until(lambda: "the old ones stay" in pair.log.read_text(), seconds=40)
    assert workers_of(pair) == before
    assert pair.post({})[0] == 200
    assert not key.exists()
