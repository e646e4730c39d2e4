import pytest
from hypothesis import given
from hypothesis import strategies as st

from components.analyze_canary.trail import MAX_POINTS, Trail
from serving.contracts.canary_verdict import EvidencePoint


def point(number: int) -> EvidencePoint:
    return EvidencePoint(candidate_requests=number, weight_percent=5, log10_e_harm=0, log10_e_safe=0)


def test_no_points_are_an_empty_trail():
    """A trail to which nothing was added has no points."""
    assert Trail().points() == ()


@pytest.mark.parametrize("count", [1, 2, 199, 200, 201, 5000])
def test_a_trail_is_short_in_order_and_keeps_its_ends(count):
    """However many points come, at most the maximum stay, in order, with the first and the last among them."""
    trail = Trail()
    for number in range(count):
        trail.add(point(number))
    numbers = [one.candidate_requests for one in trail.points()]
    assert len(numbers) <= MAX_POINTS
    assert numbers == sorted(set(numbers))
    assert (numbers[0], numbers[-1]) == (0, count - 1)


@given(st.integers(400, 2000))
def test_a_long_trail_keeps_at_least_half_its_points(count):
    """Thinning out never leaves fewer than half of the points that a trail may hold."""
    trail = Trail()
    for number in range(count):
        trail.add(point(number))
    assert len(trail.points()) >= MAX_POINTS // 2
