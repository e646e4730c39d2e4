"""One service's way from document to answers: a state machine that is stepped by the reconciler.

    checking -> starting -> ready -> draining -> gone
        ^           |         |
        +-- waiting to try again, longer each time; Failed after a few in a row

Decisions only: everything it does goes through a `Backend`, everything slow through an executor, time through a clock.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any

from serving.contracts.node_status import Phase, ServiceStatus
from serving.local.drain import Drain
from serving.local.engine_backend import Backend
from serving.local.errors import EngineError, EngineExitedError, NeverReadyError, NodeError, WeightsError, exit_error
from serving.local.retries import RETRY_FAILED_SECONDS, Retries
from serving.local.service_record import ServiceRecord
from serving.runtimes.inference_service import ServedService

RETRY_WEIGHTS_SECONDS = 20.0  # a look at the files costs milliseconds, and copying them again mends it
STEADY_SECONDS = 60.0  # an engine that answered this long did not die of its start
PROBE_EVERY_SECONDS = 10.0
PROBES_BEFORE_RESTART = 3
DISK_FULL = os.strerror(errno.ENOSPC)


class ManagedService:
    """One service. `want` says what is desired, `step` does what can be done now without waiting."""

    def __init__(self, name: str, backend: Backend, executor: Executor, clock: Callable[[], float]) -> None:
        self.name = name
        self.phase = Phase.PENDING
        self.message = "seen in git"
        self.desired: ServedService | None = None
        self.record: ServiceRecord | None = None
        self._backend = backend
        self._executor = executor
        self._clock = clock
        self._future: Future[Any] | None = None
        self._preparing: ServedService | None = None
        self._prepared: ServedService | None = None
        self._log_tail: tuple[str, ...] = ()
        self._engine_failure: str | None = None
        self._retries = Retries(clock)
        self._started = 0.0
        self._ready_since = 0.0
        self._probe_at = 0.0
        self._bad_probes = 0
        self._drain: Drain | None = None

    @property
    def gone(self) -> bool:
        """Return whether nothing is wanted and nothing is left."""
        return self.desired is None and self.record is None and self._future is None

    @property
    def address(self) -> str | None:
        """Where it takes requests; None unless it answers and stays."""
        return self.record.url if self.record is not None and self.phase is Phase.READY else None

    @property
    def is_starting(self) -> bool:
        """Return whether a process of it is using the machine to start."""
        return self.phase is Phase.STARTING and self.record is not None and self.record.pid is not None

    def adopt(self, record: ServiceRecord) -> None:
        """Take over an engine that an earlier reconciler started; it is asked for an answer at once."""
        self.record = record
        self._started = self._ready_since = self._clock()
        ready = record.ready_at is not None and self._backend.alive(record)
        self.phase = Phase.READY if ready else Phase.STARTING
        self.message = "taken over from an earlier reconciler"

    def want(self, desired: ServedService | None) -> None:
        """Say what is desired; a changed document clears earlier failures."""
        if desired is not None and (self.desired is None or desired.spec_digest != self.desired.spec_digest):
            self.retry()
        self.desired = desired

    def retry(self) -> None:
        """Forget earlier failures and try again now."""
        self._retries.clear()
        self._engine_failure = None
        if self.phase is Phase.FAILED:
            self.phase, self.message, self._log_tail = Phase.PENDING, "trying again", ()

    def step(self, *, may_start: bool, gateway_knows: bool) -> None:
        """Do what can be done now.

        Args:
            may_start: The parent answers and the machine has room for one more start.
            gateway_knows: The gateway answers by the documents and endpoints of this round.
        """
        try:
            self._advance(may_start, gateway_knows)
        except WeightsError as exc:
            self._failed(str(exc), final=True, wait_seconds=RETRY_WEIGHTS_SECONDS)
        except NeverReadyError as exc:
            self._failed(str(exc), final=True, by_engine=True)
        except EngineExitedError as exc:
            self._failed(str(exc), final=False, by_engine=True)
        except NodeError as exc:
            self._failed(str(exc), final=False)

    def status(self) -> ServiceStatus:
        """Describe it."""
        record, desired = self.record, self.desired
        return ServiceStatus(
            name=self.name,
            spec_digest=record.spec_digest if record else desired.spec_digest if desired else "",
            phase=self.phase,
            url=record.url if record else None,
            pid=record.process.pid if record and record.process else None,
            message=self.message,
            log_tail=self._log_tail,
            engine_failure=self._engine_failure,
            wanted=desired is not None,
            not_applied=desired.not_applied if desired else (),
            started_at=record.started_at if record else None,
            ready_at=record.ready_at if record and self.phase is Phase.READY else None,
        )

    def _advance(self, may_start: bool, gateway_knows: bool) -> None:
        if self.record is None:
            if self.desired is not None:
                self._begin(self.desired, may_start)
            elif self._future is not None and self._future.done():
                self._future = None
            return
        if self._drain is None and not self._is_wanted(self.record):
            self._drain, self._future = Drain(self._backend, self._executor, self._clock()), None
            self.phase = Phase.DRAINING
        if self._drain is not None:
            self._draining(self.record, self._drain, gateway_knows)
        elif self.phase is Phase.READY:
            self._watch(self.record)
        else:
            self._starting(self.record, may_start)

    def _is_wanted(self, record: ServiceRecord) -> bool:
        return self.desired is not None and self.desired.spec_digest == record.spec_digest

    def _begin(self, desired: ServedService, may_start: bool) -> None:
        if not self._retries.due:
            return
        if self._prepared is not desired:
            if self._future is None:
                self._say("checking weights")
                self._preparing = desired
                self._future = self._executor.submit(self._backend.prepare, desired)
            if self._future.done():
                self._take()
                self._prepared = self._preparing
            return
        if not may_start:
            self._say("waiting for the engine parent, or for another engine to start")
            return
        self._prepared = None
        self.record = self._backend.plan(desired)
        self._started = self._clock()
        self.record = self._backend.start(desired, self.record)
        self.phase, self.message, self._log_tail = Phase.STARTING, "starting", ()

    def _starting(self, record: ServiceRecord, may_start: bool) -> None:
        assert self.desired is not None
        if record.pid is None:
            if record.process is None and not may_start:
                return
            record = self.record = self._backend.start(self.desired, record)
        if not self._backend.alive(record):
            raise exit_error(self._backend.exit_code(record))
        if self._future is None:
            self._future = self._executor.submit(self._backend.problem, record)
        if self._future.done():
            problem = self._take()
            if problem is None:
                self.record = self._backend.ready(record)
                self.phase, self.message, self._engine_failure = Phase.READY, "answers", None
                self._ready_since = self._clock()
                self._probe_at = self._clock() + PROBE_EVERY_SECONDS
                return
            self.message = f"starting; {problem}"[:300]
        limit = self.desired.engine.ready_timeout_seconds
        if self._clock() - self._started > limit:
            raise NeverReadyError(f"expected an answer within {limit:g} s; {self.message}")

    def _watch(self, record: ServiceRecord) -> None:
        if not self._backend.alive(record):
            if self._clock() - self._ready_since > STEADY_SECONDS:
                self._retries.clear()
            raise EngineError("it died; starting it again")
        if self._future is None and self._clock() >= self._probe_at:
            self._future = self._executor.submit(self._backend.problem, record)
        if self._future is None or not self._future.done():
            return
        problem = self._take()
        self._bad_probes = 0 if problem is None else self._bad_probes + 1
        self.message = "answers" if problem is None else f"does not answer ({self._bad_probes}): {problem}"[:300]
        self._probe_at = self._clock() + (PROBE_EVERY_SECONDS if problem is None else 1.0)
        if self._bad_probes >= PROBES_BEFORE_RESTART:
            raise EngineError(f"it stopped answering; starting it again: {problem}")

    def _draining(self, record: ServiceRecord, drain: Drain, gateway_knows: bool) -> None:
        if drain.is_over(record, self._clock()):
            self._backend.kill(record)
            self._forget()
        elif self._is_wanted(record) and record.ready_at is not None and not drain.asked_to_end:
            self._drain = None
            self.phase, self.message = Phase.READY, "wanted again"
        else:
            drain.step(record, self._clock(), gateway_knows=gateway_knows)
            self.message = drain.message

    def _say(self, message: str) -> None:
        """Describe the way to a start; a failure's reason stays until there is an engine again."""
        if self.phase is not Phase.FAILED:
            self.phase, self.message = Phase.PENDING, message

    def _take(self) -> Any:
        """Return the result of the work in the background, or raise its error."""
        assert self._future is not None
        future, self._future = self._future, None
        return future.result()

    def _failed(
        self, reason: str, *, final: bool, by_engine: bool = False, wait_seconds: float = RETRY_FAILED_SECONDS
    ) -> None:
        """End what runs, and decide when to try again. A full disk is never the engine's fault."""
        self._future = None
        if self.record is not None:
            self._log_tail = self._backend.tail(self.record)
            self._backend.kill(self.record)
        by_engine = by_engine and not any(DISK_FULL in line for line in self._log_tail)
        self._engine_failure = reason if by_engine else None
        self._forget()
        final = self._retries.failed(final=final, wait_seconds=wait_seconds)
        self.phase, self.message = Phase.FAILED if final else Phase.PENDING, reason

    def _forget(self) -> None:
        self.record = None
        self.phase, self.message = Phase.PENDING, "not started"
        self._prepared = None
        self._drain = None
        self._future = None
        self._bad_probes = 0
