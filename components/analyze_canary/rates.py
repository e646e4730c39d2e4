"""Tests of rates: candidate against baseline, and candidate against a fixed limit.

A rate is the mean of a value that is 1 when a request was bad (an error, a wrong answer) and 0 otherwise, so larger is
always worse. Both tests feed two e-processes: `log_e_harm` grows when the candidate is worse than the margin allows,
`log_e_safe` when that is ruled out. Natural logarithms.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from components.analyze_canary.e_process import DifferenceBets, ProportionBets

_LIMIT_PRIOR = 4.0
"""Pseudo-observations of the limit test; small, because it starts from a single proportion (ADR 0004, section 5)."""


class RateTest:
    """Tests whether the candidate's rate exceeds the baseline's by more than `margin`.

    The n-th bad/good value of the baseline is paired with the n-th of the candidate, in the order of completion; the
    surplus of one side waits for partners. A load spike hits both members of a pair and cancels in their difference:
    all that is assumed is that, given the past, the expected difference stays on one side of the margin.
    """

    def __init__(self, margin: float) -> None:
        self._harm = DifferenceBets(margin, "at-most")
        self._safe = DifferenceBets(margin, "at-least")
        self._waiting: tuple[deque[int], deque[int]] = (deque(), deque())

    def add(self, bad: float, *, candidate: bool) -> None:
        """Add one value, 1 for bad and 0 for good, and bet on every pair it completes."""
        self._waiting[candidate].append(int(bad))
        baseline, other = self._waiting
        while baseline and other:
            difference = other.popleft() - baseline.popleft()
            self._harm.update(difference)
            self._safe.update(difference)

    @property
    def log_e_harm(self) -> float:
        """Evidence against `difference <= margin`."""
        return self._harm.log_wealth

    @property
    def log_e_safe(self) -> float:
        """Evidence against `difference >= margin`."""
        return self._safe.log_wealth


class LimitTest:
    """Tests whether the candidate's rate exceeds an absolute limit; a first release has no baseline."""

    def __init__(self, limit: float) -> None:
        self._harm = ProportionBets(limit, "at-most", prior=_LIMIT_PRIOR)
        self._safe = ProportionBets(limit, "at-least", prior=_LIMIT_PRIOR)

    def add(self, bad: float, *, candidate: bool) -> None:
        """Add one value, 1 for bad and 0 for good; values of the other side are ignored."""
        if candidate:
            value = np.array([bool(bad)])
            self._harm.update(value)
            self._safe.update(value)

    @property
    def log_e_harm(self) -> float:
        """Evidence against `rate <= limit`."""
        return float(self._harm.log_wealth[0])

    @property
    def log_e_safe(self) -> float:
        """Evidence against `rate >= limit`."""
        return float(self._safe.log_wealth[0])
