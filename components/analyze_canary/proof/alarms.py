"""Runs methods side by side on the same traffic and notes when each first raises its alarm."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from components.analyze_canary.proof.competitors import DifferenceOfMeans, MannWhitney, Method, Sequential, Threshold
from components.analyze_canary.quantiles import QuantileTest
from components.analyze_canary.rates import RateTest

ALPHA: Final = 0.05
HORIZON: Final = 600
"""Judged requests of a canary, both sides together; the fixed-horizon test looks once, at the end."""

MAX_RATIO: Final = 1.5
MARGIN: Final = 0.1

SEQUENTIAL: Final = "Nexus"
FIXED: Final = "Mann-Whitney, one look"
PEEKING: Final = "Mann-Whitney, peeking"
MARGIN_FIXED: Final = "fixed-size test with margin, one look"
MARGIN_PEEKING: Final = "fixed-size test with margin, peeking"
THRESHOLD: Final = "threshold on the last 50"
METHODS: Final = (SEQUENTIAL, FIXED, PEEKING, MARGIN_FIXED, MARGIN_PEEKING, THRESHOLD)

_ONE_LOOK: Final = {PEEKING: FIXED, MARGIN_PEEKING: MARGIN_FIXED}
"""The same test, read once after the last request."""


class World(Protocol):
    """Draws the values of a metric."""

    def draw(self, random: np.random.Generator, candidate: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Draw a value for each request, in order."""


@dataclass(frozen=True)
class Outcome:
    """First alarms of one method over many runs: number of requests of both sides, infinite without an alarm."""

    first: NDArray[np.float64]

    @property
    def share(self) -> float:
        """Share of runs with an alarm."""
        return float(np.mean(np.isfinite(self.first)))

    def delay(self, quantile: float) -> float:
        """Quantile of the first alarm over all runs; infinite where too few runs had one."""
        return float(np.quantile(self.first, quantile, method="inverted_cdf"))


def latency_methods() -> dict[str, Method]:
    """Build the methods for a median latency that may be 1.5 times the baseline's."""
    return {
        SEQUENTIAL: Sequential(QuantileTest(0.5, MAX_RATIO), ALPHA),
        PEEKING: MannWhitney(ALPHA),
        MARGIN_PEEKING: MannWhitney(ALPHA, ratio=MAX_RATIO),
        THRESHOLD: Threshold(window=50, ratio=MAX_RATIO),
    }


def rate_methods() -> dict[str, Method]:
    """Build the methods for a rate that may be 10 points above the baseline's."""
    return {
        SEQUENTIAL: Sequential(RateTest(MARGIN), ALPHA),
        PEEKING: MannWhitney(ALPHA),
        MARGIN_PEEKING: DifferenceOfMeans(ALPHA, margin=MARGIN),
        THRESHOLD: Threshold(window=50, margin=MARGIN),
    }


def safe_latency() -> dict[str, Method]:
    """Build the claim that a median latency is within 1.5 times the baseline's."""
    return {SEQUENTIAL: Sequential(QuantileTest(0.5, MAX_RATIO), ALPHA, "at-least")}


def safe_rate() -> dict[str, Method]:
    """Build the claim that a rate is within 10 points of the baseline's."""
    return {SEQUENTIAL: Sequential(RateTest(MARGIN), ALPHA, "at-least")}


def compare(world: World, methods: Callable[[], Mapping[str, Method]], *, runs: int, seed: int) -> dict[str, Outcome]:
    """Feed the same traffic to every method, `runs` times; sides are drawn with equal weights."""
    first: dict[str, list[float]] = {}
    for run in range(runs):
        random = np.random.default_rng((seed, run))
        sides = random.random(HORIZON) < 0.5
        values = world.draw(random, sides)
        for name, method in methods().items():
            alarm, last = _first_alarm(method, values, sides, to_the_end=name in _ONE_LOOK)
            first.setdefault(name, []).append(alarm)
            if name in _ONE_LOOK:
                first.setdefault(_ONE_LOOK[name], []).append(float(HORIZON) if last else np.inf)
    return {name: Outcome(np.array(first[name])) for name in METHODS if name in first}


def _first_alarm(
    method: Method, values: NDArray[np.float64], sides: NDArray[np.bool_], *, to_the_end: bool
) -> tuple[float, bool]:
    """Return the number of requests at the first alarm, and whether the method is alarmed after the last one."""
    first = np.inf
    for number, (value, candidate) in enumerate(zip(values.tolist(), sides.tolist(), strict=True), start=1):
        method.add(value, candidate=candidate)
        if first == np.inf and method.alarmed:
            first = float(number)
            if not to_the_end:
                break
    return first, method.alarmed
