"""Adaptive limit on requests under way at one endpoint, driven by queueing inside it.

An engine that batches answers slower tokens, but at once, until its batch (or its cache) is full; then requests wait in
it, and only their time to the first token shows that. So the limit follows time to the first token above the best for
that prompt length. How long generations last says nothing about the limit, and is not looked at.

The limit changes once a round: a number of first tokens of requests that entered after the last change, and after the
limit was used up anew: until then a queue is still forming. Of a round the smallest delay counts: a queue delays
everyone in it, while a prompt that was not cached or an unlucky step delays one. While there is next to no delay the
limit grows, if it was in use; with more it falls by as many as must have waited: slowly up to the target, at once above
it. What a busy engine takes without a queue (the rest of a step, others' prompts) is measured once a minute, and
when a delay is seen first: the limit steps back for a round. As far as the delay falls with it, it was a queue; what is
left is taken off from then on.

Source: smallest delay of an interval against a target: K. Nichols, V. Jacobson, "Controlling Queue Delay", ACM Queue
2012; growth by the distance from a delay target: RFC 6817 (LEDBAT), 2.4.2; how many wait: Little's law; stepping back
to measure anew: BBR's ProbeRTT, draft-ietf-ccwg-bbr.
"""

from __future__ import annotations

import sys
from typing import Final

from gateway.resilience.floor import PromptFloor
from gateway.resilience.trial import ROUND, Trial
from serving.contracts.resilience import Overload

_FIRST_GROWTH: Final = 0.5
"""Growth of a round until a delay is first seen: 16 to 256 in seven rounds."""

_GROWTH: Final = 0.05
"""Largest growth of a round from then on, and largest fall below the target."""

_LEAST_FALL: Final = 0.95
_MOST_FALL: Final = 0.25
"""Bounds of the factor of a round in which requests waited."""

_MAY_BE_NO_QUEUE: Final = 3.0
"""Multiple of the target up to which a delay may come from the engine's pace rather than from a queue."""

_REFUSED_FALL: Final = 0.7
"""Factor after a refusal, which does not say how many are too many; as CUBIC's (RFC 9438, 4.6)."""

_STEP_BACK: Final = 0.75
"""Empties a queue of a third of the limit; steadier than BBR's, for batches refill slowly."""

_MOST: Final = 0.5
_NEXT_TO_NONE: Final = 0.25
"""Shares of the requests by which it stepped back: a dozen first tokens tell no better."""

_MAX_ROUND: Final = 16
"""First tokens in a round: with one cached prompt in seven, nine rounds in ten hold one that shows the queue alone."""

_SETTLED: Final = 0.1
"""Share of the target at which growth ends."""

_TOO_MUCH: Final = 0.3
"""Share of the target at which a slow fall begins; between the two the limit stays, whatever the noise."""

_FAR_ABOVE: Final = 10.0
"""Multiple of the target from which a few first tokens make a round."""

_FEW: Final = 8

_SILENT_SECONDS: Final = 10.0
"""After this long without a first token, answers that are not streamed count instead."""

_BUSY: Final = 0.8
"""Share of the limit in use above which more would have been used."""


class ConcurrencyLimit:
    """The limit of one endpoint; used from one thread, times are monotonic seconds.

    Attributes:
        policy: Bounds and target; may be replaced at any time.
        limit: Requests that may be under way, never below 1.
    """

    __slots__ = (
        "_before", "_began", "_changed_at", "_count", "_filled", "_floor", "_growth", "_heard_at", "_least",
        "_least_running", "_measure_anew", "_most_running", "_no_queue", "_stepped_back", "_trial", "limit", "policy",
    )  # fmt: skip

    def __init__(self, policy: Overload) -> None:
        self.policy = policy
        self.limit = float(policy.initial_concurrency)
        self._floor: PromptFloor | None = None
        self._trial: Trial | None = None
        self._growth = _FIRST_GROWTH
        self._measure_anew = False
        self._no_queue: float | None = None
        self._stepped_back = 0.0
        self._before = 0.0
        self._filled = False
        self._heard_at = -_SILENT_SECONDS
        self._changed_at = 0.0
        self._count = 0
        self._began = 0.0
        self._least = float("inf")
        self._most_running = 0
        self._least_running = sys.maxsize

    def first_token(self, size: int, *, entered: float, running: int, now: float) -> None:
        """Take account of a first token.

        Args:
            size: Length of the prompt, in any unit that is always the same.
            entered: When its request entered.
            running: Requests under way.
            now: Monotonic seconds.
        """
        floor = self._floor
        if floor is None:
            floor = self._floor = PromptFloor()
        if floor.turn(now):
            self._measure_anew = True
        delay = floor.delay(size, now - entered)
        self._heard_at = now
        if entered < self._changed_at:
            return
        if not self._filled and running >= int(self.limit):
            self._filled = True
            self._start_round(now)
            return
        if not self._count:
            self._began = now
        self._count += 1
        self._least = min(self._least, delay)
        self._most_running = max(self._most_running, running)
        self._least_running = min(self._least_running, running)
        target = self.policy.target_queue_ms / 1e3
        few = self._least > target * _FAR_ABOVE
        if self._count >= min(_FEW if few else _MAX_ROUND, self.limit / 2):
            self._end_round(target, now)

    def whole_answer(self, *, entered: float, running: int, now: float) -> None:
        """Take account of an answer that was not streamed: its first token cannot be seen.

        Where nothing is streamed the limit grows while it is used up and that raises the number of answers a second.
        """
        if entered < self._changed_at or now - self._heard_at < _SILENT_SECONDS:
            return
        if running < int(self.limit) or not self._filled:
            self._filled = running >= int(self.limit)
            self._start_round(now)
            return
        if not self._count:
            self._began = now
        self._count += 1
        if self._count >= max(ROUND, 2 * self.limit):
            trial = self._trial = self._trial or Trial()
            self._set(trial.next(self.limit, self._pace(now), now), now)

    def refused(self, *, entered: float, running: int, now: float) -> None:
        """Take account of an endpoint that says itself that it has too much to do, or lets its first token wait."""
        if entered >= self._changed_at:
            self._growth = _GROWTH
            self._trial = None
            self._set(min(self.limit, running) * _REFUSED_FALL, now)

    def _end_round(self, target: float, now: float) -> None:
        delay = max(0.0, self._least - (self._no_queue or 0.0))
        if self._stepped_back and delay < target * _MAY_BE_NO_QUEUE:
            self._measured(now)
            return
        busy = self._most_running >= self.limit * _BUSY
        settled = target * _SETTLED
        unknown = self._no_queue is None and settled < delay < target * _MAY_BE_NO_QUEUE
        used_up = self._least_running >= int(self.limit)
        if (busy and unknown) or (used_up and self._measure_anew and delay < target):
            self._measure_anew = not used_up
            self._before = self._least
            self._set(self.limit * _STEP_BACK, now, stepped_back=self.limit)
        elif delay > target:
            self._growth = _GROWTH
            waiting = (delay - settled) * self._pace(now)  # Little's law
            used = min(self.limit, self._most_running)
            self._set(min(max(used - waiting, used * _MOST_FALL), used * _LEAST_FALL), now)
        elif busy and delay > target * _TOO_MUCH:
            self._set(self.limit - min((delay - settled) * self._pace(now), self.limit * _GROWTH), now)
        elif busy and delay < settled:
            self._set(self.limit + max(1.0, self.limit * self._growth) * (1.0 - delay / settled), now)
        else:
            self._start_round(self._changed_at)

    def _measured(self, now: float) -> None:
        """Take back the step but for the queue that it has shortened; where that was most of it, more may be left."""
        shortened = (self._before - self._least) * self._pace(now)  # Little's law
        step = self._stepped_back - self.limit
        self._no_queue = self._least if shortened < step * _MOST else None
        if shortened > step * _NEXT_TO_NONE:
            self._growth = _GROWTH
        self._set(min(max(self._stepped_back - shortened, self.limit), self._stepped_back * _LEAST_FALL), now)

    def _pace(self, now: float) -> float:
        """Return how many first tokens come a second, and too few rather than too many where they came all at once."""
        seconds = now - self._began
        return (self._count - 1) / seconds if seconds > 0 else self._count / (now - self._changed_at)

    def _set(self, limit: float, now: float, *, stepped_back: float = 0.0) -> None:
        self.limit = min(max(limit, self.policy.min_concurrency), self.policy.max_concurrency)
        self._stepped_back = stepped_back
        self._filled = False
        self._start_round(now)

    def _start_round(self, changed_at: float) -> None:
        self._changed_at = changed_at
        self._count = 0
        self._began = 0.0
        self._least = float("inf")
        self._most_running = 0
        self._least_running = sys.maxsize
