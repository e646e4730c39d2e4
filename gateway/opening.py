"""Opening and closing a gateway: every part is made here, in the order in which they need each other."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from gateway.admin.app import create_admin_app
from gateway.admin.audit import AuditLog
from gateway.admin.drains import Drains
from gateway.admin.gate import AdminGate
from gateway.admin.server import serve_admin
from gateway.admin.state import AdminState
from gateway.api.call import Recorder
from gateway.api.forward import Forwarder
from gateway.api.hot import HotPath, Stages
from gateway.auth.authenticator import Authenticator
from gateway.auth.key_manager import KeyManager
from gateway.auth.key_ring import KeyRing
from gateway.auth.key_store import KeyStore
from gateway.beside.idempotency import EntryStore, Idempotency, MemoryStore, UnsharedStore
from gateway.beside.redis_entries import RedisStore
from gateway.beside.shadow import Shadows
from gateway.health import dump_health, own_health
from gateway.limits.limiter import Limiter
from gateway.limits.redis_link import RedisAddress
from gateway.limits.shared import SharedCounters
from gateway.limits.spend import SpendReader
from gateway.peers import HEALTH, METRICS, Peers, Place
from gateway.policy_store import PolicyStore
from gateway.redis_connection import RedisConnection
from gateway.routing.builder import SnapshotBuilder
from gateway.server import listen
from gateway.settings import GatewaySettings
from gateway.state import Gateway
from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.spool import Spool, SpoolFile
from gateway.telemetry.user_hash import UserHasher, load_key
from gateway.upstream.pool import UpstreamPool

_RESTART_SECONDS: Final = 1.0
_LEASE_SECONDS: Final = 30.0
"""Silence after which another process gives back what requests of this one have reserved."""

log = logging.getLogger(__name__)


async def open_gateway(settings: GatewaySettings, stack: AsyncExitStack, place: Place) -> Gateway:
    """Open everything; the stack closes it in reverse: tasks first, spools with all they hold last.

    Args:
        settings: Of the process.
        stack: Gets what has to be closed.
        place: Which of several workers this is; the first one serves the admin API.
    """
    metrics = GatewayMetrics(place.index if place.count > 1 else None)
    observations = _spool("observations", settings.spool_dir, settings, metrics, stack)
    spans = _spool("spans", settings.spool_dir / "spans", settings, metrics, stack)
    shadow_spool = _spool("shadows", settings.spool_dir / "shadows", settings, metrics, stack, mode=0o600)
    hasher = UserHasher(load_key(settings.spool_dir))
    pool, shadow_pool = _pool(settings, metrics, stack), _pool(settings, metrics, stack)
    redis = _redis(settings, stack)
    keys = _key_store(settings, redis, metrics)
    limiter = Limiter(_shared_counters(settings, metrics), metrics)
    stack.push_async_callback(limiter.close)
    store = PolicyStore(
        settings.policy_dir,
        settings.endpoints_file,
        interval_seconds=settings.watch_interval_seconds,
        metrics=metrics,
        builder=SnapshotBuilder(settings.provider_socket),
        can_limit=settings.redis_url is not None,
    )
    await asyncio.gather(store.refresh(), limiter.open(), *([keys.start()] if keys is not None else []))

    tasks = await stack.enter_async_context(asyncio.TaskGroup())
    authenticator = Authenticator(keys, metrics, tasks)
    if store.snapshot is not None:
        authenticator.apply(store.snapshot.policy)  # so that issuers' keys are fetched before a request needs them
    stack.push_async_callback(authenticator.close)
    drains = Drains(store.builder.registry, redis)
    recorder = Recorder(metrics, observations, spans, hasher)
    hot = HotPath(
        Stages(
            store,
            authenticator,
            Idempotency(_entry_store(redis, place)),
            limiter,
            Forwarder(pool, recorder, metrics, max_event_bytes=settings.max_event_bytes),
            Shadows(shadow_pool, shadow_spool, metrics, tasks),
            recorder,
        ),
        metrics,
    )
    metrics.watch_in_flight(lambda: hot.in_flight)
    metrics.watch_endpoints(store.builder.registry.all)
    peers = Peers(
        place,
        {METRICS: metrics.render, HEALTH: lambda: dump_health(own_health(store, authenticator))},
        patience_seconds=settings.stop_seconds,
    )
    runs = [pool.run, shadow_pool.run, observations.run, spans.run, shadow_spool.run, store.run]
    runs += [authenticator.run, limiter.run, drains.run, *([keys.run] if keys is not None else [])]
    runs += [peers.run] if place.count > 1 else []
    background = [tasks.create_task(_kept_running(run)) for run in runs]
    if settings.admin_port is not None and place.index == 0:
        admin = AdminState(
            place,
            AdminGate(settings.read_admin_token(), keys),
            store,
            authenticator,
            KeyManager(keys) if keys is not None else None,
            drains,
            SpendReader(redis) if redis is not None else None,
            AuditLog(),
        )
        sock = listen(settings.admin_host, settings.admin_port, shared=settings.workers > 1)
        background.append(tasks.create_task(serve_admin(create_admin_app(admin), settings, sock)))

    def stop() -> None:
        store.draining = True
        for task in background:
            task.cancel()

    stack.callback(stop)
    return Gateway(store, authenticator, hot, peers)


def _spool(
    name: str,
    folder: Path,
    settings: GatewaySettings,
    metrics: GatewayMetrics,
    stack: AsyncExitStack,
    *,
    mode: int = 0o640,
) -> Spool:
    spool = Spool(
        name,
        SpoolFile(folder, settings.spool_file_bytes, mode=mode),
        queue_bytes=settings.spool_queue_bytes,
        flush_seconds=settings.spool_flush_seconds,
        metrics=metrics,
    )
    stack.push_async_callback(spool.close)
    return spool


def _pool(settings: GatewaySettings, metrics: GatewayMetrics, stack: AsyncExitStack) -> UpstreamPool:
    pool = UpstreamPool(
        idle_seconds=settings.upstream_idle_seconds,
        max_answer_bytes=settings.max_answer_bytes,
        on_stale_retry=metrics.stale_retries.inc,
    )
    stack.callback(pool.close)
    return pool


def _redis(settings: GatewaySettings, stack: AsyncExitStack) -> RedisConnection | None:
    if settings.redis_url is None:
        return None
    redis = RedisConnection(settings.redis_url, settings.redis_timeout_seconds)
    stack.push_async_callback(redis.close)
    return redis


def _entry_store(redis: RedisConnection | None, place: Place) -> EntryStore:
    if redis is not None:
        return RedisStore(redis)
    return MemoryStore() if place.count == 1 else UnsharedStore()


def _key_store(settings: GatewaySettings, redis: RedisConnection | None, metrics: GatewayMetrics) -> KeyStore | None:
    peppers = settings.read_key_peppers()
    return KeyStore(redis, KeyRing(*peppers), metrics) if redis is not None and peppers else None


def _shared_counters(settings: GatewaySettings, metrics: GatewayMetrics) -> SharedCounters | None:
    if settings.redis_url is None:
        return None
    return SharedCounters(
        RedisAddress.parse(settings.redis_url.get_secret_value()),
        timeout_seconds=settings.limits_timeout_seconds,
        lease_seconds=_LEASE_SECONDS,
        metrics=metrics,
    )


async def _kept_running(run: Callable[[], Awaitable[None]]) -> None:
    """Run something until it ends by itself; one that fails is started again."""
    while True:
        try:
            await run()
        except Exception:
            log.exception("a background task failed and is started again")
            await asyncio.sleep(_RESTART_SECONDS)
        else:
            return
