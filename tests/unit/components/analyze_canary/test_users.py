from collections import Counter
from itertools import islice

import pytest

from components.analyze_canary.users import Population, TrafficError
from serving.contracts.data_contract import DataRow, Message
from serving.contracts.release_spec import SimulatedTraffic

TRAFFIC = SimulatedTraffic(rate_per_second=20, users=50, streaming_fraction=0.7, multi_turn_fraction=0.4)


def row(name: str, turns: int) -> DataRow:
    messages = []
    for _ in range(turns):
        messages += [Message(role="user", content="q"), Message(role="assistant", content="a")]
    return DataRow(id=name, intent="fees", messages=tuple(messages[:-1]), answer="a.")


ROWS = [row("one", 1), row("another", 1), row("two", 2), row("three", 3)]


def test_the_seed_alone_decides_and_a_restart_goes_on_in_the_sequence():
    """A start at position 25 continues the same sequence, and another seed gives another one."""
    whole = list(islice(Population(ROWS, TRAFFIC).asks(), 60))
    assert list(islice(Population(ROWS, TRAFFIC).asks(25), 35)) == whole[25:]
    other = TRAFFIC.model_copy(update={"seed": 12})
    assert list(islice(Population(ROWS, other).asks(), 60)) != whole


def test_rate_shares_and_users_are_those_of_the_plan():
    """Over 2,000 requests the rate, the streamed and multi-turn shares and the number of users match the plan."""
    asks = list(islice(Population(ROWS, TRAFFIC).asks(), 2000))
    several = [ask for ask in asks if ask.row.id in {"two", "three"}]
    assert sum(ask.gap_seconds for ask in asks) / len(asks) == pytest.approx(1 / 20, rel=0.1)
    assert len(several) / len(asks) == pytest.approx(0.4, abs=0.04)
    assert sum(ask.stream for ask in asks) / len(asks) == pytest.approx(0.7, abs=0.04)
    assert len(Counter(ask.user for ask in asks)) == 50


@pytest.mark.parametrize(("rows", "fraction"), [([], 0.4), (ROWS[:2], 0.4), (ROWS[2:], 0.4), (ROWS[:2], 1.0)])
def test_missing_kinds_of_conversations_are_refused(rows, fraction):
    """A plan that asks for a kind of conversation that no row has is refused by its setting's name."""
    with pytest.raises(TrafficError, match="multi_turn_fraction"):
        Population(rows, TRAFFIC.model_copy(update={"multi_turn_fraction": fraction}))


@pytest.mark.parametrize(("rows", "fraction"), [(ROWS[:2], 0.0), (ROWS[2:], 1.0)])
def test_one_kind_is_enough_when_only_that_is_asked(rows, fraction):
    """With a fraction of 0 or 1, rows of the one kind suffice, and all of them are asked."""
    population = Population(rows, TRAFFIC.model_copy(update={"multi_turn_fraction": fraction}))
    assert {ask.row.id for ask in islice(population.asks(), 50)} == {one.id for one in rows}
