"""Measure whether a worker's memory is flat and no collection stops it for long: many requests, keys and limits on.

    python tests/load/memory.py [--requests 1000000] [--clients 16] [--samples 20]

RSS at even steps over requests of which every tenth is a stream. Ends with code 1 when the last half of the samples
strays more than 5 % from their mean, or a collection took more than 10 ms of the processor.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
import time
from pathlib import Path

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.full_gateway import FullGateway, full_gateway, keyed_policy
from tests.fakes.redis_process import RedisProcess

RULES = (
    {"name": "key", "scope": "key", "requests_per_minute": 10**9, "burst_requests": 10**6},
    {"name": "user", "scope": "user", "tokens_per_minute": 10**9},
    {"name": "tenant", "scope": "tenant", "tokens_per_day": 10**12, "usd_per_month": 1e9},
    {"name": "model", "scope": "model", "concurrent_requests": 10_000},
)
USERS = 5_000
"""Different users, so that what is kept for each of them shows."""


def rss_mb(pid: int) -> float:
    """Return a process's resident memory."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))


async def client(gateway: FullGateway, numbers: list[int], most: int, done: list[int]) -> None:
    """Ask over one connection until all numbers are used up; every tenth request is a stream."""
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    while numbers[0] < most:
        numbers[0] += 1
        number = numbers[0]
        raw = json.dumps({"model": "m", "stream": number % 10 == 0, "max_tokens": 3, "user": f"user{number % USERS}"})
        headers = gateway.headers | {"host": "x", "content-length": str(len(raw))}
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"POST /v1/chat/completions HTTP/1.1\r\n{lines}\r\n{raw}".encode())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        assert head.startswith(b"http/1.1 200"), head
        if b"transfer-encoding: chunked" in head:
            await reader.readuntil(b"\r\n0\r\n\r\n")
        else:
            await reader.readexactly(int(head.partition(b"content-length: ")[2].partition(b"\r\n")[0]))
        done[0] += 1
    writer.close()


async def measure(gateway: FullGateway, requests: int, clients: int, samples: int) -> list[float]:
    """Ask so often and return the worker's memory in MB at even steps."""
    assert gateway.process is not None
    numbers, done, found = [0], [0], []
    async with asyncio.TaskGroup() as tasks:
        for _ in range(clients):
            tasks.create_task(client(gateway, numbers, requests, done))
        for step in range(1, samples + 1):
            while done[0] < requests * step // samples:  # noqa: ASYNC110 - a number to reach
                await asyncio.sleep(0.05)
            found.append(rss_mb(gateway.process.pid))
            print(f"{done[0]:>9} requests  {found[-1]:7.1f} MB", flush=True)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--samples", type=int, default=20)
    given = parser.parse_args()
    engine = FakeUpstream().start_in_thread()
    engine.keeps_requests = False
    policy = keyed_policy(*RULES, timeouts={}, request_limits={})
    settings = {"LOG_LEVEL": "WARNING"}
    with tempfile.TemporaryDirectory() as folder:
        pauses = Path(folder, "pauses.json")
        command = [sys.executable, "-m", "tests.fakes.gc_pauses", str(pauses)]
        with (
            RedisProcess() as redis,
            full_gateway(Path(folder), engine, redis, settings=settings, command=command, **policy) as gateway,
        ):
            assert gateway.process is not None
            print(f"    start           {rss_mb(gateway.process.pid):7.1f} MB", flush=True)
            begun = time.monotonic()
            found = asyncio.run(measure(gateway, given.requests, given.clients, given.samples))
            seconds = time.monotonic() - begun
        collections = json.loads(pauses.read_text())
    engine.stop_thread()
    later = found[len(found) // 2 :]
    mean = sum(later) / len(later)
    stray = max(abs(one - mean) / mean for one in later)
    print(f"{given.requests / seconds:.0f} requests/s; {mean:.1f} MB, within {100 * stray:.1f} %")
    for generation, one in enumerate(collections):
        print(
            f"generation {generation}: {one['count']} collections freed {one['freed']}, "
            f"longest {one['longest_ms']:.1f} ms, {one['longest_cpu_ms']:.1f} ms of the processor"
        )
    return 1 if stray > 0.05 or any(one["longest_cpu_ms"] > 10 for one in collections) else 0


if __name__ == "__main__":
    raise SystemExit(main())
