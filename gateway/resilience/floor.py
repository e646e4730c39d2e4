"""Best time to the first token by prompt length: what an endpoint needs when nobody waits in it.

Sizes fall into buckets of powers of two. A bucket without samples borrows from the others: a longer prompt's best is
an upper bound for a shorter one, and a shorter one's best, times the ratio of lengths, for a longer one (prefill is at
most linear up to attention's share). So one sample of any size gives a bound for all, and a size that is first seen
under overload cannot pass its own delay off as its best.
"""

from __future__ import annotations

from typing import Final

WINDOW_SECONDS: Final = 60.0
"""How long a best counts at least; at most twice that. Engines get slower for good when their neighbours change."""


class PromptFloor:
    """Best times of the last one to two windows; sizes in any unit, times in seconds."""

    __slots__ = ("_best", "_current", "_previous", "_turn_at")

    def __init__(self) -> None:
        self._current: dict[int, float] = {}
        self._previous: dict[int, float] = {}
        self._best: dict[int, float] = {}
        self._turn_at = 0.0

    def delay(self, size: int, seconds: float) -> float:
        """Learn from a time to the first token and return how far it is above the best, in seconds."""
        bucket = size.bit_length()
        if seconds < self._current.get(bucket, float("inf")):
            self._current[bucket] = seconds
            self._best.clear()
        best = self._best.get(bucket)
        if best is None:
            best = self._best[bucket] = self._bound(bucket)
        return max(0.0, seconds - best)

    def turn(self, now: float) -> bool:
        """Begin a new window if it is time; True when bests were given up that must be measured again."""
        if now < self._turn_at:
            return False
        had = bool(self._turn_at)
        self._turn_at = now + WINDOW_SECONDS
        self._previous, self._current = self._current, {}
        self._best.clear()
        return had

    def _bound(self, bucket: int) -> float:
        return min(
            seconds * max(1.0, 2.0 ** (bucket - other))
            for known in (self._current, self._previous)
            for other, seconds in known.items()
        )
