from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.routing.split import pick, seed_of

USERS = [f"user-{number}".encode() for number in range(4000)]
FEW = USERS[:300]
TOLERANCE = 0.035  # four standard deviations of a share of 4,000 draws


@dataclass(frozen=True)
class Side:
    name: str
    weight: float

    @property
    def seed(self) -> bytes:
        return seed_of("model", "release", self.name)


def sides(**weights: float) -> list[Side]:
    return [Side(name, weight) for name, weight in weights.items() if weight > 0]


def assign(users: list[bytes] = USERS, /, **weights: float) -> list[str]:
    chosen = sides(**weights)
    return [pick(user, chosen).name for user in users]


WEIGHTS = st.integers(min_value=0, max_value=100)


def test_shares_follow_the_weights() -> None:
    """Over 4,000 users each side's share is within four standard deviations of its weight."""
    for weights in ({"a": 50, "b": 50}, {"a": 90, "b": 5, "c": 5}, {"a": 1, "b": 2, "c": 3, "d": 4}):
        shares = Counter(assign(**weights))
        for name, weight in weights.items():
            assert abs(shares[name] / len(USERS) - weight / sum(weights.values())) < TOLERANCE


def test_the_same_user_always_gets_the_same_side_in_any_order_of_sides() -> None:
    """Listing the sides in reverse order changes nobody's side."""
    chosen = sides(a=40, b=35, c=25)
    assert [pick(user, chosen) for user in USERS] == [pick(user, chosen[::-1]) for user in USERS]


def test_the_canary_ladder_moves_exactly_the_share_that_must_move() -> None:
    """Up the ladder users move only from stable to baseline or candidate, never back and never across."""
    before = assign(stable=100, baseline=0, candidate=0)
    for weight in (5, 25, 50):
        after = assign(stable=100 - 2 * weight, baseline=weight, candidate=weight)
        moves = {(a, b) for a, b in zip(before, after, strict=True) if a != b}
        assert moves <= {("stable", "baseline"), ("stable", "candidate")}
        before = after


def test_rolling_back_returns_every_user_to_the_side_they_came_from() -> None:
    """From 5 % up to 25 % and back, everyone has their first side again; those who move back go to stable only."""
    before = assign(stable=90, baseline=5, candidate=5)
    up = assign(stable=50, baseline=25, candidate=25)
    back = assign(stable=90, baseline=5, candidate=5)
    assert back == before
    moves = {(u, b) for u, b in zip(up, back, strict=True) if u != b}
    assert moves == {("baseline", "stable"), ("candidate", "stable")}


def test_leaving_a_side_out_moves_only_its_own_users() -> None:
    """Without one side, the users of the others stay where they are."""
    before, after = assign(a=50, b=30, c=20), assign(a=50, b=30)
    assert all(old == new for old, new in zip(before, after, strict=True) if old != "c")


@settings(max_examples=25, deadline=None)
@given(st.tuples(WEIGHTS, WEIGHTS, WEIGHTS), st.tuples(WEIGHTS, WEIGHTS, WEIGHTS))
def test_a_user_moves_only_towards_a_side_that_grew_in_proportion(
    old: tuple[int, int, int], new: tuple[int, int, int]
) -> None:
    """Whatever the weights, a user who moves goes to a side whose weight grew relative to the one they leave."""
    if not sum(old) or not sum(new):
        return
    before = assign(FEW, **dict(zip("abc", old, strict=True)))
    after = assign(FEW, **dict(zip("abc", new, strict=True)))
    weight = dict(zip("abc", zip(old, new, strict=True), strict=True))
    for a, b in set(zip(before, after, strict=True)):
        if a != b:  # new_b / new_a > old_b / old_a, without dividing by zero
            assert weight[b][1] * weight[a][0] > weight[b][0] * weight[a][1]


@settings(max_examples=25, deadline=None)
@given(st.integers(min_value=0, max_value=100), st.integers(min_value=0, max_value=100))
def test_between_two_sides_only_the_difference_moves(old: int, new: int) -> None:
    """Between two sides the share of users who move is the difference of the weights, within sampling error."""
    before, after = assign(FEW, a=100 - old, b=old), assign(FEW, a=100 - new, b=new)
    moved = sum(x != y for x, y in zip(before, after, strict=True)) / len(FEW)
    assert abs(moved - abs(new - old) / 100) < 2 * TOLERANCE * (len(USERS) / len(FEW)) ** 0.5
