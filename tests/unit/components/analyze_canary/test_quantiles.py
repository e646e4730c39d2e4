import copy
import math
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from components.analyze_canary.quantiles import GRID_STEP, QuantileTest, grid_edges

ALARM = math.log(20)
EDGES = grid_edges()
VALUES = st.sampled_from([0.0, 0.5, 1.0, 1.03, 10.0, 10.2, 15.0, 15.3, 60.0, 90.0, 5000.0, 120_000.0, 500_000.0])
HISTORY = st.lists(st.tuples(VALUES, st.booleans()), max_size=12)
DISTRIBUTION = st.lists(st.tuples(VALUES, st.integers(1, 5)), min_size=1, max_size=5)


def quantile(distribution: list[tuple[float, int]], q: float) -> float:
    """inf {x : F(x) >= q}, latencies of 0 read as just above it."""
    total = sum(weight for _, weight in distribution)
    below = 0
    for value, weight in sorted(distribution):
        below += weight
        if below >= q * total - 1e-12:
            return max(value, 1e-6)
    raise AssertionError


def cell_of(value: float) -> int:
    return int(np.searchsorted(EDGES, value, "left")) - 1


def expected_factor(
    test: QuantileTest, distribution: list[tuple[float, int]], *, candidate: bool, name: str
) -> np.ndarray:
    """Expected factor of every cell's wealth for one more value of a side."""
    before = wealth(test, name)
    total = sum(weight for _, weight in distribution)
    expected = np.zeros_like(before)
    for value, weight in distribution:
        tried = copy.deepcopy(test)
        tried.add(value, candidate=candidate)
        expected += weight / total * np.exp(wealth(tried, name) - before)
    return expected


def wealth(test: QuantileTest, name: str) -> np.ndarray:
    if name == "harm":
        return test._candidate_slow.log_wealth + test._baseline_fast.log_wealth
    return test._candidate_fast.log_wealth + test._baseline_slow.log_wealth


@settings(max_examples=60, deadline=None)
@given(HISTORY, DISTRIBUTION, DISTRIBUTION, st.sampled_from([0.25, 0.5, 0.9]), st.sampled_from([1.0, 1.5, 3.0]))
def test_the_cell_of_the_truth_is_never_a_winning_bet(history, baseline, candidate, q, ratio):
    """The derivation, checked on discrete distributions with ties: whatever came before, and whichever side comes next,
    the wealth in the cell that the truth lies in does not grow on average under the hypothesis it stands for."""
    test = QuantileTest(q, ratio)
    for value, side in history:
        test.add(value, candidate=side)
    slow, allowed = quantile(candidate, q), ratio * quantile(baseline, q)
    for name, holds, place in (("harm", slow <= allowed, slow), ("safe", slow >= allowed, allowed)):
        if holds:
            for side, distribution in ((False, baseline), (True, candidate)):
                factor = expected_factor(test, distribution, candidate=side, name=name)[cell_of(place)]
                assert factor <= 1 + 1e-9


def test_the_grid_covers_every_latency_in_steps_of_three_percent():
    """The edges run from 0 to infinity, by one constant ratio from 0.1 ms to beyond two minutes."""
    assert EDGES[0] == 0
    assert EDGES[-1] == math.inf
    assert EDGES[1] == 0.1
    assert EDGES[-2] >= 120_000
    assert all(high / low == pytest.approx(1 + GRID_STEP) for low, high in pairwise(EDGES[1:-1]))


def run(baseline: list[float], candidate: list[float], *, q: float = 0.5, ratio: float = 1.5) -> QuantileTest:
    test = QuantileTest(q, ratio)
    for one, other in zip(baseline, candidate, strict=True):
        test.add(one, candidate=False)
        test.add(other, candidate=True)
    return test


def draw(median: float, count: int = 150, seed: int = 1) -> list[float]:
    random = np.random.default_rng(seed)
    return (median * np.exp(0.4 * random.standard_normal(count))).tolist()


def test_no_data_and_one_side_alone_are_no_evidence():
    """Without data the evidence is exactly 0, and huge latencies of the candidate alone do not raise it."""
    test = QuantileTest(0.5, 1.5)
    assert (test.log_e_harm, test.log_e_safe) == (0, 0)
    for value in draw(1e9):
        test.add(value, candidate=True)
    assert test.log_e_harm <= 1e-9
    assert test.log_e_safe <= 1e-9


def test_a_slow_candidate_is_harm_and_the_same_inputs_swapped_are_safe():
    """A candidate over three times as slow shows harm alone; with the sides swapped it shows safety alone."""
    fast, slow = draw(60, seed=1), draw(200, seed=2)
    harmed, swapped = run(fast, slow), run(slow, fast)
    assert harmed.log_e_harm >= ALARM > harmed.log_e_safe
    assert swapped.log_e_safe >= ALARM > swapped.log_e_harm


def test_equal_sides_are_safe():
    """Two samples of one distribution show safety and no harm."""
    test = run(draw(60, seed=3), draw(60, seed=4))
    assert test.log_e_safe >= ALARM
    assert test.log_e_harm <= 0


@pytest.mark.parametrize("value", [0.2, 1.0, 60.0, 100_000.0])
def test_latencies_that_are_all_equal_are_safe(value):
    """One constant latency on both sides shows safety, anywhere on the grid."""
    test = run([value] * 60, [value] * 60)
    assert test.log_e_safe >= ALARM
    assert test.log_e_harm <= 0


@pytest.mark.parametrize("value", [0.0, 1e7])
def test_latencies_outside_the_grid_show_nothing(value):
    """Latencies of 0 or beyond the grid's last finite edge reach neither alarm."""
    test = run([value] * 60, [value] * 60)
    assert test.log_e_safe < ALARM
    assert test.log_e_harm < ALARM


def test_a_slow_tail_is_seen_by_a_high_quantile_and_not_by_the_median():
    """A slow third of the answers is harm at the 0.9 quantile, and not at the median."""
    random = np.random.default_rng(5)
    tail = [10 * value if random.random() < 0.3 else value for value in draw(60, 300, seed=6)]
    baseline = draw(60, 300, seed=7)
    assert run(baseline, tail, q=0.9, ratio=2.0).log_e_harm >= ALARM
    assert run(baseline, tail, q=0.5, ratio=2.0).log_e_harm < ALARM


@pytest.mark.timeout(60)
def test_at_the_allowed_ratio_a_test_that_is_looked_at_always_errs_in_at_most_alpha_of_the_runs():
    """At exactly the allowed ratio, a look after every pair alarms in at most 4 of 40 seeded runs."""
    runs, alarms = 40, 0
    for seed in range(runs):
        test = QuantileTest(0.5, 1.5)
        pairs = zip(draw(60, 100, seed=seed), draw(90, 100, seed=1000 + seed), strict=True)
        worst = 0.0
        for one, other in pairs:
            test.add(one, candidate=False)
            test.add(other, candidate=True)
            worst = max(worst, test.log_e_harm, test.log_e_safe)
        alarms += worst >= ALARM
    assert alarms <= 4


def test_a_ratio_that_is_none_is_refused():
    """A ratio of 0 is refused, and the message asks for a positive one."""
    with pytest.raises(ValueError, match="positive ratio"):
        QuantileTest(0.5, 0)
