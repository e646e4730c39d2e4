"""The two promises for overload, in virtual time: goodput keeps, and high priority hardly notices."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

import pytest

from gateway.resilience.endpoint import EndpointState
from serving.contracts.authentication import Priority
from serving.contracts.resilience import Breaker, Overload
from tests.fakes.simulated_engine import Load, SimulatedEngine
from tests.fakes.slot_engine import SlotEngine
from tests.fakes.virtual_time import run_virtual

IDLE = 0.1
SWEEP = (1.0, 2.0, 3.0, 4.0)


@dataclass(frozen=True)
class Case:
    """An engine, what it can answer a second, how long its clients wait, and which quantiles must keep.

    An engine that batches takes 1.35 times as long for a token when its batch is full: that leaves room for the median.
    """

    engine: Callable[[], SimulatedEngine | SlotEngine]
    capacity: float
    deadline_seconds: float
    seconds: float
    quantiles: tuple[float, ...] = (0.5, 0.99)


CASES = {
    "slots": Case(SlotEngine, SlotEngine().capacity, 2.0, 30),
    "fast-slots": Case(lambda: SlotEngine(seconds=0.1, first_seconds=0.02), 160.0, 1.0, 20),
    "many-slots": Case(lambda: SlotEngine(slots=64, seconds=2.0, first_seconds=0.2), 32.0, 6.0, 120),
    "batch": Case(SimulatedEngine, 17.5, 3.0, 60, quantiles=(0.5,)),
}


@pytest.fixture(scope="module", params=CASES)
def loads(request: pytest.FixtureRequest) -> tuple[Case, dict[float, Load]]:
    """What was answered at each multiple of the capacity, one after the other, with the policy's defaults."""
    case = CASES[request.param]

    async def sweep() -> dict[float, Load]:
        state = EndpointState("m-1", "a:1", Breaker(), Overload(), asyncio.get_running_loop().time)
        found = {}
        for multiple in (IDLE, *SWEEP):
            async with case.engine().running() as engine:
                per_second, deadline = multiple * case.capacity, case.deadline_seconds
                load = Load(state, engine, per_second, case.seconds, deadline_seconds=deadline)
                found[multiple] = await load.run()
        return found

    return case, run_virtual(sweep)


def test_goodput_at_four_times_the_capacity_is_nine_tenths_of_the_best(loads: tuple[Case, dict[float, Load]]) -> None:
    """Answers within the deadline a second at 4x are 90 % of the best of the sweep, and of the capacity."""
    case, found = loads
    goodput = {multiple: found[multiple].served_within(case.deadline_seconds) for multiple in SWEEP}
    assert goodput[4.0] >= 0.9 * max(goodput.values())
    assert goodput[4.0] >= 0.9 * case.capacity


def test_high_priority_takes_at_most_half_as_long_again_as_idle(loads: tuple[Case, dict[float, Load]]) -> None:
    """From 1x to 4x, high priority takes at most 1.5 times as long as on the idle engine, and is hardly ever shed."""
    case, found = loads
    quiet = [time for times in found[IDLE].times.values() for time in times]
    for multiple in SWEEP:
        high = found[multiple].times[Priority.HIGH]
        for quantile in case.quantiles:
            assert at(quantile, high) <= 1.5 * at(quantile, quiet), (multiple, quantile)
        assert found[multiple].shed[Priority.HIGH] <= 0.01 * len(high)


def at(quantile: float, times: list[float]) -> float:
    """Return a quantile of some times."""
    return sorted(times)[int(len(times) * quantile)]


@pytest.mark.parametrize("name", ["slots", "fast-slots"])
def test_whole_answers_are_kept_from_piling_up_inside_the_engine(name: str) -> None:
    """Where nothing is streamed, four times the capacity still gets nine tenths of it answered in time, and high
    priority takes at most 1.5 times as long as on the idle engine."""
    case = CASES[name]

    async def main() -> tuple[Load, Load]:
        state = EndpointState("m-1", "a:1", Breaker(), Overload(), asyncio.get_running_loop().time)
        async with case.engine().running() as engine:
            quiet, flood = (
                Load(state, engine, multiple * case.capacity, 90, deadline_seconds=3.0, streamed=False)
                for multiple in (IDLE, 4.0)
            )
            return await quiet.run(), await flood.run()

    quiet, flood = run_virtual(main)
    assert flood.served_within(case.deadline_seconds) >= 0.9 * case.capacity
    high = flood.times[Priority.HIGH]
    for quantile in case.quantiles:
        assert at(quantile, high) <= 1.5 * at(quantile, [time for times in quiet.times.values() for time in times])
