"""Synthetic traffic: latencies with heavy tails and load bursts, and answers that are right or wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

MEDIAN_MS: Final = 60.0
_SPREAD: Final = 0.5
"""Standard deviation of the logarithm; engines that share a CPU lie around it."""

_STALL_FRACTION: Final = 0.03
_STALL_FACTOR: Final = 8.0
_CALM_REQUESTS: Final = 90.0
_BURST_REQUESTS: Final = 30.0


@dataclass(frozen=True)
class Latencies:
    """How long answers take: log-normal with stalls; `burst_factor` above 1 slows both sides down now and then."""

    ratio: float = 1.0
    burst_factor: float = 1.0

    def draw(self, random: np.random.Generator, candidate: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Draw one latency for each request, in order, in milliseconds; shape of `candidate`."""
        count = len(candidate)
        values = MEDIAN_MS * np.exp(_SPREAD * random.standard_normal(count))
        values *= np.where(random.random(count) < _STALL_FRACTION, _STALL_FACTOR, 1.0)
        values *= np.where(candidate, self.ratio, 1.0)
        return values * (bursts(random, count, self.burst_factor) if self.burst_factor > 1 else 1.0)


@dataclass(frozen=True)
class Failures:
    """How often an answer is wrong: a share of each side's requests."""

    baseline: float
    candidate: float

    def draw(self, random: np.random.Generator, candidate: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Draw 1 for a bad answer and 0 for a good one, for each request; shape of `candidate`."""
        share = np.where(candidate, self.candidate, self.baseline)
        return (random.random(len(candidate)) < share).astype(np.float64)


def bursts(random: np.random.Generator, count: int, factor: float) -> NDArray[np.float64]:
    """Draw a slow-down for each of `count` requests in order: 1, or `factor` in bursts that hit both sides alike."""
    slow = np.ones(count)
    position = random.exponential(_CALM_REQUESTS)
    while position < count:
        length = random.exponential(_BURST_REQUESTS)
        slow[int(position) : int(position + length) + 1] = factor
        position += length + random.exponential(_CALM_REQUESTS)
    return slow
