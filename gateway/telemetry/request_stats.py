"""Counts and times of requests, kept as plain numbers: a hot path adds three, a scrape turns them into metrics.

prometheus_client's own counters take a lock and a call each; three of them cost as much as choosing a route.
All requests of a process are counted by one thread, so plain numbers are exact.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from typing import Final

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector

from serving.contracts import metric_names as names

_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)
"""From a mock engine's answer to a long generation: upper bounds of the buckets; one more has what is above."""


class _Times:
    """A histogram."""

    __slots__ = ("buckets", "total")

    def __init__(self) -> None:
        self.buckets = [0] * (len(_SECONDS) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.buckets[bisect_left(_SECONDS, seconds)] += 1
        self.total += seconds

    def cumulative(self) -> list[tuple[str, float]]:
        running, out = 0, []
        for bound, count in zip((*map(str, _SECONDS), "+Inf"), self.buckets, strict=True):
            running += count
            out.append((bound, float(running)))
        return out


class RequestStats(Collector):
    """What was answered, by model, side and class of status, and how long it took."""

    def __init__(self) -> None:
        self._answered: dict[tuple[str, str], tuple[dict[str, int], _Times, _Times]] = {}

    def add(self, model: str, side: str, status_class: str, seconds: float, ttft_seconds: float | None) -> None:
        """Count a request that has ended."""
        series = self._answered.get((model, side))
        if series is None:
            series = self._answered[model, side] = ({}, _Times(), _Times())
        statuses = series[0]
        statuses[status_class] = statuses.get(status_class, 0) + 1
        series[1].add(seconds)
        if ttft_seconds is not None:
            series[2].add(ttft_seconds)

    def collect(self) -> Iterator[CounterMetricFamily | HistogramMetricFamily]:
        """Return the metrics as they are now."""
        sides = ["model", "side"]
        requests = CounterMetricFamily(names.GATEWAY_REQUESTS, "Requests answered", labels=[*sides, "status_class"])
        duration = HistogramMetricFamily(names.GATEWAY_REQUEST_DURATION, "Whole request", labels=sides)
        ttft = HistogramMetricFamily(names.GATEWAY_TIME_TO_FIRST_TOKEN, "First content of a stream", labels=sides)
        for (model, side), (statuses, whole, first) in self._answered.items():
            for status_class, count in statuses.items():
                requests.add_metric([model, side, status_class], count)
            duration.add_metric([model, side], whole.cumulative(), whole.total)
            if any(first.buckets):
                ttft.add_metric([model, side], first.cumulative(), first.total)
        yield from (requests, duration, ttft)
