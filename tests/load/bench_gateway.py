"""Measure the gateway with every policy on against its peers: API key, limits of four scopes on a real Redis, a sticky
weighted route, breaker, metrics and spool.

Prepares Redis, a key, policy and route, then runs the comparison (`compare.py run`), which starts each target in turn
on one core, with the load generator and the mock engine on the other. Redis runs beside the load generator.

    python tests/load/bench_gateway.py COMPARE [--rounds N] [--seconds S] [--peers a,b] [--out FILE]
"""

from __future__ import annotations

import argparse
import asyncio
import os
import secrets
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml
from pydantic import SecretStr

from gateway.auth.key_manager import KeyManager
from gateway.auth.key_ring import KeyRing
from gateway.auth.key_store import KeyStore
from gateway.redis_connection import RedisConnection
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.admin_api import IssueKey
from tests.fakes.gateway_process import free_port
from tests.fakes.redis_process import RedisProcess

ENGINE = "http://127.0.0.1:9101"  # where compare.py's mock engine listens
MANY = 1_000_000_000

POLICY = {
    "kind": "GatewayPolicy",
    "metadata": {"name": "bench"},
    "spec": {
        "authentication": {"required": True},
        "tenants": [{"name": "bank"}],
        "limits": {
            "rules": [
                {"name": "key", "scope": "key", "requests_per_minute": MANY, "burst_requests": 100_000},
                {"name": "user", "scope": "user", "tokens_per_minute": MANY},
                {"name": "tenant", "scope": "tenant", "tokens_per_day": MANY * 1000, "usd_per_month": 1e9},
                {"name": "model", "scope": "model", "concurrent_requests": 10_000},
            ]
        },
        "routing": [
            {
                "name": "workflows",
                "match": {"headers": {"x-nexus-workflow": "multi-step"}},
                "to": [{"model": "{model}"}],
            }
        ],
    },
}
ROUTE = {
    "kind": "Route",
    "metadata": {"name": "mock-model"},
    "spec": {
        "model": "mock-model",
        "release_id": "bench",
        "price": {"input_usd_per_million_tokens": 0.1, "output_usd_per_million_tokens": 0.4},
        "endpoints": [
            {"service": "stable", "side": "stable", "weight_percent": 90},
            {"service": "candidate", "side": "candidate", "weight_percent": 10},
        ],
    },
}


async def issue_key(url: str, pepper: str) -> str:
    """Write one key of the tenant into Redis and return its credential."""
    redis = RedisConnection(SecretStr(url), 5.0)
    store = KeyStore(redis, KeyRing(SecretStr(pepper)), GatewayMetrics())
    await store.start()
    _, key = await KeyManager(store).issue(IssueKey(tenant="bank", name="bench"))
    await redis.close()
    return key.credential.decode() if isinstance(key.credential, bytes) else key.credential


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("compare", type=Path, help="path of compare.py")
    parser.add_argument("--native", type=Path, help="folder of the compiled gateway; without it Python is measured")
    parser.add_argument("--rounds", default="3")
    parser.add_argument("--seconds", default="5")
    parser.add_argument("--peers", default="direct,vllm-router,litellm")
    parser.add_argument("--out", default="gateway-bench.jsonl")
    given = parser.parse_args()
    pepper, port = secrets.token_hex(32), free_port()
    with tempfile.TemporaryDirectory() as folder, RedisProcess() as redis:
        os.sched_setaffinity(redis.pid, {0})
        home = Path(folder)
        (home / "policy/routes").mkdir(parents=True)
        (home / "policy/policy.yaml").write_text(yaml.safe_dump(POLICY))
        (home / "policy/routes/mock-model.yaml").write_text(yaml.safe_dump(ROUTE))
        engine = f'{{"url": "{ENGINE}", "ready": true}}'
        (home / "endpoints.json").write_text(f'{{"stable": {engine}, "candidate": {engine}}}')
        key = asyncio.run(issue_key(redis.unix_url, pepper))
        settings = {
            "PORT": str(port),
            "POLICY_DIR": str(home / "policy"),
            "ENDPOINTS_FILE": str(home / "endpoints.json"),
            "SPOOL_DIR": str(home / "spool"),
            "REDIS_URL": redis.unix_url,
            "KEY_PEPPER": pepper,
        }
        environment = os.environ | {f"NEXUS_GATEWAY_{name}": value for name, value in settings.items()}  # noqa: TID251
        if given.native is not None:
            environment |= {"PYTHONPATH": str(given.native.absolute()), "PYTHONSAFEPATH": "1"}
        command = [
            sys.executable, str(given.compare), "run", "--peers", given.peers,
            "--target", f"nexus={sys.executable} -m gateway", "--port", str(port),
            "--header", f"Authorization: Bearer {key}", "--header", "x-nexus-user: bench",
            "--rounds", given.rounds, "--seconds", given.seconds, "--out", given.out,
        ]  # fmt: skip
        return subprocess.run(command, env=environment, check=False).returncode


if __name__ == "__main__":
    raise SystemExit(main())
