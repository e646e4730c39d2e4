"""The application: FastAPI for documentation and cold routes, hot paths as plain ASGI in front of its router."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from gateway.api import health, models
from gateway.api.call import Recorder
from gateway.api.errors import error_body, render
from gateway.api.hot import HotPath
from gateway.api.intake import new_request_id
from gateway.api.openapi import hot_paths
from gateway.errors import ErrorCode, GatewayError
from gateway.policy_store import PolicyStore
from gateway.routing.snapshot import HOT_PATHS
from gateway.settings import GatewaySettings
from gateway.state import Gateway, State
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.spool import Spool, SpoolFile
from gateway.telemetry.user_hash import UserHasher, load_key
from gateway.upstream.pool import UpstreamPool

_HOT = frozenset(HOT_PATHS)
_RESTART_SECONDS = 1.0

log = logging.getLogger(__name__)


class GatewayApp(FastAPI):
    """FastAPI that hands POSTs of hot paths to `HotPath` before any middleware or routing."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Dispatch one ASGI connection."""
        if scope["type"] == "http" and scope["method"] == "POST" and scope["path"] in _HOT:
            await scope["state"]["gateway"].hot(scope, receive, send)
            return
        await super().__call__(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Return the document of all routes, hot ones included."""
        document = super().openapi()
        document["paths"] = hot_paths() | document["paths"]
        return document


def create_app(settings: GatewaySettings) -> FastAPI:
    """Build the application; nothing is opened before its lifespan begins."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[State]:
        async with AsyncExitStack() as stack:
            yield {"gateway": await _open(settings, stack)}

    app = GatewayApp(title="Nexus gateway", version="v1", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(models.router)
    app.include_router(health.router)
    app.add_exception_handler(GatewayError, _domain_error)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(Exception, _internal_error)
    return app


async def _open(settings: GatewaySettings, stack: AsyncExitStack) -> Gateway:
    """Open everything; the stack closes it in reverse: tasks, then connections, then the spool with all it holds."""
    metrics = GatewayMetrics()
    spool = Spool(
        SpoolFile(settings.spool_dir, settings.spool_file_bytes),
        queue_bytes=settings.spool_queue_bytes,
        flush_seconds=settings.spool_flush_seconds,
        metrics=metrics,
    )
    hasher = UserHasher(load_key(settings.spool_dir))
    stack.push_async_callback(spool.close)
    pool = UpstreamPool(
        idle_seconds=settings.upstream_idle_seconds,
        max_answer_bytes=settings.max_answer_bytes,
        on_stale_retry=metrics.stale_retries.inc,
    )
    stack.callback(pool.close)
    store = PolicyStore(
        settings.policy_dir,
        settings.endpoints_file,
        interval_seconds=settings.watch_interval_seconds,
        metrics=metrics,
    )
    await store.refresh()
    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    background = [tasks.create_task(_forever(run)) for run in (pool.run, spool.run, store.run)]
    hot = HotPath(
        store,
        pool,
        Recorder(metrics, spool, hasher),
        metrics,
        tasks=tasks,
        max_event_bytes=settings.max_event_bytes,
    )
    metrics.watch(in_flight=lambda: hot.in_flight, spool_queued=lambda: spool.queued)

    def stop() -> None:
        store.draining = True
        for task in background:
            task.cancel()

    stack.callback(stop)
    return Gateway(store, hot, metrics)


async def _forever(run: Callable[[], Awaitable[None]]) -> None:
    while True:
        try:
            await run()
        except Exception:
            log.exception("a background task failed and is started again")
            await asyncio.sleep(_RESTART_SECONDS)


def _respond(status: int, body: bytes, headers: dict[str, str] | None = None) -> Response:
    request_id = new_request_id().decode()
    return Response(
        body, status, media_type="application/json", headers={"x-request-id": request_id, **(headers or {})}
    )


async def _domain_error(_: Request, exc: Exception) -> Response:
    assert isinstance(exc, GatewayError)
    answer = render(exc)
    extra = {name.decode(): value.decode() for name, value in answer.headers if name != b"content-type"}
    return _respond(answer.status, answer.body, extra)


async def _http_error(request: Request, exc: Exception) -> Response:
    assert isinstance(exc, HTTPException)
    status, headers = exc.status_code, dict(exc.headers or {})
    if request.url.path in _HOT:
        status, headers = 405, {"allow": "POST"}
    code = {404: ErrorCode.NOT_FOUND, 405: ErrorCode.METHOD_NOT_ALLOWED}.get(status, ErrorCode.INVALID_REQUEST)
    message = {404: "there is nothing at this path", 405: "this path does not know this method"}.get(status, exc.detail)
    return _respond(status, error_body(code, message, status=status), headers)


async def _validation_error(_: Request, exc: Exception) -> Response:
    return _respond(400, error_body(ErrorCode.INVALID_REQUEST, str(exc)[:1000], status=400))


async def _internal_error(_: Request, exc: Exception) -> Response:
    return _respond(500, error_body(ErrorCode.INTERNAL, "the gateway failed; see its log", status=500))
