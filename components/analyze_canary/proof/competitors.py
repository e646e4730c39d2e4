"""Judges in common use: the Mann-Whitney test, its kin that know the margin, and plain threshold checks."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right, insort
from collections import deque
from statistics import NormalDist
from typing import Final, Protocol

from components.analyze_canary.e_process import Null
from components.analyze_canary.quantiles import QuantileTest
from components.analyze_canary.rates import RateTest

MIN_SAMPLES: Final = 20
"""Values of each side before a competitor may speak; fewer would make it look worse than it is."""


class Method(Protocol):
    """A judge of one metric: fed value by value, asked after each whether it sees harm."""

    def add(self, value: float, *, candidate: bool) -> None:
        """Add one value."""

    @property
    def alarmed(self) -> bool:
        """It sees harm at this moment."""


class Sequential:
    """Our test at level `alpha`."""

    def __init__(self, test: QuantileTest | RateTest, alpha: float, null: Null = "at-most") -> None:
        self._test = test
        self._threshold = math.log(1 / alpha)
        self._harm = null == "at-most"

    def add(self, value: float, *, candidate: bool) -> None:
        """Add one value."""
        self._test.add(value, candidate=candidate)

    @property
    def alarmed(self) -> bool:
        """Evidence reached the threshold."""
        return (self._test.log_e_harm if self._harm else self._test.log_e_safe) >= self._threshold


class MannWhitney:
    """One-sided Mann-Whitney test of "the candidate's values are larger", normal approximation with tie correction.

    With `ratio`, the candidate's values are divided by it first: a test that knows the allowed ratio.
    """

    def __init__(self, alpha: float, *, ratio: float = 1.0) -> None:
        self._ratio = ratio
        self._critical = NormalDist().inv_cdf(1 - alpha)
        self._values: tuple[list[float], list[float]] = ([], [])
        self._ties: dict[float, int] = {}
        self._tie_sum = 0
        self._u = 0.0

    def add(self, value: float, *, candidate: bool) -> None:
        """Add one value; U counts pairs in which the candidate's is larger, ties half."""
        if candidate:
            value /= self._ratio
        others = self._values[not candidate]
        below, upto = bisect_left(others, value), bisect_right(others, value)
        self._u += (below + upto) / 2 if candidate else len(others) - (below + upto) / 2
        insort(self._values[candidate], value)
        count = self._ties.get(value, 0)
        self._tie_sum += (count + 1) ** 3 - (count + 1) - count**3 + count
        self._ties[value] = count + 1

    @property
    def z(self) -> float:
        """Standard score of U; 0 without spread."""
        b, c = len(self._values[0]), len(self._values[1])
        n = b + c
        if not b or not c:
            return 0.0
        variance = b * c / 12 * (n + 1 - self._tie_sum / (n * (n - 1)))
        return (self._u - b * c / 2) / math.sqrt(variance) if variance > 0 else 0.0

    @property
    def alarmed(self) -> bool:
        """The one-sided p-value is below alpha, on enough values."""
        return min(map(len, self._values)) >= MIN_SAMPLES and self.z >= self._critical


class DifferenceOfMeans:
    """One-sided test of "the candidate's mean is larger by more than `margin`", normal approximation."""

    def __init__(self, alpha: float, *, margin: float) -> None:
        self._critical = NormalDist().inv_cdf(1 - alpha)
        self._margin = margin
        self._counts, self._sums = [0, 0], [0.0, 0.0]

    def add(self, value: float, *, candidate: bool) -> None:
        """Add one value, 0 or 1."""
        self._counts[candidate] += 1
        self._sums[candidate] += value

    @property
    def alarmed(self) -> bool:
        """The one-sided p-value is below alpha, on enough values."""
        if min(self._counts) < MIN_SAMPLES:
            return False
        baseline, candidate = (total / count for total, count in zip(self._sums, self._counts, strict=True))
        variance = baseline * (1 - baseline) / self._counts[0] + candidate * (1 - candidate) / self._counts[1]
        excess = candidate - baseline - self._margin
        return excess >= self._critical * math.sqrt(variance) and excess > 0


class Threshold:
    """A dashboard's rule: a statistic over the last `window` values of each side, candidate against baseline.

    With a `ratio`, medians are compared; with a `margin`, means.
    """

    def __init__(self, *, window: int, ratio: float | None = None, margin: float | None = None) -> None:
        self._ratio, self._margin = ratio, margin
        self._values: tuple[deque[float], deque[float]] = (deque(maxlen=window), deque(maxlen=window))

    def add(self, value: float, *, candidate: bool) -> None:
        """Add one value; the oldest of that side leaves the window."""
        self._values[candidate].append(value)

    @property
    def alarmed(self) -> bool:
        """The candidate's statistic is beyond the allowed one, on enough values."""
        baseline, candidate = self._values
        if min(len(baseline), len(candidate)) < MIN_SAMPLES:
            return False
        if self._ratio is not None:
            return _median(candidate) > self._ratio * _median(baseline)
        assert self._margin is not None
        return sum(candidate) / len(candidate) > sum(baseline) / len(baseline) + self._margin


def _median(values: deque[float]) -> float:
    ordered = sorted(values)
    return ordered[(len(ordered) - 1) // 2]
