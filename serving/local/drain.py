"""How an engine leaves: the gateway stops sending, its requests finish, it is asked to end, and killed if need be."""

from __future__ import annotations

from concurrent.futures import Executor, Future

from serving.engines.base import DRAIN_SECONDS
from serving.local.engine_backend import Backend
from serving.local.service_record import ServiceRecord

MIN_SETTLE_SECONDS = 0.5  # the gateway looks at its files ten times a second
SETTLE_SECONDS = 5.0  # longest wait for the gateway to have heard that a service leaves
DRAIN_WAIT_SECONDS = 30.0
KILL_AFTER_SECONDS = DRAIN_SECONDS + 5.0


class Drain:
    """One engine's leaving; `step` never waits. Times are the reconciler's clock."""

    def __init__(self, backend: Backend, executor: Executor, now: float) -> None:
        self.message = "leaving; finishing its requests"
        self._backend = backend
        self._executor = executor
        self._begun = now
        self._terminated: float | None = None
        self._in_flight: Future[int | None] | None = None

    @property
    def asked_to_end(self) -> bool:
        """Return whether there is no way back."""
        return self._terminated is not None

    def is_over(self, record: ServiceRecord, now: float) -> bool:
        """Return whether it has ended, or has had all the time that it gets."""
        late = self._terminated is not None and now - self._terminated > KILL_AFTER_SECONDS
        return late or not self._backend.alive(record)

    def step(self, record: ServiceRecord, now: float, *, gateway_knows: bool) -> None:
        """Ask it to end once its requests are done, or have had their time."""
        waited = now - self._begun
        if self.asked_to_end or waited < MIN_SETTLE_SECONDS or (waited < SETTLE_SECONDS and not gateway_knows):
            return
        if waited < DRAIN_WAIT_SECONDS and self._is_busy(record):
            return
        self._backend.terminate(record)
        self._terminated = now
        self.message = "leaving; ending"

    def _is_busy(self, record: ServiceRecord) -> bool:
        """Return whether requests are in flight; one that does not say has none."""
        if self._in_flight is None:
            self._in_flight = self._executor.submit(self._backend.in_flight, record)
        if not self._in_flight.done():
            return True
        count, self._in_flight = self._in_flight.result(), None
        return bool(count)
