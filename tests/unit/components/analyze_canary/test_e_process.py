import copy
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.analyze_canary.e_process import DifferenceBets, ProportionBets

DIFFERENCES = st.lists(st.sampled_from([-1, 0, 1]), max_size=60)
COINS = st.lists(st.booleans(), max_size=60)
MARGINS = st.floats(0, 0.9)
LIMITS = st.floats(0.01, 0.99)
SHARES = st.floats(0, 1)


def difference_factors(bets: DifferenceBets) -> list[float]:
    """By what the wealth would be multiplied for each next difference."""
    factors = []
    for value in (-1, 0, 1):
        tried = copy.deepcopy(bets)
        tried.update(value)
        factors.append(math.exp(tried.log_wealth - bets.log_wealth))
    return factors


def coin_factors(bets: ProportionBets) -> list[float]:
    factors = []
    for value in (False, True):
        tried = copy.deepcopy(bets)
        tried.update(np.array([value]))
        factors.append(math.exp(tried.log_wealth[0] - bets.log_wealth[0]))
    return factors


@given(DIFFERENCES, MARGINS, st.floats(0, 1), SHARES)
def test_a_difference_within_the_margin_never_makes_wealth_grow_on_average(history, margin, spread, share):
    """After any history, the expected factor is at most 1 for every distribution whose mean is at most the margin."""
    bets = DifferenceBets(margin, "at-most")
    for value in history:
        bets.update(value)
    mean = -spread + share * (spread + min(margin, spread))
    chances = [(spread - mean) / 2, 1 - spread, (spread + mean) / 2]
    assert sum(chances) == pytest.approx(1)
    assert sum(c * f for c, f in zip(chances, difference_factors(bets), strict=True)) <= 1 + 1e-9


@given(DIFFERENCES, MARGINS, SHARES)
def test_a_difference_beyond_the_margin_never_makes_safe_wealth_grow_on_average(history, margin, share):
    """After any history, the safe side's expected factor is at most 1 when the mean difference reaches the margin."""
    bets = DifferenceBets(margin, "at-least")
    for value in history:
        bets.update(value)
    mean = margin + share * (1 - margin)
    chances = [(1 - mean) / 2, 0, (1 + mean) / 2]
    assert sum(c * f for c, f in zip(chances, difference_factors(bets), strict=True)) <= 1 + 1e-9


@given(DIFFERENCES, MARGINS, st.sampled_from(["at-most", "at-least"]))
def test_no_difference_ever_ruins_the_gambler(history, margin, null):
    """After any history no next difference takes all the wealth, and its logarithm stays finite."""
    bets = DifferenceBets(margin, null)
    for value in history:
        bets.update(value)
    assert min(difference_factors(bets)) > 0
    assert math.isfinite(bets.log_wealth)


@given(COINS, LIMITS, SHARES)
def test_a_proportion_on_the_nulls_side_never_makes_wealth_grow_on_average(history, limit, share):
    """After any history, a coin whose chance obeys the null has an expected factor of at most 1 and ruins nobody."""
    for null, chance in (("at-most", share * limit), ("at-least", limit + share * (1 - limit))):
        bets = ProportionBets(limit, null)
        for value in history:
            bets.update(np.array([value]))
        miss, hit = coin_factors(bets)
        assert (1 - chance) * miss + chance * hit <= 1 + 1e-9
        assert min(miss, hit) > 0


@pytest.mark.parametrize("margin", [0.0, 0.05, 0.1])
def test_at_the_margin_a_test_that_is_looked_at_always_errs_in_at_most_alpha_of_the_runs(margin):
    """At the margin, a look after every pair alarms in at most 5 % of 200 runs, plus two standard errors."""
    random = np.random.default_rng(7)
    alarms = 0
    runs = 200
    for _ in range(runs):
        bets = DifferenceBets(margin, "at-most")
        baseline, candidate = random.random((2, 200)) < np.array([[0.1], [0.1 + margin]])
        for value in candidate.astype(int) - baseline.astype(int):
            bets.update(int(value))
            if bets.log_wealth >= math.log(20):
                alarms += 1
                break
    assert alarms <= 0.05 * runs + 2 * math.sqrt(0.05 * 0.95 * runs)


def test_evidence_grows_without_bound_when_the_null_is_wrong():
    """Three hundred differences against the null multiply the wealth of either bet more than a millionfold."""
    harm, safe = DifferenceBets(0.1, "at-most"), DifferenceBets(0.1, "at-least")
    for index in range(300):
        harm.update(1 if index % 2 else 0)
        safe.update(0)
    assert harm.log_wealth > math.log(1e6)
    assert safe.log_wealth > math.log(1e6)


def test_nothing_seen_is_no_evidence():
    """Bets that have seen nothing have a logarithmic wealth of exactly 0, each of them."""
    assert DifferenceBets(0.1, "at-most").log_wealth == 0
    assert ProportionBets(0.5, "at-most", 3).log_wealth.tolist() == [0, 0, 0]


@pytest.mark.parametrize("limit", [0.0, 1.0, -0.1, 1.1])
def test_a_limit_that_nothing_can_cross_is_refused(limit):
    """A limit that is not strictly between 0 and 1 is refused."""
    with pytest.raises(ValueError, match="strictly between 0 and 1"):
        ProportionBets(limit, "at-most")


@pytest.mark.parametrize("margin", [-0.1, 1.0])
def test_a_margin_that_is_none_is_refused(margin):
    """A negative margin, or one that no difference can exceed, is refused."""
    with pytest.raises(ValueError, match="margin"):
        DifferenceBets(margin, "at-most")
