import numpy as np
import pytest
from scipy import stats

from components.analyze_canary.proof.competitors import MIN_SAMPLES, DifferenceOfMeans, MannWhitney, Threshold


def feed(method, baseline, candidate):
    for one, other in zip(baseline, candidate, strict=True):
        method.add(float(one), candidate=False)
        method.add(float(other), candidate=True)
    return method


@pytest.mark.parametrize("digits", [6, 0])
def test_the_running_mann_whitney_test_equals_scipys(digits):
    """With and without ties; scipy ranks all values anew."""
    random = np.random.default_rng(1)
    baseline, candidate = random.normal(0, 2, 80).round(digits), random.normal(0.5, 2, 80).round(digits)
    expected = stats.mannwhitneyu(
        candidate, baseline, alternative="greater", method="asymptotic", use_continuity=False
    ).pvalue
    z = feed(MannWhitney(0.05), baseline, candidate).z
    assert stats.norm.sf(z) == pytest.approx(expected)
    swapped = feed(MannWhitney(0.05), candidate, baseline).z
    assert swapped == pytest.approx(-z)


def test_a_ratio_moves_the_candidates_values():
    """Values that are twice as large are equal under a ratio of 2, and alarm without one."""
    values = np.arange(1.0, 101.0)
    assert feed(MannWhitney(0.05, ratio=2.0), values, 2 * values).z == pytest.approx(0)
    assert feed(MannWhitney(0.05), values, 2 * values).alarmed


@pytest.mark.parametrize(
    "method", [MannWhitney(0.05), DifferenceOfMeans(0.05, margin=0.1), Threshold(window=50, margin=0.1)]
)
def test_nobody_speaks_on_too_few_values(method):
    """One value short of the minimum no method alarms; with it, each of them does."""
    feed(method, [0] * (MIN_SAMPLES - 1), [1] * (MIN_SAMPLES - 1))
    assert not method.alarmed
    feed(method, [0], [1])
    assert method.alarmed


def test_values_that_are_all_equal_alarm_nobody():
    """Sixty equal values on both sides alarm no method."""
    for method in (MannWhitney(0.05), DifferenceOfMeans(0.05, margin=0.0), Threshold(window=50, ratio=1.5)):
        assert not feed(method, [1] * 60, [1] * 60).alarmed


def test_a_threshold_forgets_what_left_its_window():
    """A threshold that alarmed is quiet again once equal values fill its window."""
    rule = feed(Threshold(window=50, ratio=1.5), [10] * 50, [30] * 50)
    assert rule.alarmed
    assert not feed(rule, [10] * 50, [10] * 50).alarmed
