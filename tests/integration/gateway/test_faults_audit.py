"""Audit equals served: through every fault, each answer that a client got has one observation, which says the same."""

from __future__ import annotations

import http.client
import json
import os
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until
from tests.fakes.workers import workers_of

pytestmark = [pytest.mark.integration, pytest.mark.timeout(120)]

CLIENTS = 6
FLUSH_SECONDS = 0.2
KEY = {"name": "key", "scope": "key", "tokens_per_day": 100_000_000, "concurrent_requests": 1_000}


class Answer(NamedTuple):
    """What a client got: `whole` is an answer to its end, with so many tokens."""

    status: int
    whole: bool
    tokens: int
    ended: float


class AuditedLoad:
    """Clients that ask in turn for whole and streamed answers, each request under an id of its own."""

    def __init__(self, gateway: FullGateway) -> None:
        self.gateway = gateway
        self.answers: dict[str, Answer] = {}
        self.cut_off: set[str] = set()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._run, args=(f"c{number}",)) for number in range(CLIENTS)]

    def __enter__(self) -> AuditedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _run(self, name: str) -> None:
        for number in count():
            if self._stop.is_set():
                return
            self._ask(f"{name}-{number}", stream=number % 2 == 0)
            time.sleep(0.004)

    def _ask(self, request_id: str, *, stream: bool) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.gateway.port, timeout=20)
        tokens = 3 + len(request_id) % 3
        body = {"model": "m", "stream": stream, "max_tokens": tokens, "pause": 0.002}
        body |= {"stream_options": {"include_usage": True}} if stream else {}
        try:
            connection.request(
                "POST", "/v1/chat/completions", json.dumps(body), self.gateway.headers | {"x-request-id": request_id}
            )
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException):
            self.cut_off.add(request_id)
        else:
            assert answer.headers["x-request-id"] == request_id
            whole = answer.status == 200 and (text.endswith(b"[DONE]\n\n") if stream else b'"usage"' in text)
            self.answers[request_id] = Answer(answer.status, whole, tokens, time.monotonic())
        finally:
            connection.close()

    @property
    def served(self) -> int:
        return sum(one.whole for one in tuple(self.answers.values()))

    def serves_on(self, more: int = 40) -> None:
        """Wait until so many more answers have come whole."""
        before = self.served
        wait_until(lambda: self.served > before + more)


@pytest.fixture
def gateway(tmp_path: Path, engine: FakeUpstream) -> Iterator[FullGateway]:
    settings = {"WORKERS": "2", "SPOOL_FLUSH_SECONDS": str(FLUSH_SECONDS)}
    with RedisProcess() as redis, full_gateway(tmp_path, engine, redis, settings=settings, **keyed_policy(KEY)) as made:
        wait_until(lambda: made.log.read_text().count("snapshot replaced") == 2, seconds=30)
        yield made


def audit(load: AuditedLoad, may_miss: Callable[[Answer], bool] = lambda _: False) -> int:
    """Compare what clients got with what is in the spool; returns how many observations are lost."""
    gateway = load.gateway

    def last_tries() -> dict[str, dict[str, Any]]:
        lines = [line for line in gateway.observations() if "~" not in line["request_id"]]
        seen = Counter(line["request_id"] for line in lines)
        assert max(seen.values()) == 1, "a request was observed more than once"
        return {line["request_id"]: line for line in lines if line["request_id"].startswith("c")}

    def missing() -> list[str]:
        found = last_tries()
        return [one for one, answer in load.answers.items() if one not in found and not may_miss(answer)]

    wait_until(lambda: not missing())
    found = last_tries()
    assert found.keys() <= load.answers.keys() | load.cut_off, "an observation of what nobody asked"
    for request_id, answer in load.answers.items():
        line = found.get(request_id)
        if line is None:
            continue
        assert (line["status"], line["outcome"] == "ok") == (answer.status, answer.whole), (line, answer)
        assert not answer.whole or line["output_tokens"] == answer.tokens
    return len(load.answers.keys() - found.keys())


def test_an_engine_that_dies_and_comes_back_is_audited_whole(gateway: FullGateway, engine: FakeUpstream) -> None:
    """Refused, broken off in mid-stream, answered again: each client's outcome is in the spool, once."""
    with AuditedLoad(gateway) as load:
        for _ in range(3):
            load.serves_on()
            engine.stop_thread()
            failed = len(load.answers) - load.served
            wait_until(lambda failed=failed: len(load.answers) - load.served > failed + 5)  # type: ignore[misc]
            engine.start_in_thread()
        load.serves_on()
    assert not load.cut_off
    assert audit(load) == 0
    assert {one.status for one in load.answers.values()} >= {200, 503}


def test_a_disk_that_is_full_for_a_while_loses_nothing_that_fits_in_memory(gateway: FullGateway) -> None:
    """Files cannot grow, in both workers: when they can again, all that was served meanwhile is written."""
    with AuditedLoad(gateway) as load:
        load.serves_on()
        limits = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in workers_of(gateway)}
        for pid, (_, hard) in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (100, hard))
        time.sleep(2 * FLUSH_SECONDS)
        written = len(gateway.observations())
        load.serves_on(200)
        assert len(gateway.observations()) == written
        for pid, limit in limits.items():
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limit)
        load.serves_on()
    assert not load.cut_off
    assert audit(load) == 0
    assert {one.status for one in load.answers.values()} == {200}


def test_a_killed_worker_loses_the_audit_of_its_last_moment_alone(gateway: FullGateway) -> None:
    """`kill -9`: what it had in flight fails, what it had answered since its last write may miss, nothing else."""
    with AuditedLoad(gateway) as load:
        load.serves_on(100)
        victim = workers_of(gateway)[-1]
        killed = time.monotonic()
        os.kill(victim, signal.SIGKILL)
        wait_until(lambda: len(workers_of(gateway)) == 2 and victim not in workers_of(gateway))
        dead = time.monotonic()
        load.serves_on(100)
    assert len(load.cut_off) <= CLIENTS
    assert {one.status for one in load.answers.values()} == {200}
    # A write that was under way takes as long as the disk does, so one more flush is allowed for.
    lost = audit(load, lambda answer: killed - 2 * FLUSH_SECONDS - 1 < answer.ended < dead)
    assert lost < load.served / 2


def test_a_rolling_restart_is_audited_whole(gateway: FullGateway) -> None:
    """Both workers are replaced under load, new connections and streams included: every answer whole, none missing."""
    before = workers_of(gateway)
    assert gateway.process is not None
    with AuditedLoad(gateway) as load:
        load.serves_on()
        gateway.process.send_signal(signal.SIGHUP)
        wait_until(lambda: "all workers are replaced" in gateway.log.read_text(), seconds=40)
        load.serves_on()
    assert not set(before) & set(workers_of(gateway))
    assert (load.cut_off, {one.whole for one in load.answers.values()}) == (set(), {True})
    assert audit(load) == 0
