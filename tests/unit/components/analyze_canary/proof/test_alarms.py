import numpy as np

from components.analyze_canary.proof.alarms import (
    FIXED,
    HORIZON,
    METHODS,
    SEQUENTIAL,
    compare,
    rate_methods,
    safe_rate,
)
from components.analyze_canary.proof.worlds import Failures, Latencies, bursts


def test_all_methods_see_the_same_traffic_and_great_harm_is_found_by_all():
    """Every method finds great harm; the fixed one at the horizon, the sequential one within 60 requests."""
    found = compare(Failures(0.1, 0.9), rate_methods, runs=2, seed=1)
    assert tuple(found) == METHODS
    assert {outcome.share for outcome in found.values()} == {1.0}
    assert found[FIXED].delay(0.5) == HORIZON
    assert found[SEQUENTIAL].delay(0.5) < 60


def test_a_method_without_alarms_has_no_delay():
    """A method that never alarms has a share of 0 and an infinite delay."""
    found = compare(Failures(0.0, 0.0), rate_methods, runs=2, seed=1)
    assert found[SEQUENTIAL].share == 0
    assert found[SEQUENTIAL].delay(0.5) == np.inf


def test_equal_sides_are_called_safe_and_worse_ones_are_not():
    """Equal failure rates are called safe in every run, and a much worse candidate in none."""
    assert compare(Failures(0.0, 0.0), safe_rate, runs=2, seed=1)[SEQUENTIAL].share == 1
    assert compare(Failures(0.1, 0.6), safe_rate, runs=2, seed=1)[SEQUENTIAL].share == 0


def test_worlds_follow_their_seed_and_their_ratio():
    """One seed draws the same latencies again, and their medians keep about the ratio that was asked for."""
    sides = np.arange(4000) % 2 == 1
    values = Latencies(ratio=2.0).draw(np.random.default_rng(1), sides)
    assert np.array_equal(values, Latencies(ratio=2.0).draw(np.random.default_rng(1), sides))
    assert 1.8 < np.median(values[sides]) / np.median(values[~sides]) < 2.2


def test_bursts_slow_down_some_requests_in_a_row():
    """A burst multiplies the latency of some requests, and leaves the others as they are."""
    slow = bursts(np.random.default_rng(1), 1000, 3.0)
    assert set(slow.tolist()) == {1.0, 3.0}
    assert 0.05 < np.mean(slow > 1) < 0.6
