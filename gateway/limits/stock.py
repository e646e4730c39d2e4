"""Stock: reservations made ahead for callers who are far from their limits, so that their requests wait for no answer.

What stands in stock is held in Redis as if its request were under way: no budget is overshot by it. All that is held of
one counter is a small part of what is left, and what nobody took for a moment is given back. Close to a limit there is
no stock: every request asks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from gateway.limits.plan import LimitPlan
from gateway.limits.reservation import Place, Reservation
from gateway.limits.shared import SharedCounters

PART: Final = 128
"""At most this part of what is left is held ahead: by a hundred processes still less than all of it."""

_MOST: Final = 64
"""More than a process answers in the time that a batch takes."""

_TIDY_SECONDS: Final = 1.0


class Shelf:
    """What is held ahead for one plan.

    Args:
        give_back: Ends a reservation that nobody took.
        sharers: Returns how many shelves hold of what this one holds of.

    Attributes:
        open: Whether anything may still be put on it.
        ready: Held in Redis, the newest last.
        coming: Asked for.
        target: How many `ready` and `coming` should be.
        room: The most that may be, by what Redis said last.
        seen: Requests since the last tidying.
        least: Fewest that were ready since then: so many were not needed.
        prompt_tokens: Largest estimate so far, what each is good for.
        output_tokens: As `prompt_tokens`.
    """

    __slots__ = (
        "_give_back", "_sharers", "coming", "least", "open", "output_tokens", "prompt_tokens", "ready", "room", "seen",
        "target",
    )  # fmt: skip

    def __init__(self, give_back: Callable[[Reservation], None], sharers: Callable[[], int]) -> None:
        self.open = True
        self.ready: list[Reservation] = []
        self.coming = 0
        self.target = 0
        self.room = 0
        self.seen = 0
        self.least = 0
        self.prompt_tokens = 0
        self.output_tokens = 0
        self._give_back = give_back
        self._sharers = sharers

    def arrived(self, reservation: Reservation) -> None:
        """Take in one that was asked for, or that could not be had."""
        self.coming -= 1
        if reservation.place is not Place.HELD:
            self.target = 0  # the limit is near, or Redis away
        elif self.open:
            self.ready.append(reservation)
            self.fit(reservation.spare)
        else:
            self._give_back(reservation)

    def wanted(self, reservation: Reservation) -> None:
        """Note what a request asks for, so that what is held ahead is good for the next of its kind."""
        self.seen += 1
        self.prompt_tokens = max(self.prompt_tokens, reservation.prompt_tokens)
        self.output_tokens = max(self.output_tokens, reservation.output_tokens)

    def fit(self, spare: float) -> None:
        """Hold no more than this shelf's part of what is left."""
        self.room = min(_MOST, int(spare) // (PART * self._sharers()))
        self.target = min(self.target, self.room)
        while len(self.ready) > self.room:
            self._give_back(self.ready.pop(0))

    def close(self) -> None:
        """Give everything back."""
        self.open = False
        for reservation in self.ready:
            self._give_back(reservation)
        self.ready = []


class Stock:
    """The shelves of all plans of this process.

    Args:
        shared: Where reservations are made.
    """

    def __init__(self, shared: SharedCounters) -> None:
        self._shared = shared
        self._shelves: dict[LimitPlan, Shelf] = {}
        self._holders: dict[bytes, int] = {}
        self._tidying: asyncio.TimerHandle | None = None

    def take(self, wanted: Reservation) -> Reservation | None:
        """Return a reservation that is good for what a request wants; None when it has to ask."""
        shelf = self._shelves.get(wanted.plan)
        if shelf is None:
            return None
        shelf.wanted(wanted)
        found: Reservation | None = None
        while found is None and shelf.ready:
            found = shelf.ready.pop()
            if found.tokens < wanted.tokens or found.nano < wanted.nano or found.epoch is not self._shared.epoch:
                self._give_back(found)
                found = None
        shelf.least = min(shelf.least, len(shelf.ready))
        if found is not None:
            found.body_bytes = wanted.body_bytes
            found.prompt_tokens, found.output_tokens = wanted.prompt_tokens, wanted.output_tokens
            self._order(wanted.plan, shelf)
        return found

    def granted(self, reservation: Reservation) -> None:
        """Learn from a request that had to ask: of one that does so again soon, more are held ahead."""
        plan = reservation.plan
        shelf = self._shelves.get(plan)
        if shelf is None:
            if reservation.spare >= PART:
                self._open(plan).wanted(reservation)
            return
        shelf.fit(reservation.spare)
        shelf.target = min(shelf.room, max(1, 2 * shelf.target))
        self._order(plan, shelf)

    def _open(self, plan: LimitPlan) -> Shelf:
        holders = self._holders
        keys = [counter.key for counter in plan.counters]
        for key in keys:
            holders[key] = holders.get(key, 0) + 1
        shelf = self._shelves[plan] = Shelf(self._give_back, lambda: max(holders.get(key, 1) for key in keys))
        if self._tidying is None:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY_SECONDS, self._tidy)
        return shelf

    def _close(self, plan: LimitPlan) -> None:
        self._shelves.pop(plan).close()
        for counter in plan.counters:
            self._holders[counter.key] -= 1
            if not self._holders[counter.key]:
                del self._holders[counter.key]

    def _order(self, plan: LimitPlan, shelf: Shelf) -> None:
        prompt, output = shelf.prompt_tokens, shelf.output_tokens
        for _ in range(shelf.target - len(shelf.ready) - shelf.coming):
            reservation = Reservation(plan, 0, prompt, output)
            reservation.nano = plan.nano(prompt, output)
            reservation.shelf = shelf
            shelf.coming += 1
            self._shared.reserve_ahead(reservation)

    def _give_back(self, reservation: Reservation) -> None:
        reservation.settled = True
        self._shared.settle(reservation, (0, 0, 0, 0), refund=True)

    def empty(self) -> None:
        """Give everything back."""
        if self._tidying is not None:
            self._tidying.cancel()
            self._tidying = None
        for plan in list(self._shelves):
            self._close(plan)

    def _tidy(self) -> None:
        """Give back what was not needed since the last time, and forget who asks no more."""
        for plan, shelf in list(self._shelves.items()):
            if not shelf.seen:
                self._close(plan)
                continue
            unneeded = min(shelf.least, len(shelf.ready))
            shelf.target = min(shelf.room, max(1, shelf.target - unneeded))
            for _ in range(unneeded):
                self._give_back(shelf.ready.pop(0))
            shelf.seen, shelf.least = 0, len(shelf.ready)
        self._tidying = None
        if self._shelves:
            self._tidying = asyncio.get_running_loop().call_later(_TIDY_SECONDS, self._tidy)
