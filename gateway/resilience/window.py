"""Two counters over the last seconds, in a ring of buckets: constant memory, and constant work for each event."""

from __future__ import annotations

from typing import Final

BUCKETS: Final = 10
"""Steps in which the window moves on: its length is kept to a tenth."""


class RollingWindow:
    """Counts events of two kinds, `first` and `second`, over the last `seconds`.

    Args:
        seconds: Length of the window, above 0.
    """

    __slots__ = ("_firsts", "_per_second", "_seconds", "_slot", "first", "second")

    def __init__(self, seconds: float) -> None:
        self.first = 0
        self.second = 0
        self._per_second = BUCKETS / seconds
        self._slot = 0
        self._firsts: list[int] | None = None  # made with the first event: most of 10,000 endpoints never have one
        self._seconds: list[int] = []

    def add_first(self, now: float) -> None:
        """Count an event of the first kind; `now` is monotonic seconds."""
        slot = int(now * self._per_second)
        firsts = self._firsts
        if firsts is None or slot != self._slot:
            firsts = self._turn(slot)
        firsts[slot % BUCKETS] += 1
        self.first += 1

    def add_second(self, now: float) -> None:
        """Count an event of the second kind; `now` is monotonic seconds."""
        slot = int(now * self._per_second)
        self._turn(slot)
        self._seconds[slot % BUCKETS] += 1
        self.second += 1

    def move(self, now: float) -> None:
        """Forget what is too old."""
        self._turn(int(now * self._per_second))

    def clear(self) -> None:
        """Forget everything."""
        self.first = self.second = 0
        self._firsts = None

    def _turn(self, slot: int) -> list[int]:
        firsts = self._firsts
        if firsts is None or slot - self._slot >= BUCKETS:
            self.first = self.second = 0
            firsts = self._firsts = [0] * BUCKETS
            self._seconds = [0] * BUCKETS
        else:
            for old in range(self._slot + 1, slot + 1):
                at = old % BUCKETS
                self.first -= firsts[at]
                self.second -= self._seconds[at]
                firsts[at] = self._seconds[at] = 0
        self._slot = slot
        return firsts
