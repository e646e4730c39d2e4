"""Admission in front of an engine that batches, in virtual time: what holds when far too much comes."""

from __future__ import annotations

import asyncio
from statistics import median

import pytest

from gateway.resilience.endpoint import EndpointState
from serving.contracts.authentication import Priority
from serving.contracts.resilience import Breaker, Overload
from tests.fakes.simulated_engine import Load, SimulatedEngine
from tests.fakes.virtual_time import run_virtual

BATCH = 16
CAPACITY = 17.5
"""Requests a second that the engine answers with its batch always full."""


class Run:
    def __init__(self, load: Load, engine: SimulatedEngine, state: EndpointState) -> None:
        self.load, self.engine, self.state = load, engine, state


def run(per_second: float, seconds: float, policy: Overload | None = None, **engine: float) -> Run:
    async def main() -> Run:
        state = EndpointState("m-1", "a:1", Breaker(), policy or Overload(), asyncio.get_running_loop().time)
        async with SimulatedEngine(max_batch=BATCH, **engine).running() as simulated:
            return Run(await Load(state, simulated, per_second, seconds).run(), simulated, state)

    return run_virtual(main)


@pytest.fixture(scope="module")
def best() -> Run:
    """The engine at its best: always as many requests as its batch holds, and none waiting inside."""
    return run(4 * CAPACITY, 40, Overload(initial_concurrency=BATCH, min_concurrency=BATCH, max_concurrency=BATCH))


@pytest.fixture(scope="module")
def idle() -> Run:
    return run(1.0, 60)


@pytest.fixture(scope="module")
def flooded() -> Run:
    return run(4 * CAPACITY, 40)


def test_at_four_times_the_capacity_nine_tenths_of_the_best_are_answered(best: Run, flooded: Run) -> None:
    """Answers within three seconds a second, with a limit that had to be found, against the ideal limit."""
    assert flooded.load.served_within(3.0) >= 0.9 * best.load.served_within(3.0)


def test_high_priority_hardly_notices(idle: Run, flooded: Run) -> None:
    """High priority takes at most 1.5 times what it takes on the idle engine (1.35 of that is the full batch's own
    pace), and none of it is shed."""
    quiet = median(time for times in idle.load.times.values() for time in times)
    assert median(flooded.load.times[Priority.HIGH]) <= 1.5 * quiet
    assert flooded.load.shed[Priority.HIGH] == 0


def test_low_priority_is_shed_first(flooded: Run) -> None:
    """Nearly all of low is shed, some of normal is served."""
    served = {priority: len(times) for priority, times in flooded.load.times.items()}
    assert served[Priority.LOW] < 0.1 * flooded.load.shed[Priority.LOW]
    assert served[Priority.NORMAL] > 0.15 * (served[Priority.NORMAL] + flooded.load.shed[Priority.NORMAL])


def test_nothing_piles_up_inside_the_engine(flooded: Run) -> None:
    """The limit finds the batch: never as many wait inside as the batch holds, and the limit ends near it."""
    assert flooded.engine.most_waiting < BATCH
    assert 0.7 * BATCH <= flooded.state.limiter.limit <= 1.5 * BATCH


def test_the_limit_does_not_creep_up_while_overload_lasts() -> None:
    """After ten minutes of overload, several windows of the best, the limit is still about the batch."""
    long = run(2 * CAPACITY, 600)
    assert long.state.limiter.limit <= 1.5 * BATCH
    assert median(long.load.firsts[Priority.HIGH][-200:]) < 0.6


def test_a_limit_far_too_high_comes_down() -> None:
    """Begun at 300, the limit is near the batch within forty seconds."""
    high = run(4 * CAPACITY, 40, Overload(initial_concurrency=300))
    assert high.state.limiter.limit <= 1.6 * BATCH


def test_below_the_capacity_nothing_is_shed(idle: Run) -> None:
    """At two thirds of the capacity every request is answered."""
    assert sum(run(CAPACITY * 2 / 3, 60).load.shed.values()) == sum(idle.load.shed.values()) == 0


def test_long_generations_do_not_shrink_the_limit() -> None:
    """With answers five times as long, as many are under way as the batch holds."""

    async def main() -> float:
        state = EndpointState("m-1", "a:1", Breaker(), Overload(), asyncio.get_running_loop().time)
        async with SimulatedEngine(max_batch=BATCH).running() as engine:
            await Load(state, engine, 8.0, 90, tokens=(100, 300)).run()
        return state.limiter.limit

    assert run_virtual(main) >= 0.9 * BATCH
