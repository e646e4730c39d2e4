from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable

import pytest

from gateway.errors import OverloadedError
from gateway.resilience.endpoint import EndpointRegistry, EndpointState, Result
from serving.contracts.authentication import Priority
from serving.contracts.resilience import Breaker, Overload
from tests.fakes.virtual_time import run_virtual

OVERLOAD = Overload(initial_concurrency=2, min_concurrency=1, max_queued=3, max_wait_seconds=5)
NEVER = float("inf")


def virtual(test: Callable[[EndpointState], Awaitable[None]]) -> None:
    async def main() -> None:
        await test(EndpointState("m-1", "a:1", Breaker(min_requests=1), OVERLOAD, asyncio.get_running_loop().time))

    run_virtual(main)


def entering(state: EndpointState) -> asyncio.Task[float]:
    return asyncio.get_running_loop().create_task(state.enter(Priority.NORMAL, 10, NEVER))


async def ended(task: asyncio.Task[float]) -> bool | type[BaseException]:
    """True when it was let in, else how it was refused."""
    try:
        return await task > 0
    except (OverloadedError, asyncio.CancelledError) as exc:
        return type(exc)


def test_it_counts_what_is_under_way() -> None:
    """Requests and their tokens are counted in and out, and the third of two has to wait."""

    async def main(state: EndpointState) -> None:
        first, second = state.try_enter(100), state.try_enter(50)
        assert first
        assert second
        assert (state.running, state.outstanding, state.full) == (2, 150, True)
        assert state.try_enter(1) == 0.0
        state.leave(first, 100, Result.ANSWERED)
        assert (state.running, state.outstanding, state.full) == (1, 50, False)

    virtual(main)


def test_whoever_waits_gets_the_place_that_becomes_free_and_nobody_overtakes() -> None:
    """A waiting request enters when one leaves; a newcomer may not take the place."""

    async def main(state: EndpointState) -> None:
        first, _ = state.try_enter(1), state.try_enter(1)
        task = entering(state)
        await asyncio.sleep(1)
        assert state.queued == 1
        state.leave(first, 1, Result.ANSWERED)
        assert state.try_enter(1) == 0.0
        assert await task == asyncio.get_running_loop().time()
        assert (state.running, state.queued) == (2, 0)

    virtual(main)


@pytest.mark.parametrize(("deadline", "waited"), [(NEVER, 5.0), (1002.0, 2.0), (999.0, 0.0)])
def test_waiting_ends_with_the_policys_bound_or_the_requests_deadline(deadline: float, waited: float) -> None:
    """After max_wait_seconds, or at the deadline if that is sooner, a request is refused, with a time to come back."""

    async def main(state: EndpointState) -> None:
        state.try_enter(1)
        state.try_enter(1)
        start = asyncio.get_running_loop().time()
        with pytest.raises(OverloadedError) as refused:
            await state.enter(Priority.NORMAL, 1, deadline)
        assert asyncio.get_running_loop().time() - start == pytest.approx(waited)
        assert refused.value.retry_after_seconds
        assert (state.queued, state.running) == (0, 2)

    virtual(main)


def test_a_client_that_leaves_the_line_leaves_nothing_behind() -> None:
    """Cancelled while it waits, or in the very moment in which it is let in, a request takes no place."""

    async def main(state: EndpointState) -> None:
        loop = asyncio.get_running_loop()
        entered = state.try_enter(1)
        state.try_enter(1)
        task = entering(state)
        await asyncio.sleep(0.1)
        task.cancel()
        assert await ended(task) is asyncio.CancelledError
        assert state.queued == 0
        task, other = entering(state), entering(state)
        await asyncio.sleep(0.1)
        state.leave(entered, 1, Result.ANSWERED)
        task.cancel()
        assert await ended(task) is asyncio.CancelledError
        assert await other == loop.time()  # the place went on to the next
        assert (state.running, state.outstanding) == (2, 11)

    virtual(main)


def test_a_breaker_that_opens_sends_those_who_wait_elsewhere() -> None:
    """When the breaker opens, and when the endpoint is drained, waiting requests are refused at once."""

    async def main(state: EndpointState) -> None:
        for drain in (False, True):
            entered = [state.try_enter(1), state.try_enter(1)]
            task = entering(state)
            await asyncio.sleep(0.1)
            if drain:
                state.drain(True)
            for one in entered:
                state.leave(one, 1, Result.ANSWERED if drain else Result.FAILED)
            assert await ended(task) is OverloadedError
            assert not state.usable(asyncio.get_running_loop().time())
            assert state.running == 0
            state.breaker.closed = True

    virtual(main)


def test_an_endpoint_that_asked_for_a_pause_gets_it() -> None:
    """After `hold` it is not usable until the time is over."""

    async def main(state: EndpointState) -> None:
        now = asyncio.get_running_loop().time()
        state.hold(3)
        assert not state.usable(now + 2.9)
        assert state.usable(now + 3)

    virtual(main)


def test_a_higher_limit_lets_waiting_requests_in_at_once() -> None:
    """When a first token raises the limit, those who wait enter without anybody leaving."""

    async def main(state: EndpointState) -> None:
        entered = state.try_enter(1)
        state.try_enter(1)
        first, second = entering(state), entering(state)
        await asyncio.sleep(0.1)
        state.first_token(entered, 100)
        state.leave(entered, 1, Result.ANSWERED)
        entered = await first
        await asyncio.sleep(0.1)
        assert (state.running, state.queued) == (2, 1)
        state.first_token(entered, 100)
        assert await ended(second) is True
        assert state.running == 3

    virtual(main)


def test_clients_that_leave_are_no_failures() -> None:
    """Any number of requests of which nothing is known leaves the breaker closed; refusals by the engine open it."""

    async def main(state: EndpointState) -> None:
        for result, closed in ((Result.UNKNOWN, True), (Result.ANSWERED, True), (Result.OVERLOADED, False)):
            for _ in range(20):
                entered = state.try_enter(1)
                state.leave(entered, 1, result)
            assert state.breaker.closed is closed
            if closed is False:
                assert state.limiter.limit < 2

    virtual(main)


def test_states_live_as_long_as_somebody_names_them() -> None:
    """The same service and address share a state with the newest policies; nothing is left of one that nobody holds."""
    registry = EndpointRegistry()
    state = registry.state("m-1", "a:1", Breaker(), OVERLOAD)
    policy = Breaker(min_requests=99)
    assert registry.state("m-1", "a:1", policy, OVERLOAD) is state
    assert state.breaker.policy is policy
    assert registry.state("m-1", "a:2", policy, OVERLOAD) is not state
    assert registry.of_service("m-1") == (state,)
    del state
    gc.collect()
    assert registry.of_service("m-1") == ()
