"""What a gateway has of keys and of its admin API, in the test's own event loop, over a real Redis."""

from __future__ import annotations

import asyncio
import http.client
import json
import socket
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import date
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from gateway.admin.app import create_admin_app
from gateway.admin.audit import AuditLog
from gateway.admin.drains import Drains
from gateway.admin.gate import AdminGate
from gateway.admin.server import serve_admin
from gateway.admin.state import AdminState
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_manager import KeyManager
from gateway.auth.key_ring import KeyRing
from gateway.auth.key_store import KeyStore
from gateway.peers import ALONE
from gateway.policy_store import PolicyStore
from gateway.redis_connection import RedisConnection
from gateway.settings import GatewaySettings
from gateway.telemetry.metrics import GatewayMetrics
from serving.contracts.admin_api import SpendRow

PEPPER = "pepper-for-tests-" * 3
ADMIN_TOKEN = "admin-token-for-tests-" * 2
POLICY = """kind: GatewayPolicy
metadata: {name: gateway}
spec:
  authentication: {required: true}
  tenants: [{name: acme, models: [m]}, {name: free}]
  routing: [{name: alias, match: {models: [alias]}, to: [{model: m}]}]
"""
ROUTE = """kind: Route
metadata: {name: %(model)s}
spec: {model: %(model)s, endpoints: [{service: %(model)s-1, side: stable, weight_percent: 100}]}
"""


class FixedSpend:
    """Says that each day cost a dollar."""

    async def spend(self, first: date, last: date) -> Sequence[SpendRow]:
        numbers = {"requests": 2, "prompt_tokens": 30, "output_tokens": 40, "usd": 0.5}
        return [
            SpendRow.model_validate({"day": first, "tenant": tenant, "key_id": None, "model": "m", **numbers})
            for tenant in ("acme", "free")
        ]


class KeyGateway:
    """One gateway: key store, authenticator, drains and admin API. `start` runs it until the group is cancelled.

    Args:
        redis_url: Where keys are.
        folder: Of its policy.
        tasks: Owner of what runs.
        pepper: One, or several in lines.
    """

    def __init__(self, redis_url: str, folder: Path, tasks: asyncio.TaskGroup, *, pepper: str = PEPPER) -> None:
        (folder / "routes").mkdir(parents=True, exist_ok=True)
        (folder / "policy.yaml").write_text(POLICY)
        for model in ("m", "n", "o"):
            (folder / f"routes/{model}.yaml").write_text(ROUTE % {"model": model})
        self.metrics = GatewayMetrics()
        self.redis = RedisConnection(SecretStr(redis_url), 0.5)
        self.keys = KeyStore(self.redis, KeyRing(*map(SecretStr, pepper.splitlines())), self.metrics)
        self.manager = KeyManager(self.keys)
        self.authenticator = Authenticator(self.keys, self.metrics, tasks)
        self.store = PolicyStore(folder, None, interval_seconds=0.1, metrics=self.metrics)
        self.registry = self.store.builder.registry
        self.drains = Drains(self.registry, self.redis)
        gate = AdminGate(SecretStr(ADMIN_TOKEN), self.keys)
        self.admin = AdminState(
            ALONE, gate, self.store, self.authenticator, self.manager, self.drains, FixedSpend(), AuditLog()
        )
        self.port = 0
        self.serving: asyncio.Task[None] | None = None
        self._tasks = tasks
        self._running: list[asyncio.Task[None]] = []
        self._folder = folder

    async def start(self) -> KeyGateway:
        await self.store.refresh()
        await self.keys.start()
        self._running = [self._tasks.create_task(run()) for run in (self.keys.run, self.drains.run)]
        return self

    async def start_alone(self) -> KeyGateway:
        """Load once, without following."""
        await self.store.refresh()
        await self.keys.start()
        return self

    def serve(self) -> None:
        """Open the admin port."""
        sock = socket.create_server(("127.0.0.1", 0))
        sock.setblocking(False)
        self.port = sock.getsockname()[1]
        settings = GatewaySettings(policy_dir=self._folder, spool_dir=self._folder / "spool")
        app = create_admin_app(self.admin)
        self.serving = self._tasks.create_task(serve_admin(app, settings, sock))

    async def stop(self) -> None:
        for task in [*self._running, *([self.serving] if self.serving else [])]:
            task.cancel()
        await asyncio.gather(*self._running, *([self.serving] if self.serving else []), return_exceptions=True)
        await self.redis.close()

    def accepts(self, credential: str) -> bool:
        return self.keys.ring.verify(credential.encode(), time.time()) is not None

    async def call(
        self, method: str, path: str, body: Any = None, token: str | None = ADMIN_TOKEN, **headers: str
    ) -> tuple[int, dict[str, str], Any]:
        """Send one request to the admin port and return status, headers and document."""
        return await asyncio.to_thread(self._call, method, path, body, token, headers)

    def _call(
        self, method: str, path: str, body: Any, token: str | None, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        if token is not None:
            names["authorization"] = f"Bearer {token}"
        raw = None if body is None else body if isinstance(body, bytes) else json.dumps(body)
        try:
            connection.request(method, path, raw, {"content-type": "application/json"} | names)
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, json.loads(answer.read() or b"null")
        finally:
            connection.close()


@asynccontextmanager
async def gateways(
    redis_url: str, folder: Path, count: int = 1, *, pepper: str = PEPPER
) -> AsyncIterator[list[KeyGateway]]:
    """Run some gateways over one Redis."""
    async with asyncio.TaskGroup() as tasks:
        folders = [folder / str(number) for number in range(count)]
        made = [await KeyGateway(redis_url, each, tasks, pepper=pepper).start() for each in folders]
        try:
            yield made
        finally:
            for gateway in made:
                await gateway.stop()
