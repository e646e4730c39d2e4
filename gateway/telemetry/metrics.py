"""Prometheus metrics of one process. Children are looked up once a label set and kept: a hot path pays a dictionary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from serving.contracts import metric_names as names

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""From a mock engine's answer to a long generation."""

NO_SIDE: Final = "none"
NO_MODEL: Final = "unknown"
"""Label of requests for models that have no route: what clients type never becomes a label."""


class GatewayMetrics:
    """All metrics, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        on = self.registry
        sides = ("model", "side")
        self._requests = Counter(names.GATEWAY_REQUESTS, "Requests answered", (*sides, "status_class"), registry=on)
        self._duration = Histogram(
            names.GATEWAY_REQUEST_DURATION, "Whole request", sides, buckets=_SECONDS, registry=on
        )
        self._ttft = Histogram(
            names.GATEWAY_TIME_TO_FIRST_TOKEN, "First content of a stream", sides, buckets=_SECONDS, registry=on
        )
        self._in_flight = Gauge(names.GATEWAY_REQUESTS_IN_FLIGHT, "Requests under way", registry=on)
        self._snapshot = Gauge(names.GATEWAY_SNAPSHOT_INFO, "Revision answered by", ("revision",), registry=on)
        self._reloads = Counter(names.GATEWAY_RELOADS, "Snapshots put in place", registry=on)
        self._reload_failures = Counter(names.GATEWAY_RELOAD_FAILURES, "Documents refused", ("source",), registry=on)
        self._diverted = Counter(names.GATEWAY_SPLIT_DIVERTED, "Users' own side was not ready", sides, registry=on)
        self._upstream = Counter(names.GATEWAY_UPSTREAM_FAILURES, "Failed calls", ("service", "kind"), registry=on)
        self.stale_retries = Counter(
            names.GATEWAY_UPSTREAM_STALE_RETRIES, "Sent again on a fresh connection", registry=on
        )
        self.observations_written = Counter(names.GATEWAY_OBSERVATIONS_WRITTEN, "Observations on disk", registry=on)
        self.observations_dropped = Counter(names.GATEWAY_OBSERVATIONS_DROPPED, "Observations lost", registry=on)
        self.spool_write_failures = Counter(names.GATEWAY_SPOOL_WRITE_FAILURES, "Batches not written", registry=on)
        self._spool_queued = Gauge(names.GATEWAY_SPOOL_QUEUED, "Observations waiting", registry=on)
        for source in ("policy", "endpoints"):
            self.reload_failures(source)
        self._snapshot.labels("none").set(1)
        self._request_children: dict[tuple[str, str, str], Counter] = {}
        self._time_children: dict[tuple[str, str], tuple[Histogram, Histogram]] = {}

    def watch(self, *, in_flight: Callable[[], float], spool_queued: Callable[[], float]) -> None:
        """Let two gauges be read from their owners when somebody asks, rather than kept on every request."""
        self._in_flight.set_function(in_flight)
        self._spool_queued.set_function(spool_queued)

    def answered(self, model: str, side: str, status_class: str, seconds: float, ttft_seconds: float | None) -> None:
        """Count a request that has ended."""
        requests = self._request_children.get((model, side, status_class))
        if requests is None:
            requests = self._requests.labels(model, side, status_class)
            self._request_children[model, side, status_class] = requests
        requests.inc()
        times = self._time_children.get((model, side))
        if times is None:
            times = (self._duration.labels(model, side), self._ttft.labels(model, side))
            self._time_children[model, side] = times
        times[0].observe(seconds)
        if ttft_seconds is not None:
            times[1].observe(ttft_seconds)

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

    def upstream_failed(self, service: str, kind: str) -> None:
        """Count a failed call."""
        self._upstream.labels(service, kind).inc()

    def render(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
