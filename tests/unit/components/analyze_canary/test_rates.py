import math

import numpy as np
import pytest

from components.analyze_canary.rates import LimitTest, RateTest

ALARM = math.log(20)


def feed(test: RateTest, baseline: list[int], candidate: list[int]) -> RateTest:
    for bad in baseline:
        test.add(bad, candidate=False)
    for bad in candidate:
        test.add(bad, candidate=True)
    return test


def test_no_data_one_side_alone_and_waiting_values_are_no_evidence():
    """Values of one side alone leave the evidence for harm and for safety at exactly 0."""
    for baseline, candidate in (([], []), ([1, 0, 1], []), ([], [1] * 50)):
        test = feed(RateTest(0.05), baseline, candidate)
        assert (test.log_e_harm, test.log_e_safe) == (0, 0)


def test_sides_that_are_all_equal_become_safe_and_are_no_harm():
    """A hundred equal values a side, good or bad, show safety and never harm."""
    for value in (0, 1):
        test = feed(RateTest(0.05), [value] * 100, [value] * 100)
        assert test.log_e_safe >= ALARM
        assert test.log_e_harm <= 0


def test_a_worse_candidate_is_harm_and_the_same_inputs_swapped_are_safe():
    """A candidate with far more bad values shows harm alone; with the sides swapped it shows safety alone."""
    random = np.random.default_rng(3)
    good = (random.random(150) < 0.1).astype(int).tolist()
    bad = (random.random(150) < 0.5).astype(int).tolist()
    harmed, swapped = feed(RateTest(0.1), good, bad), feed(RateTest(0.1), bad, good)
    assert harmed.log_e_harm >= ALARM > harmed.log_e_safe
    assert swapped.log_e_safe >= ALARM > swapped.log_e_harm


def test_pairs_are_formed_in_order_however_the_sides_interleave():
    """The same values give the same evidence, whether the sides arrive apart or in turn."""
    baseline, candidate = [0, 1, 0, 0, 1, 0], [1, 1, 0, 1, 0, 0]
    apart = feed(RateTest(0.05), baseline, candidate)
    mixed = RateTest(0.05)
    for one, other in zip(baseline, candidate, strict=True):
        mixed.add(other, candidate=True)
        mixed.add(one, candidate=False)
    assert (apart.log_e_harm, apart.log_e_safe) == (mixed.log_e_harm, mixed.log_e_safe)


def test_a_shared_outage_cancels_in_the_pairs():
    """An outage that meets both sides alike is no evidence of harm."""
    test = feed(RateTest(0.05), [0] * 40 + [1] * 40, [0] * 40 + [1] * 40)
    assert test.log_e_harm <= 0


def test_a_limit_is_judged_on_the_candidate_alone():
    """A perfect candidate is within its limit, however badly the baseline does."""
    test = LimitTest(0.05)
    for _ in range(90):
        test.add(0, candidate=True)
        test.add(1, candidate=False)
    assert test.log_e_safe >= ALARM
    assert test.log_e_harm <= 0


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_a_rate_above_the_limit_is_harm(share):
    """A candidate whose rate lies above the limit shows harm and no safety."""
    test = LimitTest(0.05)
    for index in range(60):
        test.add(float(index * share % 1 < share), candidate=True)
    assert test.log_e_harm >= ALARM
    assert test.log_e_safe <= 0
