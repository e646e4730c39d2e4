from __future__ import annotations

import http.client
import json
import os
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fakes.gateway_process import GatewayProcess
from tests.fakes.waiting import wait_until

pytestmark = [pytest.mark.integration, pytest.mark.timeout(90)]
Build = Callable[..., GatewayProcess]


class Load:
    """Clients that ask again and again over connections that they keep, as SDKs do; a refused connect is a failure."""

    def __init__(self, port: int, clients: int = 8) -> None:
        self._port = port
        self._stop = threading.Event()
        self.outcomes: Counter[str] = Counter()
        self._threads = [threading.Thread(target=self._ask) for _ in range(clients)]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self) -> None:
        body = json.dumps({"model": "m", "messages": []})
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
        while not self._stop.is_set():
            try:
                connection.request("POST", "/v1/chat/completions", body, {"content-type": "application/json"})
                answer = connection.getresponse()
                answer.read()
                self.outcomes[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as exc:
                self.outcomes[type(exc).__name__] += 1
                connection.close()
        connection.close()


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
    with Load(pair.port) as load:
        assert pair.process is not None
        pair.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "all workers are replaced" in pair.log.read_text(), seconds=40)
        time.sleep(0.2)
    assert set(load.outcomes) == {"200"}
    assert not set(before) & set(workers_of(pair))


def test_a_killed_worker_costs_only_its_own_requests(pair: GatewayProcess) -> None:
    """`kill -9` of one of two workers fails at most what it had in flight, and it is replaced."""
    victim = workers_of(pair)[0]
    with Load(pair.port, clients=8) as load:
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
