"""Measure what replacing 10,000 routes costs the requests that are under way: failures, and the longest delay added.

    python tests/load/reload.py [--routes 10000] [--reloads 5] [--seconds 3]

Ends with code 1 when a request failed or one was delayed by more than 50 ms.
"""

from __future__ import annotations

import argparse
import http.client
import json
import tempfile
import threading
import time
from pathlib import Path

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy, route_text
from tests.fakes.redis_process import RedisProcess

RULE = {"name": "key", "scope": "key", "requests_per_minute": 10**9, "burst_requests": 10**6}
PAUSE = 0.005


class Probe(threading.Thread):
    """Asks for one model at an even pace and keeps how long each answer took."""

    def __init__(self, gateway: FullGateway) -> None:
        super().__init__()
        self.times: list[float] = []
        self.failed = 0
        self._gateway = gateway
        self._end = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self._gateway.port, timeout=20)
        body = json.dumps({"model": "m", "max_tokens": 1})
        while not self._end.is_set():
            begun = time.perf_counter()
            connection.request("POST", "/v1/chat/completions", body, self._gateway.headers)
            answer = connection.getresponse()
            answer.read()
            self.failed += answer.status != 200
            self.times.append(time.perf_counter() - begun)
            time.sleep(PAUSE)
        connection.close()

    def finish(self) -> list[float]:
        """Stop and return the times in milliseconds, shortest first."""
        self._end.set()
        self.join()
        return sorted(1e3 * seconds for seconds in self.times)


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
    parser.add_argument("--seconds", type=float, default=3.0)
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
        calm = Probe(gateway)
        calm.start()
        time.sleep(given.seconds)
        before = calm.finish()
        probe = Probe(gateway)
        probe.start()
        for name in commits[1:]:
            swap(gateway, name)
        during = probe.finish()
    engine.stop_thread()
    added = during[-1] - before[len(before) // 2]
    for name, times in (("calm", before), ("reloading", during)):
        cuts = ", ".join(f"p{q} {times[int(len(times) * q / 100)]:.1f}" for q in (50, 99))
        print(f"{name}: {len(times)} requests, ms: {cuts}, longest {times[-1]:.1f}")
    print(f"{calm.failed + probe.failed} failed; longest delay added {added:.1f} ms")
    return 1 if calm.failed + probe.failed or added > 50 else 0


if __name__ == "__main__":
    raise SystemExit(main())
