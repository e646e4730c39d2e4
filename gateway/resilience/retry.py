"""Second tries: a budget over all requests of the process, and how long to wait before one.

The budget keeps retries a fixed share of first tries, so that an outage is not answered by a multiple of the traffic.
Source: finagle's RetryBudget; backoff with full jitter from M. Brooker, "Exponential Backoff And Jitter", AWS
Architecture Blog, 2015.
"""

from __future__ import annotations

import random
from typing import Final

from gateway.resilience.window import RollingWindow
from serving.contracts.resilience import Retry

WINDOW_SECONDS: Final = 10.0
"""What `budget_fraction` looks back on; the policy's documentation says so."""


class RetryBudget:
    """Counts first tries and retries of the last ten seconds; used from one thread."""

    __slots__ = ("_window",)

    def __init__(self) -> None:
        self._window = RollingWindow(WINDOW_SECONDS)

    def first_try(self, now: float) -> None:
        """Count a request's first try; `now` is monotonic seconds."""
        self._window.add_first(now)

    def take(self, policy: Retry, now: float) -> bool:
        """Take one retry out of the budget; False when it is used up."""
        window = self._window
        window.move(now)
        allowed = policy.budget_fraction * window.first + policy.min_retries_per_second * WINDOW_SECONDS
        if window.second + 1 > allowed:
            return False
        window.add_second(now)
        return True


def backoff_seconds(
    policy: Retry,
    tries: int,
    *,
    remaining_seconds: float,
    retry_after_seconds: float | None = None,
    rng: random.Random | None = None,
) -> float | None:
    """Return how long to wait before the next try, in seconds; None when there is no time left for it.

    Args:
        policy: Base and bound of the wait.
        tries: How many have failed, at least 1.
        remaining_seconds: Until the request's deadline.
        retry_after_seconds: What the endpoint that is to be tried again has asked for; None for another endpoint.
        rng: Where jitter comes from; None for the process's own.
    """
    bound = min(policy.backoff_ms * 2.0 ** (tries - 1), policy.max_backoff_ms) / 1e3
    wait = (rng or random).uniform(0.0, bound)
    if retry_after_seconds is not None:
        wait += retry_after_seconds  # jitter on top: never earlier than asked, and not all at the same moment
    return wait if wait < remaining_seconds else None
