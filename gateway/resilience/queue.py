"""Who waits for an endpoint: three classes, bounded, and the newest first once waiting has become a standing state.

- A higher class always goes first, and when the line is full it takes the place of the oldest of the lowest class.
- Within a class it is first come, first served, until the line has not been empty for a second. Then the newest goes
  first: in order of arrival everybody would wait just short of the deadline, and many would be served for nothing.

Source: adaptive LIFO, B. Maurer, "Fail at Scale", ACM Queue 2015.
"""

from __future__ import annotations

import asyncio
import math
from collections import OrderedDict
from typing import Final

from gateway.errors import OverloadedError
from serving.contracts.authentication import Priority

STANDING_SECONDS: Final = 1.0
"""Bursts drain sooner: an engine's batch turns over several times in it."""

_MAX_RETRY_AFTER_SECONDS: Final = 60

_LANE: Final = {Priority.HIGH: 0, Priority.NORMAL: 1, Priority.LOW: 2}

_PACE_WEIGHT: Final = 0.1
"""Share of the newest interval in the mean between two departures: the last ten count."""


class Waiter:
    """One request that waits. `entered` is above 0 once it has been let in."""

    __slots__ = ("entered", "future", "lane", "tokens")

    def __init__(self, priority: Priority, tokens: int, future: asyncio.Future[None]) -> None:
        self.lane = _LANE[priority]
        self.tokens = tokens
        self.future = future
        self.entered = 0.0


class WaitingLine:
    """The line in front of one endpoint; used from one thread, times are monotonic seconds."""

    __slots__ = ("_interval", "_lanes", "_last_departure", "_standing_since", "size")

    def __init__(self) -> None:
        self.size = 0
        self._lanes: tuple[OrderedDict[Waiter, None], ...] = (OrderedDict(), OrderedDict(), OrderedDict())
        self._standing_since = 0.0
        self._last_departure = 0.0
        self._interval = 0.0

    def join(self, waiter: Waiter, *, max_size: int, now: float) -> None:
        """Take a waiter in, if need be in the place of one of a lower class, whose future then gets the refusal.

        Raises:
            OverloadedError: The line is full of its own class and higher ones.
        """
        if self.size >= max_size:
            lowest = next((lane for lane in (2, 1) if lane > waiter.lane and self._lanes[lane]), None)
            if lowest is None:
                raise self.refusal("the line is full")
            self._refuse_oldest(self._lanes[lowest], "a request of higher priority took its place")
        if self.size == 0:
            self._standing_since = self._last_departure = now
        self._lanes[waiter.lane][waiter] = None
        self.size += 1

    def next(self, now: float) -> Waiter | None:
        """Take the one whose turn it is out of the line; None when nobody waits."""
        newest_first = now - self._standing_since > STANDING_SECONDS
        for lane in self._lanes:
            if lane:
                waiter, _ = lane.popitem(last=newest_first)
                self.size -= 1
                self._interval += (now - self._last_departure - self._interval) * _PACE_WEIGHT
                self._last_departure = now
                return waiter
        return None

    def leave(self, waiter: Waiter) -> None:
        """Take one out whose time is over or whose client has gone; nothing happens if it has left already."""
        lane = self._lanes[waiter.lane]
        if waiter in lane:
            del lane[waiter]
            self.size -= 1

    def dismiss(self, why: str) -> None:
        """Refuse everybody, so that they may try elsewhere."""
        for lane in self._lanes:
            while lane:
                self._refuse_oldest(lane, why)

    def _refuse_oldest(self, lane: OrderedDict[Waiter, None], why: str) -> None:
        waiter, _ = lane.popitem(last=False)
        self.size -= 1
        if not waiter.future.done():
            waiter.future.set_exception(self.refusal(why))

    def refusal(self, why: str) -> OverloadedError:
        """Return the error that says when to come back: about when those who wait will have been served."""
        seconds = min(max(1, math.ceil(self.size * self._interval)), _MAX_RETRY_AFTER_SECONDS)
        return OverloadedError(
            f"expected room for the request; there is too much to do ({why}): try again in {seconds} s",
            retry_after_seconds=seconds,
        )
