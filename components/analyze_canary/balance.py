"""Watches that the candidate's requests do not go missing.

Candidate and baseline have equal weights, so half of the judged requests should be the candidate's. A candidate that
hangs answers late or makes clients give up: what is left to judge would be its good requests only, and look safe. The
sample-ratio test holds the promotion back while the candidate's share is shown to be below 45 %.

Source:
    A. Fabijan et al., Diagnosing sample ratio mismatch in online controlled experiments, KDD 2019. The 5 points leave
    room for users who send unequal numbers of requests.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np

from components.analyze_canary.e_process import ProportionBets

SMALLEST_SHARE: Final = 0.45


class Balance:
    """Tests that at least `SMALLEST_SHARE` of the judged requests are the candidate's, at level `alpha`."""

    def __init__(self, alpha: float) -> None:
        self._threshold = math.log(1 / alpha)
        self._bets = ProportionBets(SMALLEST_SHARE, "at-least")

    def add(self, *, candidate: bool) -> None:
        """Add one judged request."""
        self._bets.update(np.array([candidate]))

    @property
    def lost(self) -> bool:
        """Requests of the candidate are missing; becomes False again when they turn up."""
        return bool(self._bets.log_wealth[0] >= self._threshold)
