"""Measure what four times too much traffic does: goodput against the best, and high-priority latency against idle.

The real gateway before an engine of known capacity: 16 slots, a second a request on average, so 16 requests a second.
Requests come at random moments whether or not the last have been answered, from a tenth of the capacity to four times
as many. Goodput are those answered within the deadline; times begin when a request was due, so a late load generator
counts against the gateway.

    python tests/load/overload.py [--seconds 40]

Ends with code 1 when goodput at four times the capacity falls below 90 % of the best, or the median or the 99th
percentile of high priority rises above 1.5 times of idle.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from pathlib import Path

from aiohttp import ClientSession, ClientTimeout, TCPConnector, web

from serving.contracts.authentication import Priority
from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy
from tests.fakes.redis_process import RedisProcess
from tests.fakes.slot_engine import SlotEngine

DEADLINE_SECONDS = 5.0
IDLE = 0.1
SWEEP = (1.0, 2.0, 3.0, 4.0)
ALL_HIGH = {Priority.HIGH: 1.0}
SHARES = {Priority.HIGH: 0.1, Priority.NORMAL: 0.6, Priority.LOW: 0.3}


class Engine:
    """The slot engine in real time behind HTTP, in a thread of its own."""

    def __init__(self) -> None:
        self.url = ""
        self.slots = SlotEngine(seconds=1.0, first_seconds=0.1)
        self._ready = threading.Event()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),), daemon=True)

    def start(self) -> Engine:
        self._thread.start()
        assert self._ready.wait(10)
        return self

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(10)

    async def _serve(self) -> None:
        self._stop = asyncio.Event()
        async with self.slots.running():
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
        first = asyncio.Event()
        running = asyncio.ensure_future(self.slots.generate(len(raw), 1, first.set))
        await first.wait()
        with suppress(ConnectionError):  # whose client has left goes on: an engine does not notice between two tokens
            await response.prepare(request)
            await response.write(b'data: {"choices":[{"index":0,"delta":{"content":"a"}}]}\n\n')
            await running
            await response.write(b"data: [DONE]\n\n")
        return response


class Load:
    """An open stream of requests; `times` are seconds from when one was due to its end, of those answered in time."""

    def __init__(self, gateway: FullGateway, keys: dict[Priority, str], per_second: float, seconds: float) -> None:
        self.gateway, self.keys, self.per_second, self.seconds = gateway, keys, per_second, seconds
        self.shares = SHARES
        self.times: dict[Priority, list[float]] = {priority: [] for priority in SHARES}
        self.statuses: Counter[int] = Counter()
        self.late: list[float] = []
        self.good = 0
        self.own_cpu = self.gateway_cpu = 0.0

    async def run(self) -> Load:
        chance, loop = random.Random(7), asyncio.get_running_loop()
        priorities, shares = list(self.shares), list(self.shares.values())
        own, others = time.process_time(), self._gateway_seconds()
        async with ClientSession(
            connector=TCPConnector(limit=0), timeout=ClientTimeout(DEADLINE_SECONDS)
        ) as session, asyncio.TaskGroup() as tasks:  # fmt: skip
            due = loop.time()
            self.end = due + self.seconds
            while due < self.end:
                [priority] = chance.choices(priorities, shares)
                tasks.create_task(self._ask(session, priority, due))
                due += chance.expovariate(self.per_second)
                await asyncio.sleep(max(0.0, due - loop.time()))
        self.own_cpu = (time.process_time() - own) / self.seconds
        self.gateway_cpu = (self._gateway_seconds() - others) / self.seconds
        return self

    async def _ask(self, session: ClientSession, priority: Priority, due: float) -> None:
        loop = asyncio.get_running_loop()
        self.late.append(loop.time() - due)
        body = {"model": "m", "stream": True, "max_tokens": 10, "messages": ["x" * 500]}
        headers = {"authorization": f"Bearer {self.keys[priority]}", "x-request-timeout-seconds": str(DEADLINE_SECONDS)}
        url = f"http://127.0.0.1:{self.gateway.port}/v1/chat/completions"
        try:
            async with session.post(url, json=body, headers=headers) as answer:
                text = await answer.read()
                self.statuses[answer.status] += 1
                if answer.status == 200 and text.endswith(b"[DONE]\n\n") and loop.time() - due <= DEADLINE_SECONDS:
                    self.times[priority].append(loop.time() - due)
                    self.good += loop.time() <= self.end
        except TimeoutError:
            self.statuses[0] += 1

    def _gateway_seconds(self) -> float:
        """Return the processor time that the gateway has used."""
        assert self.gateway.process is not None
        fields = Path(f"/proc/{self.gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    @property
    def goodput(self) -> float:
        """Requests a second answered within their deadline; what is answered after the last one was due counts not."""
        return self.good / self.seconds

    def high(self, quantile: float) -> float:
        """Return a quantile of high priority's times."""
        return at(quantile, self.times[Priority.HIGH])

    def show(self, title: str, most_waiting: int) -> None:
        statuses = ", ".join(f"{status or 'late'}: {count}" for status, count in sorted(self.statuses.items()))
        high = f"high p50 {1e3 * self.high(0.5):.0f}, p99 {1e3 * self.high(0.99):.0f} ms"
        busy = f"generator and engine {100 * self.own_cpu:.0f} %, gateway {100 * self.gateway_cpu:.0f} % of a core"
        print(
            f"{title} {self.per_second:.0f} due/s, {self.goodput:.1f} good/s; {high}; {most_waiting} waited inside; "
            f"generator late p99 {1e3 * at(0.99, self.late):.1f} ms; {busy}; {statuses}",
            flush=True,
        )


def at(quantile: float, times: list[float]) -> float:
    """Return a quantile of some times."""
    return sorted(times)[int(len(times) * quantile)] if times else float("inf")


def measure(gateway: FullGateway, engine: Engine, seconds: float) -> dict[float, Load]:
    """Load the gateway with each multiple of the engine's capacity; for idle's sake twice as long with high alone."""
    keys = {priority: gateway.issue(priority) for priority in SHARES}
    loads = {}
    for multiple in (IDLE, *SWEEP):
        engine.slots.most_waiting = 0
        load = loads[multiple] = Load(gateway, keys, engine.slots.capacity * multiple, seconds)
        if multiple == IDLE:
            load.shares, load.seconds = ALL_HIGH, 2 * seconds
        asyncio.run(load.run())
        loads[multiple].show(f"{multiple:.1f}x", engine.slots.most_waiting)
    return loads


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=40.0)
    given = parser.parse_args()
    engine, unused = Engine().start(), FakeUpstream().start_in_thread()
    tenants = [{"name": priority, "priority": priority} for priority in SHARES]
    policy = keyed_policy(
        {"name": "k", "scope": "key", "tokens_per_day": 10**12}, timeouts={}, breaker={}, retry={}, request_limits={}
    ) | {"tenants": [*tenants, {"name": "acme"}]}
    with tempfile.TemporaryDirectory() as folder, RedisProcess() as redis:
        services = {"m-stable": engine.url}
        with full_gateway(Path(folder), unused, redis, services=services, **policy) as gateway:
            loads = measure(gateway, engine, given.seconds)
    engine.stop()
    unused.stop_thread()
    share = loads[4.0].goodput / max(load.goodput for load in loads.values())
    median, tail = (loads[4.0].high(quantile) / loads[IDLE].high(quantile) for quantile in (0.5, 0.99))
    print(
        f"goodput at 4 times the capacity: {100 * share:.0f} % of the best, "
        f"{100 * loads[4.0].goodput / engine.slots.capacity:.0f} % of the capacity; "
        f"high priority p50 {median:.2f} x, p99 {tail:.2f} x of idle"
    )
    return 1 if share < 0.9 or max(median, tail) > 1.5 else 0


if __name__ == "__main__":
    raise SystemExit(main())
