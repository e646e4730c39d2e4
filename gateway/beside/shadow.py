"""Shadow traffic: a copy of some requests to another model, and both answers side by side on disk for comparison.

A copy is sent once its primary has been answered, by a pool of its own and within bounds of its own: it cannot delay or
fail anything. What does not fit is dropped and counted. The lines hold answers, unlike observations; their files are
readable by the gateway's user alone.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from typing import TYPE_CHECKING, Final

import orjson

from gateway.api.model_name import replace_model
from gateway.errors import GatewayError
from gateway.exchange import AnswerCopy
from gateway.routing.request import RouteRequest
from gateway.routing.rules import Matcher
from gateway.routing.snapshot import ModelRoute, Snapshot, Target
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.spool import Spool
from gateway.upstream.pool import UpstreamPool
from serving.contracts.route import Shadow

if TYPE_CHECKING:
    from gateway.api.call import Call

_MAX_RUNNING: Final = 32
"""Copies under way at once."""

_MAX_ANSWER_BYTES: Final = 262_144
"""Answers longer than this are not compared."""

log = logging.getLogger(__name__)


class _Plan:
    """A route's shadow, made ready."""

    __slots__ = ("_shadows", "document", "matches", "max_answer_bytes")

    def __init__(self, shadows: Shadows, document: Shadow) -> None:
        self._shadows = shadows
        self.document = document
        self.matches = Matcher(document.match)
        self.max_answer_bytes = _MAX_ANSWER_BYTES

    def offer(self, snapshot: Snapshot, call: Call, path: str, body: bytes, copy: AnswerCopy) -> None:
        """Send the copy of a request that has been answered, if there is room."""
        if copy.whole and copy.status == 200:
            self._shadows.offer(self.document, snapshot, call, path, body, copy)


class Shadows:
    """Sends copies.

    Args:
        pool: Connections for copies alone.
        spool: Where pairs of answers go.
        metrics: Counts what became of copies.
        tasks: Owner of the copies.
    """

    def __init__(self, pool: UpstreamPool, spool: Spool, metrics: GatewayMetrics, tasks: asyncio.TaskGroup) -> None:
        self._pool = pool
        self._spool = spool
        self._metrics = metrics
        self._tasks = tasks
        self._running = 0
        self._plans: dict[str, _Plan] = {}

    def wanted(self, route: ModelRoute, request: RouteRequest) -> _Plan | None:
        """Return what to offer the answer to, when this request is one of those to be copied."""
        document = route.document.spec.shadow
        if document is None:
            return None
        plan = self._plans.get(route.model)
        if plan is None or plan.document is not document:
            plan = self._plans[route.model] = _Plan(self, document)
        return plan if random.random() < document.fraction and plan.matches(request) else None

    def offer(self, document: Shadow, snapshot: Snapshot, call: Call, path: str, body: bytes, copy: AnswerCopy) -> None:
        """Send a copy if there is room, and never wait."""
        route = snapshot.routes.get(document.model)
        target = next((side.targets[0] for side in route.live), None) if route is not None else None
        if target is None or self._running >= _MAX_RUNNING:
            self._metrics.shadow(call.model, "dropped")
            return
        self._running += 1
        self._tasks.create_task(self._send(document, snapshot, target, path, body, _primary(call, copy)))

    async def _send(
        self,
        document: Shadow,
        snapshot: Snapshot,
        target: Target,
        path: str,
        body: bytes,
        primary: dict[str, object],
    ) -> None:
        model = str(primary["model"])
        try:
            began = time.monotonic()
            status, answer = await self._ask(snapshot, target, path, body)
            line = primary | {
                "shadow_model": document.model,
                "shadow_status": status,
                "shadow_total_ms": (time.monotonic() - began) * 1e3,
                "shadow_answer": answer,
            }
            self._spool.put(orjson.dumps(line) + b"\n")
            self._metrics.shadow(model, "stored")
        except GatewayError:
            self._metrics.shadow(model, "failed")
        except Exception:
            self._metrics.shadow(model, "failed")
            log.exception("a shadow request failed")
        finally:
            self._running -= 1

    async def _ask(self, snapshot: Snapshot, target: Target, path: str, body: bytes) -> tuple[int, str]:
        body = replace_model(body, target.model_name)
        request = b"%bcontent-length: %d\r\n\r\n%b" % (target.heads[path], len(body), body)
        connection = await self._pool.exchange(target.origin, request, snapshot.policy.timeouts)
        try:
            parts, size = [], 0
            while data := await connection.read():
                size += len(data)
                if size <= _MAX_ANSWER_BYTES:
                    parts.append(data)
                if not connection.streaming:
                    break
            return connection.status, b"".join(parts).decode(errors="replace")
        finally:
            self._pool.release(connection)


def _primary(call: Call, copy: AnswerCopy) -> dict[str, object]:
    return {
        "ts": call.received,
        "request_id": call.request_id.decode(),
        "model": call.model,
        "status": copy.status,
        "total_ms": (time.monotonic() - call.begun) * 1e3,
        "answer": copy.body.decode(errors="replace"),
    }
