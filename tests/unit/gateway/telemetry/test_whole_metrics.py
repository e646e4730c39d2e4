from __future__ import annotations

from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from gateway.telemetry.metrics import GatewayMetrics
from gateway.telemetry.whole_metrics import whole_metrics
from serving.contracts import metric_names as names


def worker(index: int, requests: int) -> bytes:
    metrics = GatewayMetrics(index)
    metrics.reloaded("# HELP\n# HELP me")
    for _ in range(requests):
        metrics.answered("m", "stable", "2xx", 0.1, None)
    return metrics.render()


def series(text: bytes, name: str) -> dict[str | None, float]:
    """Return the values of a metric by worker."""
    families: list[Any] = list(text_string_to_metric_families(text.decode()))
    return {
        sample.labels.get("worker"): sample.value
        for family in families
        for sample in family.samples
        if sample.name == name
    }


def test_each_worker_has_series_of_its_own() -> None:
    """A counter, a histogram's count and a gauge are there once for each worker."""
    text = whole_metrics([worker(0, 3), worker(1, 4)])
    assert series(text, names.GATEWAY_REQUESTS) == {"0": 3, "1": 4}
    assert series(text, f"{names.GATEWAY_REQUEST_DURATION}_count") == {"0": 3, "1": 4}
    assert series(text, names.GATEWAY_SNAPSHOT_INFO) == {"0": 1, "1": 1}


def test_a_family_stands_once() -> None:
    """Prometheus refuses a text in which a metric is described twice: each is, once, before all its series."""
    lines = whole_metrics([worker(0, 1), worker(1, 1), worker(2, 0)]).decode().splitlines()
    described = [line.split(" ")[2] for line in lines if line.startswith("# TYPE ")]
    assert len(described) == len(set(described))
    assert lines.count("# TYPE nexus_gateway_requests_total counter") == 1
    assert "" not in lines


def test_a_missing_worker_is_seen() -> None:
    """How many workers there should be and how many are in the answer are metrics of their own, without a label."""
    text = whole_metrics([worker(0, 3), None, worker(2, 1)])
    assert series(text, names.GATEWAY_REQUESTS) == {"0": 3, "2": 1}
    assert series(text, names.GATEWAY_WORKERS) == {None: 3}
    assert series(text, names.GATEWAY_WORKERS_SCRAPED) == {None: 2}


def test_a_gateway_of_one_has_no_worker_label() -> None:
    """Where one process is the gateway, its series are as they are."""
    metrics = GatewayMetrics()
    metrics.answered("m", "stable", "2xx", 0.1, None)
    text = whole_metrics([metrics.render()])
    assert b"worker=" not in text
    assert series(text, names.GATEWAY_REQUESTS) == {None: 1}
    assert series(text, names.GATEWAY_WORKERS_SCRAPED) == {None: 1}
