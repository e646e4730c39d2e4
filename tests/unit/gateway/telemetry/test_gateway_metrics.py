from __future__ import annotations

from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.whole_metrics import whole_metrics
from serving.contracts import metric_names


def test_the_metrics_are_exactly_the_names_of_the_contract() -> None:
    """A scrape holds every metric name of the contract, and none besides."""
    metrics = GatewayMetrics()
    metrics.watch_endpoints(tuple)
    metrics.answered("m", "stable", "2xx", 0.1, 0.05)
    metrics.diverted("m", "candidate")
    metrics.upstream_failed("m-1", "upstream_reset")
    families = text_string_to_metric_families(whole_metrics([metrics.render()]).decode())
    made = {f"{family.name}_total" if family.type == "counter" else family.name for family in families}
    made = {name for name in made if not name.endswith("_created")}
    named = {value for name, value in vars(metric_names).items() if name.startswith("GATEWAY_")}
    assert made == named


def test_a_revision_replaces_the_one_before() -> None:
    """Only the last revision is exported, and a missing one is exported as none."""
    metrics = GatewayMetrics()
    metrics.watch_endpoints(tuple)
    for revision in ("a", "b", None):
        metrics.reloaded(revision)
    lines = [line for line in metrics.render().decode().splitlines() if line.startswith("nexus_gateway_snapshot_info")]
    assert lines == ['nexus_gateway_snapshot_info{revision="none"} 1.0']
