from __future__ import annotations

from prometheus_client import CollectorRegistry

from gateway.resilience.endpoint import EndpointRegistry, Result
from gateway.telemetry.endpoint_stats import EndpointStats
from serving.contracts import metric_names as names
from serving.contracts.resilience import Breaker, Overload


def test_gauges_tell_what_an_endpoint_does_now() -> None:
    """Running requests, limit and whether requests may go there follow the endpoint's state."""
    states = EndpointRegistry(lambda: 5.0)
    state = states.state("m-1", "a:1", Breaker(), Overload(initial_concurrency=7))
    registry = CollectorRegistry()
    registry.register(EndpointStats(states.all, lambda: 5.0))

    def value(name: str) -> float | None:
        return registry.get_sample_value(name, {"service": "m-1", "address": "a:1"})

    entered = state.try_enter(10)
    assert (value(names.GATEWAY_ENDPOINT_RUNNING), value(names.GATEWAY_ENDPOINT_LIMIT)) == (1, 7)
    assert (value(names.GATEWAY_ENDPOINT_QUEUED), value(names.GATEWAY_ENDPOINT_USABLE)) == (0, 1)
    state.leave(entered, 10, Result.ANSWERED)
    state.drain(True)
    assert (value(names.GATEWAY_ENDPOINT_RUNNING), value(names.GATEWAY_ENDPOINT_USABLE)) == (0, 0)
