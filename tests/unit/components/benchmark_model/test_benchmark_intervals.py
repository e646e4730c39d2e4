"""Intervals agree with published or independently computed values."""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
import pytest
from scipy.optimize import minimize_scalar

from components.benchmark_model import intervals


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),  # Newcombe, Statistics in Medicine 17 (1998) 857-872, table I, method 3
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        (29, 29, 1 - 0.1170, 1.0),
    ],
)
def test_exact_match_has_wilsons_interval(right: int, n: int, low: float, high: float) -> None:
    """The published intervals come out to four digits, also when all rows are right or wrong."""
    estimate = intervals.exact_match([True] * right + [False] * (n - right), 0.95)
    assert (estimate.value, estimate.n) == (right / n, n)
    assert (estimate.low, estimate.high) == (pytest.approx(low, abs=6e-5), pytest.approx(high, abs=6e-5))


def pairs(lost: int, gained: int, n: int) -> tuple[list[bool], list[bool]]:
    stable = [True] * lost + [False] * gained + [True] * (n - lost - gained)
    candidate = [False] * lost + [True] * gained + [True] * (n - lost - gained)
    return stable, candidate


@pytest.mark.parametrize(("lost", "gained", "n"), [(0, 0, 300), (1, 0, 300), (5, 3, 300), (8, 8, 300), (40, 2, 44)])
def test_loss_bounds_are_where_the_score_test_turns(lost: int, gained: int, n: int) -> None:
    """At each bound, the score under the numerically constrained maximum likelihood equals the normal quantile."""
    estimate = intervals.exact_match_loss(*pairs(lost, gained, n), 0.95)
    z = NormalDist().inv_cdf(0.95)
    assert estimate.value == pytest.approx((lost - gained) / n)
    assert score(lost, gained, n, estimate.low) == pytest.approx(z, abs=1e-3)
    assert score(lost, gained, n, estimate.high) == pytest.approx(-z, abs=1e-3)


def score(lost: int, gained: int, n: int, delta: float) -> float:
    """Score statistic with the nuisance share found by a general-purpose optimizer."""

    def negative_loglikelihood(share: float) -> float:
        cells = [(lost, share + delta), (gained, share), (n - lost - gained, 1 - 2 * share - delta)]
        return -sum(count * math.log(max(probability, 1e-300)) for count, probability in cells if count)

    low, high = max(0.0, -delta), (1 - delta) / 2
    share = minimize_scalar(negative_loglikelihood, bounds=(low, high), method="bounded", options={"xatol": 1e-12}).x
    return (lost - gained - n * delta) / math.sqrt(n * (2 * share + delta * (1 - delta)))


def test_identical_predictions_leave_a_known_width() -> None:
    """Without a disagreement the bound is z^2 / (n + z^2), so 300 rows can pass a margin of one point."""
    z = NormalDist().inv_cdf(0.95)
    estimate = intervals.exact_match_loss([True] * 300, [True] * 300, 0.95)
    assert estimate.high == pytest.approx(z * z / (300 + z * z))
    assert estimate.high < 0.01


def test_loss_changes_its_sign_when_the_sides_are_swapped() -> None:
    """Stable minus candidate is not candidate minus stable."""
    stable, candidate = pairs(9, 2, 300)
    forward = intervals.exact_match_loss(stable, candidate, 0.95)
    backward = intervals.exact_match_loss(candidate, stable, 0.95)
    assert forward.value > 0 > backward.value
    assert forward.high == pytest.approx(-backward.low)


@pytest.mark.parametrize(("lost", "gained"), [(20, 0), (0, 20)])
def test_loss_holds_when_every_row_differs(lost: int, gained: int) -> None:
    """The interval ends at the largest possible loss or gain."""
    estimate = intervals.exact_match_loss(*pairs(lost, gained, 20), 0.95)
    assert -1 <= estimate.low <= estimate.value <= estimate.high <= 1


def test_loss_needs_the_same_rows() -> None:
    """Lists of different length are refused, never cut."""
    with pytest.raises(ValueError, match="shorter"):
        intervals.exact_match_loss([True, False], [True], 0.95)


def test_perplexity_is_per_token() -> None:
    """Rows weigh by their tokens; equal rows leave no width."""
    estimate = intervals.perplexity([-1.0, -3.0], [1, 3], 0.95)
    assert (estimate.value, estimate.low, estimate.high) == pytest.approx((math.e, math.e, math.e))


def test_perplexity_interval_is_near_the_delta_methods() -> None:
    """With many rows the bootstrap agrees with the normal approximation of the log perplexity."""
    rng = np.random.default_rng(1)
    nll = rng.gamma(2.0, 0.5, size=400)
    estimate = intervals.perplexity([-value for value in nll], [1] * 400, 0.95)
    half = 1.96 * nll.std(ddof=1) / math.sqrt(400)
    assert math.log(estimate.low) == pytest.approx(nll.mean() - half, abs=0.15 * half)
    assert math.log(estimate.high) == pytest.approx(nll.mean() + half, abs=0.15 * half)


def test_perplexity_ratio_is_candidate_over_reference_and_paired() -> None:
    """A constant factor between the sides is found without width, however much the rows differ; swapping inverts it."""
    reference = [-0.5, -4.0, -1.0, -9.0]
    candidate = [value - 0.2 for value in reference]
    forward = intervals.perplexity_ratio((reference, [1] * 4), (candidate, [1] * 4), 0.95)
    backward = intervals.perplexity_ratio((candidate, [1] * 4), (reference, [1] * 4), 0.95)
    assert (forward.low, forward.value, forward.high) == pytest.approx((math.exp(0.2),) * 3)
    assert backward.value == pytest.approx(math.exp(-0.2))


def test_perplexity_ratio_needs_the_same_rows() -> None:
    """Sides of different length are refused."""
    with pytest.raises(ValueError, match="same rows"):
        intervals.perplexity_ratio(([-1.0], [1]), ([-1.0, -2.0], [1, 1]), 0.95)
