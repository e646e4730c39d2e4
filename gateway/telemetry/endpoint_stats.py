"""What endpoints do at the moment a scrape asks: nothing is kept for it on a request's way."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from gateway.resilience.endpoint import EndpointState
from serving.contracts import metric_names as names


class EndpointStats(Collector):
    """Requests under way and waiting, the limit on them, and whether the breaker lets requests in, by endpoint.

    Args:
        states: Returns the states of all endpoints.
        clock: Monotonic seconds.
    """

    def __init__(self, states: Callable[[], Iterable[EndpointState]], clock: Callable[[], float]) -> None:
        self._states = states
        self._clock = clock

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Return the gauges as they are now."""
        labels = ["service", "address"]
        running = GaugeMetricFamily(names.GATEWAY_ENDPOINT_RUNNING, "Requests under way", labels=labels)
        queued = GaugeMetricFamily(names.GATEWAY_ENDPOINT_QUEUED, "Requests that wait", labels=labels)
        limit = GaugeMetricFamily(names.GATEWAY_ENDPOINT_LIMIT, "Requests that may be under way", labels=labels)
        usable = GaugeMetricFamily(names.GATEWAY_ENDPOINT_USABLE, "Whether new requests may go there", labels=labels)
        now = self._clock()
        for state in self._states():
            where = [state.service, state.address]
            running.add_metric(where, state.running)
            queued.add_metric(where, state.queued)
            limit.add_metric(where, state.limiter.limit)
            usable.add_metric(where, float(state.usable(now)))
        yield from (running, queued, limit, usable)
