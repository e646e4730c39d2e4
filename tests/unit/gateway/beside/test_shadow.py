"""Shadow copies against a pool by hand; `test_shadow_process.py` has the real process."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any, cast

import pytest

from gateway.api.call import Call
from gateway.auth.principal import ANONYMOUS
from gateway.beside.shadow import Shadows
from gateway.errors import UpstreamResetError
from gateway.exchange import AnswerCopy
from gateway.routing.builder import SnapshotBuilder
from gateway.routing.request import RouteRequest
from gateway.routing.snapshot import Snapshot
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.spool import Spool, SpoolFile
from gateway.telemetry.tracing import Trace
from gateway.upstream.pool import UpstreamPool
from serving.contracts import metric_names as names
from serving.contracts.endpoints import EndpointDirectory, ServiceEndpoint
from serving.contracts.gateway_policy import GatewayPolicy
from serving.contracts.policy_folder import PolicyDocuments
from serving.contracts.route import Route

pytestmark = pytest.mark.asyncio
BODY = b'{"model": "m", "messages": []}'


class Answered:
    """A connection whose answer is there."""

    status = 200
    streaming = False

    async def read(self) -> bytes:
        return b'{"shadow": true}'


class Pool:
    """Answers every exchange, fails it, or keeps it waiting until told."""

    def __init__(self) -> None:
        self.requests: list[bytes] = []
        self.go = asyncio.Event()
        self.failure: Exception | None = None

    async def exchange(self, _origin: object, request: bytes, _timeouts: object) -> Answered:
        self.requests.append(request)
        await self.go.wait()
        if self.failure is not None:
            raise self.failure
        return Answered()

    def release(self, _connection: Answered) -> None:
        return


class Site:
    def __init__(self, tmp_path: Path, tasks: asyncio.TaskGroup, fraction: float = 1.0) -> None:
        self.metrics = GatewayMetrics()
        self.pool = Pool()
        file = SpoolFile(tmp_path, 1_000_000)
        self.spool = Spool("shadows", file, queue_bytes=1_000_000, flush_seconds=1, metrics=self.metrics)
        self.shadows = Shadows(cast("UpstreamPool", self.pool), self.spool, self.metrics, tasks)
        self.snapshot = snapshot(fraction)
        self.folder = tmp_path

    def offer(self, status: int = 200, ended: bool = True) -> None:
        route = self.snapshot.routes["m"]
        request = RouteRequest("m", ANONYMOUS, b"u", {}, {}, len(BODY))
        plan = self.shadows.wanted(route, request)
        assert plan is not None
        call = Call(b"u", "/v1/chat/completions")
        call.identified(b"id-1", Trace(None, None, 0.0))
        call.route = route
        copy = AnswerCopy(1_000)
        copy.begin(status, b"content-type: application/json\r\n")
        copy.add(b'{"primary": true}')
        copy.ended = ended
        plan.offer(self.snapshot, call, "/v1/chat/completions", BODY, copy)

    def count(self, outcome: str) -> float:
        labels = {"model": "m", "outcome": outcome}
        return self.metrics.registry.get_sample_value(names.GATEWAY_SHADOWS, labels) or 0.0

    async def lines(self) -> list[dict[str, Any]]:
        await self.spool.flush()
        return [json.loads(line) for path in self.folder.glob("*.jsonl") for line in path.read_text().splitlines()]


def snapshot(fraction: float) -> Snapshot:
    def route(model: str, **more: Any) -> Route:
        endpoints = [{"service": f"{model}-1", "side": "stable", "weight_percent": 100}]
        spec = {"model": model, "endpoints": endpoints, **more}
        return Route.model_validate_json(json.dumps({"kind": "Route", "metadata": {"name": model}, "spec": spec}))

    policy = GatewayPolicy.model_validate_json('{"kind": "GatewayPolicy", "metadata": {"name": "g"}, "spec": {}}')
    routes = (route("m", shadow={"model": "other", "fraction": fraction}), route("other"))
    listed = {name: ServiceEndpoint(url="http://127.0.0.1:1", ready=True) for name in ("m-1", "other-1")}
    return SnapshotBuilder().build(PolicyDocuments("r", policy, routes), EndpointDirectory(listed))


async def test_both_answers_stand_side_by_side(tmp_path: Path) -> None:
    """The copy goes to the other model under its name, and one line holds both answers."""
    async with asyncio.TaskGroup() as tasks:
        site = Site(tmp_path, tasks)
        site.pool.go.set()
        site.offer()
    (line,) = await site.lines()
    assert (line["request_id"], line["model"], line["shadow_model"]) == ("id-1", "m", "other")
    assert (line["answer"], line["shadow_answer"]) == ('{"primary": true}', '{"shadow": true}')
    assert b'"model": "other"' in site.pool.requests[0]
    assert site.count("stored") == 1


@pytest.mark.parametrize(("status", "ended"), [(502, True), (200, False)])
async def test_only_whole_good_answers_are_compared(tmp_path: Path, status: int, ended: bool) -> None:
    """A primary that failed, or broke off, sends no copy."""
    async with asyncio.TaskGroup() as tasks:
        site = Site(tmp_path, tasks)
        site.offer(status, ended)
    assert site.pool.requests == []


@pytest.mark.parametrize("failure", [UpstreamResetError("reset"), RuntimeError("ours")])
async def test_a_copy_that_fails_is_counted_and_nothing_else(tmp_path: Path, failure: Exception) -> None:
    """Neither an upstream's failure nor a fault of ours leaves the copy's task."""
    async with asyncio.TaskGroup() as tasks:
        site = Site(tmp_path, tasks)
        site.pool.failure = failure
        site.pool.go.set()
        site.offer()
    assert site.count("failed") == 1
    assert await site.lines() == []


async def test_copies_are_bounded(tmp_path: Path) -> None:
    """While 32 copies wait, the next one is dropped and counted; later ones go again."""
    async with asyncio.TaskGroup() as tasks:
        site = Site(tmp_path, tasks)
        for _ in range(33):
            site.offer()
        await asyncio.sleep(0)
        assert (len(site.pool.requests), site.count("dropped")) == (32, 1)
        site.pool.go.set()
    async with asyncio.TaskGroup() as tasks:
        site.shadows._tasks = tasks
        site.offer()
    assert site.count("stored") == 33


async def test_a_share_of_none_copies_nothing(tmp_path: Path) -> None:
    """A fraction of zero wants no request."""
    async with asyncio.TaskGroup() as tasks:
        site = Site(tmp_path, tasks, fraction=0.0)
        request = RouteRequest("m", ANONYMOUS, b"u", {}, {}, len(BODY))
        assert site.shadows.wanted(site.snapshot.routes["m"], request) is None
