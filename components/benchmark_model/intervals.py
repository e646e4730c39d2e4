"""Confidence intervals of the benchmark's quality figures. Pure functions on per-row outcomes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from serving.contracts.benchmark_report import Estimate

BOOTSTRAP_DRAWS = 2000
"""Percentile ends of 2,000 draws move by less than 2 % of the interval's width between seeds (ADR 0005)."""

_SEED = 20260301
_BISECTIONS = 60


def exact_match(outcomes: Sequence[bool], confidence: float) -> Estimate:
    """Estimate the share of right answers with Wilson's score interval.

    Args:
        outcomes: One flag a row, at least one.
        confidence: Two-sided level in (0, 1).

    Source:
        Wilson, JASA 22 (1927) 209-212; recommended by Brown, Cai, DasGupta, Statistical Science 16 (2001) 101-133.
    """
    n, right = len(outcomes), sum(outcomes)
    z = _z_two_sided(confidence)
    share = right / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return Estimate(value=share, low=max(0.0, centre - half), high=min(1.0, centre + half), n=n)


def exact_match_loss(stable: Sequence[bool], candidate: Sequence[bool], bound_confidence: float) -> Estimate:
    """Estimate stable minus candidate exact match on the same rows, with Tango's score interval.

    Unlike Wald's, the interval keeps its level with few disagreements, and has width when there are none.

    Args:
        stable: One flag a row, at least one.
        candidate: The same rows in the same order.
        bound_confidence: Level of each end alone, in (0.5, 1): 0.95 gives the two-sided 90 % interval, whose upper end
            is the bound of a one-sided non-inferiority test at 5 %.

    Source:
        Tango, Statistics in Medicine 17 (1998) 891-908, equations 10-15; compared with others by Newcombe, ibid.
        2635-2650.
    """
    pairs = list(zip(stable, candidate, strict=True))
    lost = sum(a and not b for a, b in pairs)
    gained = sum(b and not a for a, b in pairs)
    n, z = len(pairs), NormalDist().inv_cdf(bound_confidence)
    value = (lost - gained) / n
    low = _root(lambda delta: _tango_score(lost, gained, n, delta) - z, -1.0, value)
    high = _root(lambda delta: _tango_score(lost, gained, n, delta) + z, value, 1.0)
    return Estimate(value=value, low=low, high=high, n=n)


def perplexity(logprobs: Sequence[float], tokens: Sequence[int], confidence: float) -> Estimate:
    """Estimate perplexity a token, exp(-sum(logprobs) / sum(tokens)), with a bootstrap interval over rows.

    Args:
        logprobs: Natural-log likelihood of each row's answer, at least one row.
        tokens: Tokens of each answer, at least 1.
        confidence: Two-sided level in (0, 1).

    Source:
        Efron, Tibshirani, An Introduction to the Bootstrap (1993), chapter 13 (percentile interval).
    """
    nll, weights = -np.asarray(logprobs, dtype=float), np.asarray(tokens, dtype=float)
    draws = _draws(len(nll))
    values = np.exp(nll[draws].sum(axis=1) / weights[draws].sum(axis=1))
    return _percentile(math.exp(nll.sum() / weights.sum()), values, (1 - confidence) / 2, len(nll))


def perplexity_ratio(
    reference: tuple[Sequence[float], Sequence[int]],
    candidate: tuple[Sequence[float], Sequence[int]],
    bound_confidence: float,
) -> Estimate:
    """Estimate candidate over reference perplexity on the same rows, with a paired bootstrap interval over rows.

    Args:
        reference: Log likelihoods and token counts of each row, as in `perplexity`.
        candidate: As `reference`, the same rows in the same order; tokenizers may differ.
        bound_confidence: Level of each end alone, as in `exact_match_loss`.
    """
    (ref_logprobs, ref_tokens), (own_logprobs, own_tokens) = reference, candidate
    ref_nll, own_nll = -np.asarray(ref_logprobs, dtype=float), -np.asarray(own_logprobs, dtype=float)
    ref_weights, own_weights = np.asarray(ref_tokens, dtype=float), np.asarray(own_tokens, dtype=float)
    if not len(ref_nll) == len(own_nll) == len(ref_weights) == len(own_weights):
        raise ValueError(f"expected the same rows on both sides; got {len(ref_nll)} and {len(own_nll)}")
    draws = _draws(len(ref_nll))
    ref_means = ref_nll[draws].sum(axis=1) / ref_weights[draws].sum(axis=1)
    own_means = own_nll[draws].sum(axis=1) / own_weights[draws].sum(axis=1)
    value = math.exp(own_nll.sum() / own_weights.sum() - ref_nll.sum() / ref_weights.sum())
    return _percentile(value, np.exp(own_means - ref_means), 1 - bound_confidence, len(ref_nll))


def _draws(rows: int) -> NDArray[np.int64]:
    return np.random.default_rng(_SEED).integers(0, rows, size=(BOOTSTRAP_DRAWS, rows))


def _percentile(value: float, draws: NDArray[np.float64], tail: float, rows: int) -> Estimate:
    low, high = np.quantile(draws, [tail, 1 - tail])
    return Estimate(value=value, low=float(low), high=float(high), n=rows)


def _z_two_sided(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def _tango_score(lost: int, gained: int, n: int, delta: float) -> float:
    """Score statistic of the hypothesis that the true loss is delta; falls as delta rises."""
    a = 2 * n
    b = -lost - gained + (2 * n - lost + gained) * delta
    c = -gained * delta * (1 - delta)
    q = (math.sqrt(max(b * b - 4 * a * c, 0.0)) - b) / (2 * a)
    variance = n * (2 * q + delta * (1 - delta))
    surplus = lost - gained - n * delta
    if variance <= 0:
        return math.copysign(math.inf, surplus) if surplus else 0.0
    return surplus / math.sqrt(variance)


def _root(function: Callable[[float], float], low: float, high: float) -> float:
    """Find where a falling function crosses zero; an end is returned when it does not within the bracket."""
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        if function(middle) > 0:
            low = middle
        else:
            high = middle
    return (low + high) / 2
