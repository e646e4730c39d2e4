"""Prometheus metrics of one process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Final, NamedTuple

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

from gateway.resilience.endpoint import EndpointState
from gateway.telemetry.endpoint_stats import EndpointStats
from gateway.telemetry.request_stats import RequestStats
from gateway.telemetry.whole_metrics import OfWorker
from serving.contracts import metric_names as names

NO_SIDE: Final = "none"
NO_MODEL: Final = "unknown"
"""Label of requests for models that have no route: what clients type never becomes a label."""


class SpoolCounters(NamedTuple):
    """What a spool counts."""

    written: Counter
    dropped: Counter
    write_failures: Counter


class GatewayMetrics:
    """All metrics, in a registry of their own; `answered` counts a request that has ended (`RequestStats.add`).

    Args:
        worker: Number of this worker of several; None when it is the only one.
    """

    def __init__(self, worker: int | None = None) -> None:
        self.registry = CollectorRegistry()
        self._worker = worker
        on = self.registry
        sides = ("model", "side")
        requests = RequestStats()
        on.register(requests)
        self.answered = requests.add
        self._in_flight = Gauge(names.GATEWAY_REQUESTS_IN_FLIGHT, "Requests under way", registry=on)
        self._snapshot = Gauge(names.GATEWAY_SNAPSHOT_INFO, "Revision answered by", ("revision",), registry=on)
        self._reloads = Counter(names.GATEWAY_RELOADS, "Snapshots put in place", registry=on)
        self._reload_failures = Counter(names.GATEWAY_RELOAD_FAILURES, "Documents refused", ("source",), registry=on)
        self._diverted = Counter(names.GATEWAY_SPLIT_DIVERTED, "Users' own side was not ready", sides, registry=on)
        self._upstream = Counter(names.GATEWAY_UPSTREAM_FAILURES, "Failed calls", ("service", "kind"), registry=on)
        self.stale_retries = Counter(
            names.GATEWAY_UPSTREAM_STALE_RETRIES, "Sent again on a fresh connection", registry=on
        )
        spool = ("spool",)
        self._spool_written = Counter(names.GATEWAY_SPOOL_WRITTEN, "Lines on disk", spool, registry=on)
        self._spool_dropped = Counter(names.GATEWAY_SPOOL_DROPPED, "Lines lost", spool, registry=on)
        self._spool_failures = Counter(names.GATEWAY_SPOOL_WRITE_FAILURES, "Batches not written", spool, registry=on)
        self._spool_queued = Gauge(names.GATEWAY_SPOOL_QUEUED, "Lines waiting", spool, registry=on)
        self._refusals = Counter(names.GATEWAY_REFUSALS, "Requests answered with an error", ("code",), registry=on)
        self._retries = Counter(names.GATEWAY_RETRIES, "Second and later tries", ("model",), registry=on)
        self._shadows = Counter(names.GATEWAY_SHADOWS, "Copies of requests", ("model", "outcome"), registry=on)
        self._idempotent = Counter(
            names.GATEWAY_IDEMPOTENT, "Requests with an idempotency key", ("outcome",), registry=on
        )
        self._limit_denials = Counter(
            names.GATEWAY_LIMIT_DENIALS, "Requests refused by a limit", ("rule", "limit"), registry=on
        )
        self._limited_without_redis = Counter(
            names.GATEWAY_LIMITED_WITHOUT_REDIS, "Requests decided without Redis", ("policy",), registry=on
        )
        self.limits_redis_failures = Counter(
            names.GATEWAY_LIMITS_REDIS_FAILURES, "Uses of Redis for limits that failed", registry=on
        )
        self.limits_begun_anew = Counter(
            names.GATEWAY_LIMITS_BEGUN_ANEW, "Reservations that Redis had lost", registry=on
        )
        self.limits_unsettled = Counter(names.GATEWAY_LIMITS_UNSETTLED, "Use that never reached Redis", registry=on)
        self._keys = Gauge(names.GATEWAY_KEYS, "API keys known", registry=on)
        self._keys_outdated = Gauge(names.GATEWAY_KEYS_OUTDATED, "API keys of an older pepper", registry=on)
        self.key_refresh_failures = Counter(
            names.GATEWAY_KEY_REFRESH_FAILURES, "Looks for changed API keys that failed", registry=on
        )
        self._auth_refusals = Counter(names.GATEWAY_AUTH_REFUSALS, "Credentials refused", ("reason",), registry=on)
        self._jwks_fetches = Counter(names.GATEWAY_JWKS_FETCHES, "Issuers' keys fetched", ("outcome",), registry=on)
        for source in ("policy", "endpoints"):
            self.reload_failures(source)
        self._snapshot.labels("none").set(1)

    def watch_endpoints(self, states: Callable[[], Iterable[EndpointState]]) -> None:
        """Let the states of endpoints be read when somebody asks."""
        self.registry.register(EndpointStats(states, time.monotonic))

    def watch_in_flight(self, in_flight: Callable[[], float]) -> None:
        """Let the gauge be read from its owner when somebody asks, rather than kept on every request."""
        self._in_flight.set_function(in_flight)

    def spool(self, name: str, queued: Callable[[], float]) -> SpoolCounters:
        """Return the counters of one spool; how many lines are queued is read when somebody asks."""
        self._spool_queued.labels(name).set_function(queued)
        return SpoolCounters(
            self._spool_written.labels(name), self._spool_dropped.labels(name), self._spool_failures.labels(name)
        )

    def refused(self, code: str) -> None:
        """Count a request that was answered with an error."""
        self._refusals.labels(code).inc()

    def retried(self, model: str) -> None:
        """Count a second or later try."""
        self._retries.labels(model).inc()

    def shadow(self, model: str, outcome: str) -> None:
        """Count a copy of a request to a model."""
        self._shadows.labels(model, outcome).inc()

    def idempotent(self, outcome: str) -> None:
        """Count a request with an idempotency key."""
        self._idempotent.labels(outcome).inc()

    def reload_failures(self, source: str) -> Counter:
        """Return the counter of refused documents of one source."""
        return self._reload_failures.labels(source)

    def reloaded(self, revision: str | None) -> None:
        """Count a new snapshot and name its revision."""
        self._reloads.inc()
        self._snapshot.clear()
        self._snapshot.labels(revision or "none").set(1)

    def diverted(self, model: str, side: str) -> None:
        """Count a request whose own side was not ready."""
        self._diverted.labels(model, side).inc()

    def limit_denied(self, rule: str, limit: str) -> None:
        """Count a request that a limit refused."""
        self._limit_denials.labels(rule, limit).inc()

    def limited_without_redis(self, policy: str) -> None:
        """Count a request that was decided while Redis did not answer."""
        self._limited_without_redis.labels(policy).inc()

    def upstream_failed(self, service: str, kind: str) -> None:
        """Count a failed call."""
        self._upstream.labels(service, kind).inc()

    def watch_keys(self, count: Callable[[], float], outdated: Callable[[], float]) -> None:
        """Let the number of API keys, and of those of an older pepper, be read when somebody asks."""
        self._keys.set_function(count)
        self._keys_outdated.set_function(outdated)

    def auth_refused(self, reason: str) -> None:
        """Count a refused credential."""
        self._auth_refusals.labels(reason).inc()

    def jwks_fetched(self, outcome: str) -> None:
        """Count a request for an issuer's keys."""
        self._jwks_fetches.labels(outcome).inc()

    def render(self) -> bytes:
        """Return this process's metrics in Prometheus' text format."""
        return generate_latest(self.registry if self._worker is None else OfWorker(self.registry, self._worker))
