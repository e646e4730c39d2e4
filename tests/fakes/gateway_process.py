"""A real gateway process with a policy folder of its own, for integration tests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from tests.fakes.fake_upstream import FakeUpstream

POLICY = """kind: GatewayPolicy
metadata: {name: gateway}
spec:
  timeouts: {connect_seconds: 1, first_byte_seconds: 5, between_bytes_seconds: 5, total_seconds: 20}
  request_limits: {max_body_bytes: 65536, body_seconds: 1}
"""
START_SECONDS = 30.0  # generous: other work may have the machine


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def route(weights: dict[str, int], model: str = "m", release: str = "r1") -> str:
    endpoints = [{"service": f"m-{side}", "side": side, "weight_percent": weight} for side, weight in weights.items()]
    spec = {"model": model, "release_id": release, "endpoints": endpoints}
    return json.dumps({"kind": "Route", "metadata": {"name": model}, "spec": spec})


class GatewayProcess:
    """Starts `python -m gateway` before a fake engine; `stop` always ends it.

    Attributes:
        policy: Text of the policy document of the next commits.
        routes: Texts of more routes by model, besides `m`, of the next commits.
        headers: What every `post` sends besides its own headers.
        command: What is started.
    """

    def __init__(self, root: Path, engine: FakeUpstream, **settings: str) -> None:
        self.policy = POLICY
        self.routes: dict[str, str] = {}
        self.headers: dict[str, str] = {}
        self.command = [sys.executable, "-m", "gateway"]
        self.root = root
        self.engine = engine
        self.port = free_port()
        self.spool = root / "spool"
        self.log = root / "gateway.log"
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None
        self._commits = 0
        root.mkdir(exist_ok=True)
        services = ("m-stable", "m-baseline", "m-candidate")
        self.endpoints({name: {"url": engine.url, "ready": True} for name in services})
        self.commit({"stable": 100})

    def endpoints(self, services: dict[str, Any]) -> None:
        new = self.root / ".endpoints"
        new.write_text(json.dumps(services))
        new.replace(self.root / "endpoints.json")

    def commit(self, weights: dict[str, int], route_text: str | None = None) -> str:
        """Write a new commit's folder and swap the link, as the node does."""
        return self.swap(self.write(weights, route_text))

    def write(self, weights: dict[str, int], route_text: str | None = None) -> str:
        """Write a new commit's folder."""
        self._commits += 1
        name = f"commit{self._commits:04d}"
        folder = self.root / name
        (folder / "routes").mkdir(parents=True)
        (folder / "policy.yaml").write_text(self.policy)
        (folder / "routes/m.yaml").write_text(route_text or route(weights))
        for model, text in self.routes.items():
            (folder / f"routes/{model}.yaml").write_text(text)
        (folder / "REVISION").write_text(name)
        return name

    def swap(self, name: str) -> str:
        """Let the link point to a commit."""
        link = self.root / ".next"
        link.symlink_to(name)
        link.replace(self.root / "current")
        return name

    def environment(self) -> dict[str, str]:
        values = {
            "PORT": str(self.port),
            "POLICY_DIR": str(self.root / "current"),
            "ENDPOINTS_FILE": str(self.root / "endpoints.json"),
            "SPOOL_DIR": str(self.spool),
        } | self.settings
        ours = {f"NEXUS_GATEWAY_{name}": value for name, value in values.items()}
        return os.environ | ours  # noqa: TID251 - a child's environment

    def start(self) -> GatewayProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self.command, env=self.environment(), stderr=log, stdout=log)
        end = time.monotonic() + START_SECONDS
        while time.monotonic() < end:
            assert self.process.poll() is None, self.log.read_text()
            try:
                if self.get("/health/ready")[0] == 200:
                    return self
            except OSError:
                time.sleep(0.02)
        raise AssertionError(f"the gateway did not get ready:\n{self.log.read_text()}")

    def stop(self, number: int = signal.SIGTERM) -> int:
        if self.process is None or self.process.poll() is not None:
            return self.process.returncode if self.process else 0
        self.process.send_signal(number)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait(5)
            raise

    def get(self, path: str) -> tuple[int, dict[str, str], bytes]:
        return self.call("GET", path)

    def post(self, body: dict[str, Any], **headers: str) -> tuple[int, dict[str, str], bytes]:
        raw = json.dumps({"model": "m"} | body)
        names = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.call("POST", "/v1/chat/completions", raw, self.headers | names)

    def call(
        self, method: str, path: str, body: str | None = None, headers: dict[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=15)
        try:
            connection.request(method, path, body, headers or {})
            answer = connection.getresponse()
            return answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read()
        finally:
            connection.close()

    def raw(self, data: bytes, wait: float = 10.0) -> bytes:
        """Send bytes and return all that comes until the gateway closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=wait) as sock:
            out = b""
            try:
                sock.sendall(data)
                while piece := sock.recv(65536):
                    out += piece
            except ConnectionError:
                return out
            return out

    def observations(self) -> list[dict[str, Any]]:
        lines = [line for path in sorted(self.spool.glob("*.jsonl")) for line in path.read_text().splitlines()]
        return [json.loads(line) for line in lines]

    def metric(self, name: str) -> float:
        """Sum of a metric over its labels."""
        lines = self.get("/metrics")[2].decode().splitlines()
        found = [line for line in lines if line.split("{")[0].split(" ")[0] == name]
        return sum(float(line.rsplit(" ", 1)[1]) for line in found)
