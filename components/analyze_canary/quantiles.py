r"""Exact anytime-valid test of a ratio of two quantiles, without any assumption on the shape of the latencies.

Write `F` for a distribution function, `Q = inf {x : F(x) >= q}` for its quantile, `c` and `b` for the candidate and the
baseline, `r` for the largest allowed ratio, and `0 = e_0 < e_1 < ... < e_K < e_{K+1} = infinity` for a fixed grid.

No harm, `Q_c <= r Q_b`, puts `Q_c` into one cell `(e_k, e_{k+1}]` of the grid, and there

    P(X_c <= e_{k+1}) >= q    and    P(r X_b <= e_k) < q          because r Q_b >= Q_c > e_k.

So "no harm" is the union over cells of these hypotheses `H_k`. Each is an intersection of two bounds on a coin's bias;
bets on the candidate's coin and bets on the baseline's coin, each on its own observation when that arrives, multiply
into one wealth `E_k`. Harm is shown when every `E_k >= 1/alpha` (intersection-union: the true cell's wealth alone keeps
the error below alpha, so looking at many cells needs no correction). "Harm", `Q_c >= r Q_b`, is the same with the two
sides exchanged: with `r Q_b` in `(e_k, e_{k+1}]`, `P(r X_b <= e_{k+1}) >= q` and `P(X_c <= e_k) < q`.

Rounding: using the upper edge for one side and the lower edge for the other makes the claim hold for exactly `r`, at
every latency from 0 to infinity. What the grid costs is power: the test detects about as fast as one without a grid
would for a ratio nearer to `r` by one step (3 %), and latencies outside 0.1 ms to 120 s all look alike to it.

Assumption: given the past, each side's share of answers below every `e_k` stays on its side of `q`. It holds for
observations that are independent and alike, and it also holds while both sides drift together, as long as one edge
keeps separating them; for equal sides that is any common drift by less than a factor `r`.

Source:
    ADR 0004, section 3. Betting: Waudby-Smith and Ramdas 2024. Quantiles as coins: S. R. Howard and A. Ramdas,
    Sequential estimation of quantiles with applications to A/B testing and best-arm identification, Bernoulli 28
    (2022), 1704-1728. Intersection-union: R. L. Berger, Technometrics 24 (1982), 295-300.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from components.analyze_canary.e_process import ProportionBets

GRID_STEP: Final = 0.03
"""Relative distance of neighbouring edges."""

_LOWEST_MS: Final = 0.1
_HIGHEST_MS: Final = 120_000.0
_SMALLEST_POSITIVE_MS: Final = 1e-6
"""Stands for a latency that the clock measured as 0: cells are open at 0."""


def grid_edges() -> NDArray[np.float64]:
    """Return 0, a logarithmic grid from 0.1 ms to 120 s in steps of 3 %, and infinity; rising, in milliseconds."""
    steps = int(np.ceil(np.log(_HIGHEST_MS / _LOWEST_MS) / np.log1p(GRID_STEP)))
    return np.concatenate(([0.0], _LOWEST_MS * (1 + GRID_STEP) ** np.arange(steps + 1), [np.inf]))


class QuantileTest:
    """Tests whether the candidate's quantile exceeds `max_ratio` times the baseline's. Latencies in milliseconds."""

    def __init__(self, quantile: float, max_ratio: float) -> None:
        if max_ratio <= 0:
            raise ValueError(f"expected a positive ratio; got {max_ratio}")
        self._edges = grid_edges()
        cells = len(self._edges) - 1
        self._ratio = max_ratio
        self._candidate_slow = ProportionBets(quantile, "at-least", cells)
        self._baseline_fast = ProportionBets(quantile, "at-most", cells)
        self._candidate_fast = ProportionBets(quantile, "at-most", cells)
        self._baseline_slow = ProportionBets(quantile, "at-least", cells)

    def add(self, latency_ms: float, *, candidate: bool) -> None:
        """Add one latency and bet on it in every cell."""
        latency = max(latency_ms, _SMALLEST_POSITIVE_MS)
        below = (latency if candidate else self._ratio * latency) <= self._edges
        lower, upper = below[:-1], below[1:]
        if candidate:
            self._candidate_slow.update(upper)
            self._candidate_fast.update(lower)
        else:
            self._baseline_fast.update(lower)
            self._baseline_slow.update(upper)

    @property
    def log_e_harm(self) -> float:
        """Evidence against `Q_c <= r Q_b`: the smallest wealth of its cells."""
        return float(np.min(self._candidate_slow.log_wealth + self._baseline_fast.log_wealth))

    @property
    def log_e_safe(self) -> float:
        """Evidence against `Q_c >= r Q_b`: the smallest wealth of its cells."""
        return float(np.min(self._candidate_fast.log_wealth + self._baseline_slow.log_wealth))
