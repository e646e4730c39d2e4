"""Axes hold every value between round ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.build_report.axis import axis, nice_ticks


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, (0, 0.2, 0.4, 0.6, 0.8, 1)),
        (0, 97, (0, 20, 40, 60, 80, 100)),
        (-5, 12, (-5, 0, 5, 10, 15)),
        (0, 0, (-0.6, -0.4, -0.2, 0, 0.2, 0.4, 0.6)),
        (0.742, 0.944, (0.7, 0.75, 0.8, 0.85, 0.9, 0.95)),
    ],
)
def test_ticks_are_round(low: float, high: float, expected: tuple[float, ...]) -> None:
    """Steps are 1, 2, 2.5 or 5 times a power of ten."""
    assert nice_ticks(low, high) == pytest.approx(expected)


FIGURES = st.floats(min_value=-1e12, max_value=1e12).map(lambda value: round(value, 6))


@given(st.lists(FIGURES, min_size=1, max_size=20))
def test_every_value_lies_between_few_ticks(values: list[float]) -> None:
    """No point is drawn outside, and labels stay few enough to read."""
    made = axis(values, "x")
    assert made.low <= min(values) <= max(values) <= made.high
    assert 2 <= len(made.ticks) <= 9
    assert all(0 <= made.at(value) <= 1 for value in values)
    assert [made.at(tick) for tick in made.ticks] == sorted(made.at(tick) for tick in made.ticks)


def test_values_beyond_the_ends_stay_at_them() -> None:
    """A clipped value is drawn at the edge."""
    made = axis([0, 10], "x")
    assert (made.at(-5), made.at(0), made.at(5), made.at(99)) == (0, 0, 0.5, 1)


def test_nothing_to_draw_is_an_axis_from_zero_to_one() -> None:
    """Empty and non-finite values do not break an axis."""
    assert (axis([], "x").low, axis([math.nan, math.inf], "x").high) == (0, 1)


def test_logarithmic_axis_has_powers_of_ten() -> None:
    """Each power is equally far from the next; zero and below cannot stand on it."""
    made = axis([0, -1, 3, 4000], "x", log=True)
    assert made.ticks == (1, 10, 100, 1000, 10000)
    assert [round(made.at(tick), 3) for tick in made.ticks] == [0, 0.25, 0.5, 0.75, 1]
