"""Keep one detached process running: start it, take over an earlier reconciler's, restart a dead or hung one."""

from __future__ import annotations

import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from pathlib import Path
from typing import Generic, TypeVar

from serving.local import log_files
from serving.local.errors import NodeError
from serving.local.processes import ProcessId, command_line, processes_of_home, spawn_detached
from serving.settings import NexusSettings

AnswerT = TypeVar("AnswerT")

_LOOK_SECONDS = 0.25
_STOP_SECONDS = 5.0
_HUNG_SECONDS = 20.0  # no answer for this long; a start takes 0.6 s at most, on a busy machine ten times that
_MAX_BACKOFF_SECONDS = 30.0
_STEADY_SECONDS = 30.0
_OBSTACLE_SECONDS = 2.0
_END_SECONDS = 60.0  # of one that was retired: what it has in flight takes 30 s at most


class Supervised(ABC, Generic[AnswerT]):
    """One process of a home. `step` is called every round and never waits.

    Args:
        settings: Settings of the home.
        log_path: Where its output goes.
        executor: Where it is asked how it is.

    Attributes:
        process: It, while it runs.
        answer: What it last said, None while it does not answer.
        asked_at: When that was asked (monotonic seconds).
        problem: Why it does not run or answer.
    """

    def __init__(self, settings: NexusSettings, log_path: Path, executor: Executor) -> None:
        self.settings = settings
        self.log_path = log_path
        self.process: ProcessId | None = None
        self.answer: AnswerT | None = None
        self.asked_at = 0.0
        self.problem: str | None = None
        self._executor = executor
        self._future: Future[AnswerT | None] | None = None
        self._look_at = self._try_at = self._started = self._answered = self._asking_at = 0.0
        self._failures = 0
        self._retired: dict[ProcessId, float] = {}

    @abstractmethod
    def argv(self) -> Sequence[str]:
        """Return the command; may make what the process needs.

        Raises:
            NodeError: It cannot be started; the message says what to do.
            OSError: A file that it needs cannot be made.
        """

    @abstractmethod
    def env(self) -> Mapping[str, str]:
        """Return its environment; raises as `argv`."""

    @abstractmethod
    def is_mine(self, command: Sequence[str]) -> bool:
        """Tell whether a running process of the home is one of this kind."""

    @abstractmethod
    def is_current(self, process: ProcessId) -> bool:
        """Tell whether such a process runs as it would be started now; raises as `argv`."""

    @abstractmethod
    def ask(self) -> AnswerT | None:
        """Ask it how it is, within seconds; called in another thread. None when it does not answer."""

    def check_start(self) -> None:
        """Raise NodeError when something is in the way of a start."""

    def step(self) -> None:
        """Start, adopt, look at or restart it, whichever is due."""
        now = time.monotonic()
        if self.process is None:
            if now >= self._try_at:
                self._start(now)
        elif not self.process.alive():
            self._lost(now, "it died; starting it again")
        else:
            self._look(now)

    def retire(self, process: ProcessId) -> None:
        """Ask a process to end in its own time and forget it: the next `step` starts another one beside it."""
        if process not in self._retired:
            process.send(signal.SIGTERM)
            self._retired[process] = time.monotonic() + _END_SECONDS
        if process == self.process:
            self.process = self._future = self.answer = None

    def look_after_retired(self) -> None:
        """Forget those that have ended, and kill one that takes too long; called every round."""
        for process, end in list(self._retired.items()):
            if not process.alive():
                del self._retired[process]
            elif time.monotonic() > end:
                process.send(signal.SIGKILL)

    def _start(self, now: float) -> None:
        try:
            self.process = self._running() or self._spawn()
        except (NodeError, OSError) as exc:
            self.problem = str(exc)
            self._try_at = now + _OBSTACLE_SECONDS
            return
        self._started = self._answered = self._look_at = now

    def _spawn(self) -> ProcessId:
        self.check_start()
        argv, env = self.argv(), self.env()
        log_files.start_fresh(self.log_path)
        return spawn_detached(argv, env, self.log_path)

    def _running(self) -> ProcessId | None:
        """Find the one that runs as it should; one that does not is ended."""
        for process in processes_of_home(self.settings.home):
            if process in self._retired or not self.is_mine(command_line(process.pid)):
                continue
            if self.is_current(process):
                return process
            process.send(signal.SIGTERM)
            if not process.wait(_STOP_SECONDS):
                process.send(signal.SIGKILL)
                process.wait(1.0)
        return None

    def _look(self, now: float) -> None:
        if self._future is None and now >= self._look_at:
            self._asking_at = now
            self._future = self._executor.submit(self.ask)
        if self._future is None or not self._future.done():
            return
        self.answer, self._future = self._future.result(), None
        self.asked_at = self._asking_at
        self._look_at = now + _LOOK_SECONDS
        if self.answer is not None:
            self._answered, self.problem = now, None
            if now - self._started > _STEADY_SECONDS:
                self._failures = 0
        elif now - self._answered > _HUNG_SECONDS and self.process is not None:
            self.process.send(signal.SIGKILL)
            self.process.wait(1.0)
            self._lost(now, f"it did not answer for {_HUNG_SECONDS:g} s; starting it again")

    def _lost(self, now: float, reason: str) -> None:
        self.process = self._future = self.answer = None
        self.problem = log_files.with_tail(reason, self.log_path)
        self._try_at = now + (min(_MAX_BACKOFF_SECONDS, 0.25 * 2.0**self._failures) if self._failures else 0.0)
        self._failures += 1
