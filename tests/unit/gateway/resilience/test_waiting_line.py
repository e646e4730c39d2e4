from __future__ import annotations

import asyncio

import pytest

from gateway.errors import OverloadedError
from gateway.resilience.queue import Waiter, WaitingLine
from serving.contracts.authentication import Priority

HIGH, NORMAL, LOW = Priority.HIGH, Priority.NORMAL, Priority.LOW


def waiter(priority: Priority) -> Waiter:
    return Waiter(priority, 1, asyncio.get_running_loop().create_future())


def joined(line: WaitingLine, priority: Priority, now: float = 0.0, max_size: int = 100) -> Waiter:
    one = waiter(priority)
    line.join(one, max_size=max_size, now=now)
    return one


async def test_a_higher_class_goes_first_and_within_one_it_is_first_come_first_served() -> None:
    """Low, normal, high, normal leave as high, first normal, second normal, low."""
    line = WaitingLine()
    low, first, high, second = (joined(line, priority) for priority in (LOW, NORMAL, HIGH, NORMAL))
    assert [line.next(0.5) for _ in range(5)] == [high, first, second, low, None]
    assert line.size == 0


async def test_the_newest_goes_first_once_the_line_has_not_been_empty_for_a_second() -> None:
    """After a second of waiting the order within a class turns round, and turns back when the line was empty."""
    line = WaitingLine()
    old, new = joined(line, NORMAL, 0.0), joined(line, NORMAL, 0.9)
    assert line.next(1.1) is new
    assert line.next(1.1) is old
    first = joined(line, NORMAL, 2.0)
    joined(line, NORMAL, 2.1)
    assert line.next(2.2) is first


async def test_a_full_line_makes_room_for_a_higher_class_only() -> None:
    """Full of low and normal, it refuses low and normal, and a high one takes the oldest low one's place."""
    line = WaitingLine()
    oldest, _, normal = joined(line, LOW), joined(line, LOW), joined(line, NORMAL)
    with pytest.raises(OverloadedError):
        joined(line, LOW, max_size=3)
    high = joined(line, HIGH, max_size=3)
    with pytest.raises(OverloadedError, match="higher priority"):
        await oldest.future
    assert (line.size, line.next(0.0), line.next(0.0)) == (3, high, normal)


async def test_when_no_low_one_waits_a_high_one_takes_a_normal_ones_place_and_never_a_high_ones() -> None:
    """Normal is shed for high; a line full of high ones refuses the next high one."""
    line = WaitingLine()
    normal = joined(line, NORMAL, max_size=1)
    joined(line, HIGH, max_size=1)
    assert normal.future.exception() is not None
    with pytest.raises(OverloadedError):
        joined(line, HIGH, max_size=1)


async def test_retry_after_is_the_time_in_which_those_who_wait_are_served() -> None:
    """With departures every half second and twenty in the line, a refusal says about ten seconds."""
    line = WaitingLine()
    for _ in range(60):
        joined(line, NORMAL, 0.0)
    now = 0.0
    for _ in range(40):
        now += 0.5
        line.next(now)
    assert line.refusal("x").retry_after_seconds in range(9, 12)


async def test_one_who_leaves_is_not_called() -> None:
    """A waiter that left, even twice, is gone, and everybody is refused when the line is dismissed."""
    line = WaitingLine()
    gone, stays = joined(line, NORMAL), joined(line, NORMAL)
    line.leave(gone)
    line.leave(gone)
    assert line.size == 1
    line.dismiss("its endpoint failed")
    assert line.size == 0
    assert isinstance(stays.future.exception(), OverloadedError)
