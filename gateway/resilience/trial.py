"""Whether more requests at once are answered faster: all that can be seen of an engine whose answers are not streamed.

The limit rises a step as long as that raises the number of answers a second: where it does not, requests wait inside
the engine. Then the limit goes back and rests, and after a while it is tried whether one step fewer does as well.

Source: hill climbing on throughput, as in J. Heiss, R. Wagner, "Adaptive Load Control in Transaction Processing
Systems", VLDB 1991 ("incremental steps").
"""

from __future__ import annotations

from typing import Final

ROUND: Final = 64
"""Least answers in a round: their pace is then known to an eighth, however different in length they are."""

_STEP: Final = 1.5

_PAYS: Final = 0.5
"""Part of a step in the limit by which the pace has to rise: half way between an engine with room and a full one."""

_REST_SECONDS: Final = 60.0


class Trial:
    """Finds the limit from which more requests only wait; times are monotonic seconds."""

    __slots__ = ("_limit", "_pace", "_rest_until")

    def __init__(self) -> None:
        self._limit = 0.0
        self._pace = 0.0
        self._rest_until = 0.0

    def next(self, limit: float, pace: float, now: float) -> float:
        """Return the limit to go on with.

        Args:
            limit: The limit, all of it in use for a round.
            pace: Answers a second in that round.
            now: Monotonic seconds.
        """
        if self._rest_until:
            if now < self._rest_until:
                return limit
            self._rest_until = self._pace = 0.0
            return limit / _STEP
        if self._pace and pace < self._pace * (1.0 + _PAYS * (limit / self._limit - 1.0)):
            self._rest_until = now + _REST_SECONDS
            return self._limit
        self._limit, self._pace = limit, pace
        return limit * _STEP
