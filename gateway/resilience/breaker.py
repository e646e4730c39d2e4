"""Circuit breaker of one endpoint: open on its share of failures, closed again by answered probes.

closed → (share of failures) → open → (its time is over: probes may pass) → closed, or open for twice as long

What a request says counts only if it entered after the last change of state: answers and timeouts of requests that were
under way before neither close a breaker nor open it again. How many endpoints of a model may be left out at once is not
known here; `gateway.routing.attempts` keeps that cap.
"""

from __future__ import annotations

from gateway.resilience.window import RollingWindow
from serving.contracts.resilience import Breaker as BreakerPolicy


class Breaker:
    """State of one endpoint; used from one thread, times are monotonic seconds.

    Attributes:
        policy: May be replaced at any time.
        closed: Whether requests pass freely.
        opened_at: When it opened last.
    """

    __slots__ = (
        "_answered", "_changed_at", "_open_seconds", "_probe_again_at", "_probes_left", "_window", "_window_seconds",
        "closed", "open_until", "opened_at", "policy",
    )  # fmt: skip

    def __init__(self, policy: BreakerPolicy) -> None:
        self.policy = policy
        self.closed = True
        self.opened_at = 0.0
        self.open_until = 0.0
        self._changed_at = 0.0
        self._open_seconds = 0.0
        self._probe_again_at = 0.0
        self._probes_left = 0
        self._answered = 0
        self._window_seconds = policy.window_seconds
        self._window = RollingWindow(policy.window_seconds)

    def allows(self, now: float) -> bool:
        """Tell whether a request may enter: always while closed, probes only once its open time is over."""
        if self.closed:
            return True
        if now < self.open_until:
            return False
        return self._probes_left > 0 or now >= self._probe_again_at

    def entered(self, now: float) -> None:
        """Note that a request has entered while it is not closed; after the open time that is a probe."""
        if now < self.open_until:
            return  # let through by the cap on what may be left out
        if self._probes_left == 0:  # the last ones have not been heard of for as long as it was open
            self._allow_probes(now)
        self._probes_left -= 1

    def record(self, failed: bool | None, entered: float, now: float) -> None:
        """Take account of a request that has left.

        Args:
            failed: Whether the endpoint is to blame; None when nothing can be said, as when the client left.
            entered: When the request entered.
            now: Monotonic seconds.
        """
        if entered < self._changed_at:
            return
        if not self.closed:
            self._probed(failed, now)
        elif failed:
            self._failed(now)
        elif failed is False:
            self._window.add_first(now)

    def _failed(self, now: float) -> None:
        policy, window = self.policy, self._window
        if policy.window_seconds != self._window_seconds:
            self._window_seconds = policy.window_seconds
            window = self._window = RollingWindow(policy.window_seconds)
        window.add_second(now)
        requests = window.first + window.second
        if requests >= policy.min_requests and window.second >= policy.failure_fraction * requests:
            flapping = now - self._changed_at < policy.max_open_seconds and self._open_seconds > 0
            self._open(now, self._open_seconds * 2 if flapping else policy.open_seconds)

    def _probed(self, failed: bool | None, now: float) -> None:
        if failed is None:
            self._probes_left = min(self._probes_left + 1, self.policy.probes)
        elif not failed:
            self._answered += 1
            if self._answered >= self.policy.probes:
                self.closed = True
                self._changed_at = now
                self._window.clear()
        elif now >= self.open_until:
            self._open(now, self._open_seconds * 2)
        else:
            self._answered = 0

    def _open(self, now: float, seconds: float) -> None:
        self.closed = False
        self._answered = 0
        self._changed_at = self.opened_at = now
        self._open_seconds = min(seconds, self.policy.max_open_seconds)
        self.open_until = now + self._open_seconds
        self._allow_probes(self.open_until)

    def _allow_probes(self, now: float) -> None:
        self._probes_left = self.policy.probes
        self._probe_again_at = now + self._open_seconds
