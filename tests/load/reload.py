"""Measure what replacing 10,000 routes costs the requests that are under way: failures, and the longest delay added.

    python tests/load/reload.py [--routes 10000] [--reloads 5]

The same load is measured while nothing is reloaded, for as long. Other work on the machine delays requests, too: for
the slowest ones it is said for how long a thread of gateway, Redis, engine or probe was ready to run and had no core,
and that is taken off the delay that counts. Ends with code 1 when a request failed or one was delayed by more than
50 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import tempfile
import threading
import time
from collections.abc import Iterable
from contextlib import suppress
from itertools import chain
from pathlib import Path

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.redis_process import RedisProcess

SLOWEST = 3
RULE = {"name": "key", "scope": "key", "requests_per_minute": 10**9, "burst_requests": 10**6}
PAUSE = 0.005


class Probe(threading.Thread):
    """Asks for one model at an even pace; `times` are milliseconds of each answer, and of them without a core."""

    def __init__(self, gateway: FullGateway) -> None:
        super().__init__()
        self.times: list[tuple[float, float]] = []
        self.failed = 0
        self._gateway = gateway
        self._end = threading.Event()

    def run(self) -> None:
        assert self._gateway.process is not None
        pids = self._gateway.process.pid, self._gateway.redis.pid, os.getpid()
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=20)
        body = json.dumps({"model": "m", "max_tokens": 1})
        while not self._end.is_set():
            waited, begun = without_core_ms(pids), time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, self._gateway.headers)
            answer = connection.getresponse()
            answer.read()
            took = 1e3 * (time.perf_counter() - begun)
            self.failed += answer.status != 200
            self.times.append((took, min(took, without_core_ms(pids) - waited)))
            time.sleep(PAUSE)
        connection.close()

    def finish(self, title: str) -> Probe:
        """Stop and show the result; `times` are in order then, shortest first."""
        self._end.set()
        self.join()
        self.times.sort()
        cuts = ", ".join(f"p{q} {self.times[int(len(self.times) * q / 100)][0]:.1f}" for q in (50, 99))
        slowest = ", ".join(f"{took:.1f} ({waited:.1f})" for took, waited in self.times[-SLOWEST:])
        print(f"{title}: {len(self.times)} requests, ms: {cuts}, slowest (of it without a core) {slowest}")
        return self


def without_core_ms(pids: Iterable[int]) -> float:
    """Return for how long the processes' threads have been ready to run without a core."""
    waited = 0
    for task in chain.from_iterable(Path(f"/proc/{pid}/task").iterdir() for pid in pids):
        with suppress(FileNotFoundError):  # a thread that has just ended
            waited += int((task / "schedstat").read_text().split()[1])
    return waited / 1e6


def routes(count: int, weight: str) -> dict[str, str]:
    """Make so many routes, all of them another text than with another weight."""
    return {f"m{n}": route_text(f"m{n}", f"m{n % 100}-stable", release_id=weight) for n in range(count)}


def write(gateway: FullGateway, count: int, turn: int) -> str:
    """Write a commit with other routes; this process then has time for nothing but its requests."""
    gateway.routes = routes(count, f"r{turn}")
    return gateway.write({"stable": 100})


def swap(gateway: FullGateway, name: str) -> None:
    """Put a commit in place and wait until it answers."""
    begun = time.perf_counter()
    gateway.swap(name)
    while json.loads(gateway.get("/health/ready")[2])["revision"] != name:
        time.sleep(0.2)
    print(f"{name}: answered by after {time.perf_counter() - begun:.1f} s", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--routes", type=int, default=10_000)
    parser.add_argument("--reloads", type=int, default=5)
    given = parser.parse_args()
    engine = FakeUpstream().start_in_thread()
    services = {f"m{n}-stable": engine.url for n in range(100)} | {"m-stable": engine.url}
    with (
        tempfile.TemporaryDirectory() as folder,
        RedisProcess() as redis,
        full_gateway(Path(folder), engine, redis, services=services, **keyed_policy(RULE)) as gateway,
    ):
        commits = [write(gateway, given.routes, turn) for turn in range(given.reloads + 1)]
        swap(gateway, commits[0])
        begun = time.monotonic()
        probe = Probe(gateway)
        probe.start()
        for name in commits[1:]:
            swap(gateway, name)
        reloading = probe.finish("reloading")
        seconds = time.monotonic() - begun
        probe = Probe(gateway)
        probe.start()
        time.sleep(seconds)
        calm = probe.finish("calm")
    engine.stop_thread()
    usual, _ = calm.times[len(calm.times) // 2]
    longest = max(took for took, _ in reloading.times) - usual
    own = max(took - waited for took, waited in reloading.times) - usual
    failed = calm.failed + reloading.failed
    print(f"{failed} failed; longest delay added {longest:.1f} ms, {own:.1f} ms but for other work on the machine")
    return 1 if failed or own > 50 else 0


if __name__ == "__main__":
    raise SystemExit(main())
