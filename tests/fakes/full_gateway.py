"""A real gateway process with all that it may have: API keys, limits on a real Redis, an admin port, more routes."""

from __future__ import annotations

import http.client
import json
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.fakes.fake_upstream import FakeUpstream
from tests.fakes.gateway_process import GatewayProcess, free_port
from tests.fakes.redis_process import RedisProcess
from tests.fakes.waiting import wait_until

PEPPER = "pepper-for-tests-" * 3
ADMIN_TOKEN = "admin-token-for-tests-" * 2
TIMEOUTS = {"connect_seconds": 0.5, "first_byte_seconds": 0.5, "between_bytes_seconds": 0.5, "total_seconds": 3}
SHORT_LEASE = """
import gateway.opening
gateway.opening._LEASE_SECONDS = 2.0
from gateway.__main__ import main
raise SystemExit(main([]))
"""
"""A gateway, as text for `python -c`, whose reservations are given back two seconds after it was last heard of."""

CALM: Mapping[str, Any] = {
    "breaker": {"min_requests": 100_000},
    "retry": {"min_retries_per_second": 1_000, "backoff_ms": 1},
}
"""So that faults of one test do not open a breaker, or use a retry budget up, for the next."""


def policy_text(**spec: Any) -> str:
    """Build a policy document: no breaker opens and every retry is allowed unless it says otherwise."""
    body = {"timeouts": TIMEOUTS, "request_limits": {"body_seconds": 1}, **CALM} | spec
    return json.dumps({"kind": "GatewayPolicy", "metadata": {"name": "gateway"}, "spec": body})


def route_text(model: str, service: str | None = None, **spec: Any) -> str:
    """Build the route of a model with one endpoint."""
    endpoint = {"service": service or f"{model}-stable", "side": "stable", "weight_percent": 100}
    body = {"model": model, "endpoints": [endpoint], **spec}
    return json.dumps({"kind": "Route", "metadata": {"name": model}, "spec": body})


def keyed_policy(*rules: dict[str, Any], **spec: Any) -> dict[str, Any]:
    """Say that a key is needed, and what limits there are."""
    limits = {"rules": list(rules)} | spec.pop("limits", {})
    return {"authentication": {"required": True}, "tenants": [{"name": "acme"}], "limits": limits, **spec}


class FullGateway(GatewayProcess):
    """A gateway whose keys and limits are in Redis; `start` issues a key for `acme` that every `post` sends."""

    def __init__(self, root: Path, engine: FakeUpstream, redis: RedisProcess, **settings: str) -> None:
        self.redis = redis
        self.admin_port = free_port()
        secrets = {"KEY_PEPPER": PEPPER, "ADMIN_TOKEN": ADMIN_TOKEN, "ADMIN_PORT": str(self.admin_port)}
        super().__init__(root, engine, **({"REDIS_URL": redis.unix_url} | secrets | settings))

    def configure(self, m: str | None = None, routes: Mapping[str, str] | None = None, **spec: Any) -> str:
        """Commit a policy, the route of `m` and others."""
        self.policy, self.routes = policy_text(**spec), dict(routes or {})
        return self.commit({"stable": 100}, m)

    def start(self) -> FullGateway:
        super().start()
        wait_until(self._admin_listens)  # another worker may have been ready first
        if not self.headers:
            self.headers = {"authorization": f"Bearer {self.issue()}"}
        return self

    def _admin_listens(self) -> bool:
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self.admin_port)) == 0

    def issue(self, tenant: str = "acme", name: str = "k") -> str:
        """Issue a key by the admin API and wait until it is accepted."""
        status, answer = self.admin("POST", "/admin/v1/keys", {"tenant": tenant, "name": name})
        assert status == 201, answer
        return str(answer["credential"])

    def admin(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.admin_port, timeout=10)
        try:
            headers = {"authorization": f"Bearer {ADMIN_TOKEN}", "content-type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read() or b"null")
        finally:
            connection.close()

    def spent(self) -> Counter[str]:
        """Return requests, prompt and output tokens that Redis has booked, of all days, tenants, keys and models."""
        total: Counter[str] = Counter()
        for key in self.redis.client.scan_iter("{nexus}:spend:*"):
            for packed in self.redis.client.hvals(key):  # type: ignore[union-attr]
                requests, prompt, output, _ = struct.unpack("<4d", packed)
                total.update({"requests": int(requests), "prompt": int(prompt), "output": int(output)})
        return total

    def held(self) -> int:
        """Return how many requests Redis holds as under way, over all counters."""
        used = 0.0
        for key in self.redis.client.scan_iter("{nexus}:limit:*"):
            raw = self.redis.client.get(key)
            assert isinstance(raw, bytes)
            used += struct.unpack("<12d", raw)[4]
        return int(used)


@contextmanager
def full_gateway(
    root: Path, engine: FakeUpstream, redis: RedisProcess, m: str | None = None, **spec: Any
) -> Iterator[FullGateway]:
    """Run one with a policy and routes (`routes`, `services`, `settings`, `command`) until the context is left."""
    settings, services = spec.pop("settings", {}), spec.pop("services", {})
    gateway = FullGateway(root, engine, redis, **settings)
    gateway.command = spec.pop("command", gateway.command)
    if services:
        gateway.endpoints({name: {"url": url, "ready": True} for name, url in services.items()})
    gateway.configure(m, spec.pop("routes", None), **spec)
    try:
        yield gateway.start()
    finally:
        gateway.stop()


class KeyedLoad:
    """Clients that ask again and again over connections that they keep, and what came of it.

    Args:
        gateway: Who is asked; `ports` are asked in turn instead of its own if given.
        body: What is asked.
        clients: How many.
    """

    def __init__(
        self,
        gateway: GatewayProcess,
        body: dict[str, Any],
        *,
        clients: int = 8,
        ports: tuple[int, ...] = (),
        pause: float = 0.0,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        self.slowest = 0.0
        self._body = json.dumps({"model": "m"} | body)
        self._headers = dict(gateway.headers)
        self._stop = threading.Event()
        self._pause = pause
        every = ports or (gateway.port,)
        self._threads = [
            threading.Thread(target=self._ask, args=(every[number % len(every)],)) for number in range(clients)
        ]

    def __enter__(self) -> KeyedLoad:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _ask(self, port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while not self._stop.is_set():
            begun = time.monotonic()
            try:
                connection.request("POST", "/v1/chat/completions", self._body, self._headers)
                answer = connection.getresponse()
                answer.read()
                self.outcomes[str(answer.status)] += 1
            except (OSError, http.client.HTTPException) as exc:
                self.outcomes[type(exc).__name__] += 1
                connection.close()
                time.sleep(0.01)
            self.slowest = max(self.slowest, time.monotonic() - begun)
            if self._pause:
                time.sleep(self._pause)
        connection.close()
