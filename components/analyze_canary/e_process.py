"""Betting e-processes: wealth of a gambler who can only get rich when the null hypothesis is wrong.

Each process multiplies its wealth by `1 + bet * payoff` at every observation. The bet is chosen before the observation
is seen (from earlier ones alone), is never negative, and never stakes everything; under the null the expected payoff is
at most 0, so wealth is a non-negative supermartingale that starts at 1 and, by Ville's inequality, exceeds `1 / alpha`
at any time with probability at most `alpha`. Looking after every observation costs nothing.

Bets are Kelly bets against the running estimate of the payoff's distribution, with prior pseudo-observations at the
null's edge that keep early bets small (GRAPA). How good the estimate is decides only how fast wealth grows under the
alternative, never whether the test is valid.

Source:
    I. Waudby-Smith and A. Ramdas, Estimating means of bounded random variables by betting, Journal of the Royal
    Statistical Society B 86 (2024), 1-27 (capital process, GRAPA); J. Ville, Etude critique de la
    notion de collectif, 1939. ADR 0004.
"""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Null = Literal["at-most", "at-least"]
"""The null bounds a mean from above (`at-most`: wealth grows when the mean is larger) or from below."""

_PROPORTION_PRIOR = 16.0
"""Pseudo-observations at the limit; between 8 and 32 the detection delay hardly changes (ADR 0004, section 5)."""

_DIFFERENCE_PRIOR = (0.25, 1.0, 0.25)
"""Pseudo-counts of the differences -1, 0 and 1 (ADR 0004, section 5)."""

_MAX_STAKE = 0.99
"""Largest share of the wealth that one observation may cost."""


class ProportionBets:
    """Tests many proportions at once: element k has the null `mean of x_k <= limit` (or `>=`), x_k in {0, 1}.

    A Kelly bet on a coin equals the likelihood ratio of the estimated proportion to the limit, so wealth is a product
    of ratios that are set to 1 while the estimate lies on the null's side.
    """

    def __init__(self, limit: float, null: Null, size: int = 1, *, prior: float = _PROPORTION_PRIOR) -> None:
        if not 0 < limit < 1:
            raise ValueError(f"expected a limit strictly between 0 and 1; got {limit}")
        self._limit = limit
        self._upwards = null == "at-most"
        self._ones = np.full(size, prior * limit)
        self._total = prior
        self.log_wealth: NDArray[np.float64] = np.zeros(size)

    def update(self, ones: NDArray[np.bool_]) -> None:
        """Bet on one observation of every element, shape (size,), then learn from it."""
        estimate = self._ones / self._total
        estimate = np.maximum(estimate, self._limit) if self._upwards else np.minimum(estimate, self._limit)
        self.log_wealth += np.log(np.where(ones, estimate / self._limit, (1 - estimate) / (1 - self._limit)))
        self._ones += ones
        self._total += 1


class DifferenceBets:
    """Tests the mean of differences in {-1, 0, 1}: null `mean <= margin` (or `>=`)."""

    def __init__(self, margin: float, null: Null) -> None:
        if not 0 <= margin < 1:
            raise ValueError(f"expected a margin in [0, 1); got {margin}")
        sign = 1 if null == "at-most" else -1
        self._payoffs = tuple(sign * (value - margin) for value in (-1, 0, 1))
        self._counts = list(_DIFFERENCE_PRIOR)
        self.log_wealth = 0.0

    def update(self, difference: int) -> None:
        """Bet on one difference, then learn from it."""
        self.log_wealth += math.log1p(self._bet() * self._payoffs[difference + 1])
        self._counts[difference + 1] += 1

    def _bet(self) -> float:
        """Return the bet that maximises the expected log growth under the running frequencies.

        The derivative of `sum_j f_j log(1 + b y_j)` has the numerator `sum_j f_j y_j prod_{i != j} (1 + b y_i)`, a
        quadratic in b that falls through 0 once between 0 and the bet that would stake everything.
        """
        (f1, f2, f3), (y1, y2, y3) = self._counts, self._payoffs
        slope = f1 * y1 + f2 * y2 + f3 * y3
        if slope <= 0:
            return 0.0
        largest = _MAX_STAKE / -min(self._payoffs)
        linear = f1 * y1 * (y2 + y3) + f2 * y2 * (y1 + y3) + f3 * y3 * (y1 + y2)
        square = (f1 + f2 + f3) * y1 * y2 * y3
        if square == 0:
            return min(largest, -slope / linear) if linear < 0 else largest
        root = math.sqrt(max(0.0, linear * linear - 4 * square * slope))
        positive = [b for b in ((-linear - root) / (2 * square), (-linear + root) / (2 * square)) if b > 0]
        return min([largest, *positive])
