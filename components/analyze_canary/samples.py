"""The value of a request to each metric, and plain estimates over them for people to read."""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Callable, Mapping
from typing import Final

from components.analyze_canary.observations import Arrival
from serving.contracts.observation import Label, Observation, Outcome
from serving.contracts.release_spec import CanaryMetric, MetricKind

_TRUNCATED: Final = "length"
"""`finish_reason` of an answer that was cut off at its token limit."""


def _streamed(read: Callable[[Observation], float | None]) -> Callable[[Observation], float | None]:
    return lambda observation: read(observation) if observation.streamed and _is_ok(observation) else None


def _is_ok(observation: Observation) -> bool:
    return observation.outcome is Outcome.OK


_OF_OBSERVATION: Final[Mapping[str, Callable[[Observation], float | None]]] = {
    "error": lambda o: float(not _is_ok(o)),
    "truncation": lambda o: float(o.finish_reason == _TRUNCATED) if _is_ok(o) else None,
    "ttft_ms": _streamed(lambda o: o.ttft_ms),
    "itl_ms": _streamed(lambda o: o.itl_ms),
    "total_ms": _streamed(lambda o: o.total_ms),
}

_OF_LABEL: Final[Mapping[str, Callable[[Label], bool]]] = {
    "exact_match": lambda label: label.exact_match,
    "format_failure": lambda label: label.format_failure,
    "refusal": lambda label: label.refusal,
}

METRIC_NAMES: Final = frozenset(_OF_OBSERVATION) | frozenset(_OF_LABEL)


def value_of(metric: str, arrival: Arrival) -> float | None:
    """Return the metric's value of one arrival: 0 or 1 for rates, milliseconds for latencies, None for no value."""
    if arrival.label is not None:
        read_label = _OF_LABEL.get(metric)
        return None if read_label is None else float(read_label(arrival.label))
    read = _OF_OBSERVATION.get(metric)
    return None if read is None else read(arrival.observation)


class Samples:
    """Values of both sides, sorted."""

    def __init__(self) -> None:
        self._values: tuple[list[float], list[float]] = ([], [])

    def add(self, value: float, *, candidate: bool) -> None:
        """Add one value."""
        insort(self._values[candidate], value)

    def count(self, *, candidate: bool) -> int:
        """Return the number of values of one side."""
        return len(self._values[candidate])

    def has_data(self, *, both: bool) -> bool:
        """Tell whether the candidate (and with `both` the baseline) has a value."""
        baseline, candidate = self._values
        return bool(candidate) and (bool(baseline) or not both)

    def estimate(self, metric: CanaryMetric, *, candidate: bool) -> float | None:
        """Return the mean of a rate, the nearest-rank quantile of a latency, or None without values."""
        values = self._values[candidate]
        if not values:
            return None
        if metric.kind is MetricKind.RATE:
            return sum(values) / len(values)
        assert metric.quantile is not None
        return values[max(0, math.ceil(metric.quantile * len(values)) - 1)]
