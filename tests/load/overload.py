"""Measure what four times too much traffic does: goodput against the best, and high-priority latency against idle.

The real gateway before a fake engine that batches like a real one: 16 sequences, a token each per step; prompts are
read at a rate, and who finds the batch full waits inside. Requests come whether or not the last have been answered.

    python tests/load/overload.py [--seconds 20]

Ends with code 1 when goodput falls below 90 % of the best, or high-priority latency rises above 1.5 times of idle.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import tempfile
import threading
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy
from tests.fakes.redis_process import RedisProcess
from tests.fakes.simulated_engine import SimulatedEngine

TOKENS = 20
DEADLINE_SECONDS = 4.0
CAPACITY = 30.0
"""Requests a second that the engine can answer: a batch of 16, 20 steps of about 25 ms each."""
SHARES = (("high", 0.1), ("normal", 0.6), ("low", 0.3))


class BatchingEngine:
    """The simulated engine in real time behind HTTP, in a thread of its own."""

    def __init__(self) -> None:
        self.url = ""
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def start(self) -> BatchingEngine:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with SimulatedEngine().running() as self._engine:
            app = web.Application()
            app.router.add_post("/v1/chat/completions", self._answer)
            runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
            await runner.setup()
            await web.TCPSite(runner, "127.0.0.1", 0, backlog=4096).start()
            self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
            self._ready.set()
            await self._stop.wait()
            await runner.cleanup()

    async def _answer(self, request: web.Request) -> web.StreamResponse:
        raw = await request.read()
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        first = asyncio.get_running_loop().create_future()

        def on_first() -> None:
            if not first.done():
                first.set_result(None)

        body: dict[str, Any] = json.loads(raw)
        running = asyncio.ensure_future(self._engine.generate(len(raw), body["max_tokens"], on_first))
        await first
        with suppress(ConnectionError):  # whose client has left goes on: an engine does not notice between two tokens
            await response.prepare(request)
            await response.write(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
            await running
            await response.write(b"data: [DONE]\n\n")
        return response


class Load:
    """An open stream of requests; `times` are seconds to the end by priority, of those answered within the deadline."""

    def __init__(self, gateway: FullGateway, keys: dict[str, str], per_second: float, seconds: float) -> None:
        self.gateway, self.keys, self.per_second, self.seconds = gateway, keys, per_second, seconds
        self.times: dict[str, list[float]] = {name: [] for name, _ in SHARES}
        self.statuses: Counter[int] = Counter()

    async def run(self) -> Load:
        chance, loop = random.Random(7), asyncio.get_running_loop()
        names, shares = zip(*SHARES, strict=True)
        async with ClientSession(
            connector=TCPConnector(limit=0), timeout=ClientTimeout(DEADLINE_SECONDS)
        ) as session, asyncio.TaskGroup() as tasks:  # fmt: skip
            end = loop.time() + self.seconds
            while loop.time() < end:
                [name] = chance.choices(names, shares)
                tasks.create_task(self._ask(session, name, chance.randint(200, 3000)))
                await asyncio.sleep(chance.expovariate(self.per_second))
        return self

    async def _ask(self, session: ClientSession, name: str, size: int) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        body = {"model": "m", "stream": True, "max_tokens": TOKENS, "messages": ["x" * size]}
        headers = {"authorization": f"Bearer {self.keys[name]}", "x-request-timeout-seconds": str(DEADLINE_SECONDS)}
        url = f"http://127.0.0.1:{self.gateway.port}/v1/chat/completions"
        try:
            async with session.post(url, json=body, headers=headers) as answer:
                text = await answer.read()
                self.statuses[answer.status] += 1
                if answer.status == 200 and text.endswith(b"[DONE]\n\n"):
                    self.times[name].append(loop.time() - begun)
        except TimeoutError:
            self.statuses[0] += 1

    @property
    def goodput(self) -> float:
        """Requests a second answered within their deadline."""
        return sum(len(times) for times in self.times.values()) / self.seconds

    def median(self, name: str) -> float:
        times = sorted(self.times[name])
        return times[len(times) // 2] if times else float("inf")

    def show(self, title: str) -> None:
        statuses = ", ".join(f"{status or 'late'}: {count}" for status, count in sorted(self.statuses.items()))
        medians = ", ".join(f"{name} {self.median(name):.2f} s" for name, _ in SHARES)
        print(f"{title:<14} {self.goodput:6.1f} good/s   median {medians}   ({statuses})", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    engine, unused = BatchingEngine().start(), FakeUpstream().start_in_thread()
    tenants = [{"name": name, "priority": name} for name, _ in SHARES]
    policy = keyed_policy(
        {"name": "k", "scope": "key", "tokens_per_day": 10**12}, timeouts={}, breaker={}, retry={}, request_limits={}
    ) | {"tenants": [*tenants, {"name": "acme"}]}
    with tempfile.TemporaryDirectory() as folder, RedisProcess() as redis:
        services = {"m-stable": engine.url}
        with full_gateway(Path(folder), unused, redis, services=services, **policy) as gateway:
            keys = {name: gateway.issue(name) for name, _ in SHARES}
            loads = {}
            for title, factor in (("idle", 0.25), ("at 0.9", 0.9), ("at 4", 4.0), ("after", 0.25)):
                seconds = given.seconds if factor >= 0.9 else given.seconds / 2
                loads[title] = asyncio.run(Load(gateway, keys, CAPACITY * factor, seconds).run())
                loads[title].show(title)
    engine.stop()
    unused.stop_thread()
    best = max(loads["at 0.9"].goodput, loads["at 4"].goodput)
    share, ratio = loads["at 4"].goodput / best, loads["at 4"].median("high") / loads["idle"].median("high")
    print(f"goodput at 4 times the capacity: {100 * share:.0f} % of the best; high priority {ratio:.2f} x of idle")
    return 1 if share < 0.9 or ratio > 1.5 else 0


if __name__ == "__main__":
    raise SystemExit(main())
