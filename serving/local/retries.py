"""When a failed start is tried again: soon, later each time, and after a few failures in a row only now and then."""

from __future__ import annotations

from collections.abc import Callable

MAX_FAILURES = 3
RETRY_FAILED_SECONDS = 120.0


class Retries:
    """Failures of one service since it last was well."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._failures = 0
        self._try_at = 0.0

    @property
    def due(self) -> bool:
        """Return whether it may be tried now."""
        return self._clock() >= self._try_at

    def clear(self) -> None:
        """Forget all failures and the wait."""
        self._failures = 0
        self._try_at = 0.0

    def failed(self, *, final: bool, wait_seconds: float = RETRY_FAILED_SECONDS) -> bool:
        """Count a failure and set when to try again.

        Args:
            final: Trying again at once makes no sense.
            wait_seconds: When to try again after a final failure.

        Returns:
            Whether this was a final failure, or one too many.
        """
        self._failures += 1
        final = final or self._failures >= MAX_FAILURES
        self._try_at = self._clock() + (wait_seconds if final else 2.0 ** (self._failures - 1))
        return final
